"""`#C`: what of the host may be run, by whom, and that nothing of it is left when nobody has it open."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.cmd import ARGS, MAX_LINE, CommandServer, HostCommand, Run
from cognu.devices.conversation import MAX_CONVERSATIONS, PEER_CONVERSATIONS
from cognu.errors import E, FileError
from cognu.files.limits import PEER_SHARE, Quota, Resource
from cognu.files.nstext import quote, split_words
from cognu.files.server import Caller, Fid
from cognu.files.tree import TreeFid
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from cognu.node.hosting import parse_commands
from cognu.world import Bounds, Piped
from cognu.world.real import RealSpawn
from fifo import Fifo
from joined import StoppedClock, bring, idle
from serving import Client, Somebody

PYTHON = (sys.executable, "-I", "-S", "-c")


class Hand(RealSpawn):
    """Starts what the test hands it, when it says so."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.started: list[tuple[Sequence[str], Mapping[str, str], str, bool]] = []
        self.made: list[Made] = []
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()
        self.refusal = refusal

    async def start_piped(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str, errors: bool = True, bounds: Bounds | None = None
    ) -> Piped:
        self.started.append((argv, env, cwd, errors))
        self.asked.set()
        await self.go.wait()
        if self.refusal is not None:
            raise self.refusal
        self.made.append(Made())
        return self.made[-1]


class Made:
    """A program that does what a test says."""

    pid = 4711

    def __init__(self) -> None:
        self.over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.did: list[str] = []
        self.niceness = 0

    async def read(self, count: int) -> bytes:
        return b"said"[:count]

    async def read_errors(self, count: int) -> bytes:
        return b"complained"[:count]

    async def write(self, data: bytes | memoryview) -> int:
        self.did.append(f"took {bytes(data).decode()}")
        return len(data)

    def close_input(self) -> None:
        self.did.append("input closed")

    def close_output(self) -> None:
        self.did.append("output closed")

    def close_errors(self) -> None:
        self.did.append("errors closed")

    async def wait(self) -> int:
        return await self.over

    def weigh(self, nice: int) -> None:
        self.niceness = nice

    def kill_group(self, signal: str = "KILL") -> None:
        self.did.append("killed" if signal == "KILL" else f"signal {signal}")
        if signal == "KILL" and not self.over.done():
            self.over.set_result(128 + 9)

    def close(self) -> None:
        self.did.append("closed")


class PatientClock(StoppedClock):
    """On which no time is ever over."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


class Commands(Client):
    """A client of some commands; `quotas` are those of callers by their pid."""

    def __init__(self, spawn: RealSpawn, commands: Mapping[str, HostCommand], caller: Caller | None = None) -> None:
        self.quotas: dict[int, Quota] = {}
        self.commands = CommandServer(spawn, PatientClock(), commands, lambda caller: self.quotas.get(caller.pid))
        super().__init__(self.commands, caller)

    async def began(self, name: str, *lines: str) -> tuple[Fid, str]:
        """A conversation that was told `lines`: its ctl, and its directory."""
        ctl = await self.open(f"{name}/clone", ORDWR)
        at = f"{name}/{(await self.read_fid(ctl)).decode().strip()}"
        for line in lines:
            await self.write_fid(ctl, line.encode())
        return ctl, at

    async def text(self, path: str) -> str:
        fid = await self.open(path)
        try:
            return (await self.read_fid(fid)).decode()
        finally:
            self.server.clunk(fid)

    def run_of(self, ctl: Fid) -> Run:
        assert isinstance(ctl, TreeFid)
        assert isinstance(ctl.node.parent, Run)
        return ctl.node.parent


@pytest.fixture
async def real() -> AsyncIterator[Commands]:
    client = Commands(
        RealSpawn(),
        {
            "cat": HostCommand(("/bin/cat",)),
            "python": HostCommand((*PYTHON, ARGS), "/tmp", (("LANG", "C"),)),
            "any": HostCommand(()),
            "missing": HostCommand(("/no/such/program",)),
        },
    )
    before = len(os.listdir("/dev/fd"))
    yield client
    client.close()
    await client.commands.close()
    assert client.commands.runs == 0
    assert len(os.listdir("/dev/fd")) == before


# -- real programs ----------------------------------------------------------------------------------------------------


async def test_what_is_written_is_its_input_and_what_is_read_its_output(real: Commands) -> None:
    ctl, at = await real.began("cat", "exec")
    out, given = await real.open(f"{at}/data", OREAD), await real.open(f"{at}/data", OWRITE)
    assert await real.text(f"{at}/status") == "cmd/0 4 Execute / cat\n"
    assert await real.write_fid(given, b"over and back") == 13
    assert await real.read_fid(out) == b"over and back"
    real.server.clunk(given)  # the last that could write: the program reads an end
    assert await real.read_fid(out) == b""
    words = split_words(await real.text(f"{at}/wait"))
    assert [words[1:3], words[4:]] == [["0", "0"], ["", "0"]]
    assert (await real.text(f"{at}/status")).split()[2] == "Done"
    for fid in (out, ctl):
        real.server.clunk(fid)
    assert await real.names("cat") == ["clone"]


async def test_it_has_the_environment_and_the_directory_that_were_said_and_no_file_but_its_streams(
    real: Commands,
) -> None:
    code = (
        "import os; print(dict(os.environ), os.getcwd(), sorted(map(int, os.listdir('/dev/fd'))), "
        "os.getsid(0) == os.getpid())"
    )
    ctl, at = await real.began("python", f"exec {quote(code)} more")
    said = await real.text(f"{at}/data")
    assert said.startswith("{'LANG': 'C'")
    assert "/tmp [0, 1, 2, 3] True" in said  # 3 is the directory that is listed
    real.server.clunk(ctl)


async def test_errors_are_kept_for_who_has_them_open_when_it_starts(real: Commands) -> None:
    code = quote("import sys; sys.stderr.write('wrong'); sys.exit(3)")
    ctl, at = await real.began("python")
    errors = await real.open(f"{at}/stderr")
    await real.write_fid(ctl, f"exec {code}".encode())
    assert await real.read_fid(errors) == b"wrong"
    assert await real.read_fid(errors) == b""
    assert split_words(await real.text(f"{at}/wait"))[4:] == ["status 3", "3"]
    real.server.clunk(errors)
    real.server.clunk(ctl)
    ctl, at = await real.began("python", f"exec {code}")
    late = await real.open(f"{at}/stderr")
    assert await real.read_fid(late) == b""
    real.server.clunk(late)
    real.server.clunk(ctl)


async def test_what_nobody_reads_is_not_kept_here_and_the_program_waits(real: Commands) -> None:
    ctl, at = await real.began("python", "exec " + quote("import os\nwhile True: os.write(1, bytes(1 << 16))"))
    out = await real.open(f"{at}/data")
    assert len(await real.read_fid(out, 1 << 20)) <= 1 << 20
    run = real.run_of(ctl)
    real.server.clunk(out)  # nobody reads any more: it is told so
    assert split_words(await real.text(f"{at}/wait"))[5] in ("1", str(128 + 13))
    assert run.state == "Done"
    real.server.clunk(ctl)


async def test_with_the_last_open_file_the_program_ends_and_all_of_its_group(real: Commands, tmp_path: Path) -> None:
    held = Fifo(tmp_path / "held")
    code = f"import os, time\nos.open({held.path!r}, os.O_WRONLY)\nos.fork()\nprint(1, flush=True)\ntime.sleep(1000)"
    ctl, at = await real.began("python", f"exec {quote(code)}")
    out = await real.open(f"{at}/data")
    said = b""
    while said.count(b"1") < 2:
        said += await real.read_fid(out)
    real.server.clunk(out)
    real.server.clunk(ctl)
    await held.ended()


async def test_what_it_left_behind_ends_when_it_does(real: Commands) -> None:
    code = "import os, time\nif not os.fork(): time.sleep(1000)"
    ctl, at = await real.began("python", f"exec {quote(code)}")
    out = await real.open(f"{at}/data")
    assert (await real.text(f"{at}/wait")).endswith(" '' 0\n")
    assert await real.read_fid(out) == b""  # nobody has the other end any more
    for fid in (ctl, out):
        real.server.clunk(fid)


async def test_a_read_that_is_given_up_takes_nothing(real: Commands) -> None:
    ctl, at = await real.began("cat", "exec")
    data = await real.open(f"{at}/data", ORDWR)
    for _ in range(3):
        waiting = asyncio.ensure_future(real.read_fid(data))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    reading = asyncio.ensure_future(real.read_fid(data))
    await real.write_fid(data, b"kept")
    assert await reading == b"kept"
    real.server.clunk(data)
    real.server.clunk(ctl)


async def test_more_input_than_a_pipe_holds_waits_until_it_is_taken(real: Commands) -> None:
    ctl, at = await real.began("cat", "exec")
    out, given = await real.open(f"{at}/data", OREAD), await real.open(f"{at}/data", OWRITE)
    size, sent, got = 1 << 20, 0, 0

    async def send() -> None:
        nonlocal sent
        while sent < size:
            sent += await real.write_fid(given, bytes(size - sent))
        real.server.clunk(given)

    sending = asyncio.ensure_future(send())
    while piece := await real.read_fid(out, 1 << 16):
        got += len(piece)
    await sending
    assert got == size
    for fid in (out, ctl):
        real.server.clunk(fid)


async def test_a_program_that_is_not_there_is_said_and_another_may_be_tried(real: Commands) -> None:
    ctl, at = await real.began("missing")
    for _ in range(2):
        with pytest.raises(FileError) as caught:
            await real.write_fid(ctl, b"exec")
        assert (caught.value.error, caught.value.subject) == (E.NOENT, "/no/such/program")
    assert " Open " in await real.text(f"{at}/status")
    real.server.clunk(ctl)


async def test_where_the_owner_leaves_it_open_the_caller_says_what_and_where(real: Commands) -> None:
    ctl, at = await real.began("any", f"dir {quote('/usr')}", "exec /bin/pwd")
    assert await real.text(f"{at}/data") == "/usr\n"
    real.server.clunk(ctl)
    ctl, at = await real.began("any")
    for line in ("exec", "exec pwd", "exec ''", "dir tmp"):
        assert await bring(real.write_fid(ctl, line.encode())) is E.USAGE
    real.server.clunk(ctl)


# -- by hand ----------------------------------------------------------------------------------------------------------


FIXED = {"backup": HostCommand(("/bin/backup", "--now")), "print": HostCommand(("/bin/lpr", "-P", ARGS, "end"))}


async def test_arguments_come_in_where_the_owner_says_and_nowhere_else() -> None:
    spawn = Hand()
    client = Commands(spawn, FIXED)
    ctl, _ = await client.began("print", "exec 'a b' ';' '$(c)' ''")
    other, _ = await client.began("backup")
    with pytest.raises(FileError) as caught:
        await client.write_fid(other, b"exec --to elsewhere")
    assert caught.value.error is E.ACCES
    assert caught.value.explain().endswith("it takes no arguments: its entry has no {args}; there: cognu man settings")
    await client.write_fid(other, b"exec")
    assert [argv for argv, *_ in spawn.started] == [
        ["/bin/lpr", "-P", "a b", ";", "$(c)", "", "end"], ["/bin/backup", "--now"],
    ]  # fmt: skip
    assert all(rest == [{}, "/", False] for rest in ([*row[1:]] for row in spawn.started))
    client.server.clunk(ctl)
    client.server.clunk(other)
    await client.commands.close()


async def test_each_line_does_what_it_says_and_others_are_refused() -> None:
    spawn = Hand()
    client = Commands(spawn, FIXED)
    ctl, at = await client.began("backup", "nice", "nice 7")
    data = await client.walk(f"{at}/data")
    client.server.clunk(data)
    assert await bring(client.read(f"{at}/data")) is E.INVAL
    assert await bring(client.write_fid(ctl, b"kill")) is E.INVAL
    await client.write_fid(ctl, b"exec")
    [made] = spawn.made
    assert made.niceness == 7
    for line, error in (
        (b"exec", E.ALREADY), (b"nice 20", E.USAGE), (b"nice -1", E.USAGE), (b"nice x", E.USAGE), (b"", E.USAGE),
        (b"dir /tmp", E.ACCES), (b"\xff", E.ILSEQ),
        (b"kill 9 9", E.USAGE), (b"exec 'open", E.SYNTAX), (bytes(MAX_LINE + 1), E.TOOBIG),
    ):  # fmt: skip
        assert await bring(client.write_fid(ctl, line)) is error, line
    await client.write_fid(ctl, b"nice 9")
    assert made.niceness == 9
    for line in (b"kill INT", b"kill sighup", b"kill 10"):
        await client.write_fid(ctl, line)
    assert made.did == ["signal INT", "signal sighup", "signal 10"]
    await client.write_fid(ctl, b"kill")
    assert split_words(await client.text(f"{at}/wait")) == ["4711", "0", "0", "0", "signal 9", "137"]
    client.server.clunk(ctl)


async def test_kill_on_close_is_of_the_file_that_it_was_written_to() -> None:
    spawn = Hand()
    client = Commands(spawn, FIXED)
    first, at = await client.began("backup", "exec")
    second = await client.open(f"{at}/ctl", ORDWR)
    third = await client.open(f"{at}/ctl", ORDWR)
    await client.write_fid(second, b"killonclose")
    client.server.clunk(first)
    assert spawn.made[0].did == []
    client.server.clunk(second)
    assert spawn.made[0].did[0] == "killed"
    client.server.clunk(third)
    await client.commands.close()
    assert "closed" in spawn.made[0].did


async def still_starting(spawn: Hand) -> tuple[Commands, Fid, asyncio.Future[int]]:
    """A command that is asked to start, and does not before `spawn.go` is set; its ctl, and what waits for it."""
    spawn.go.clear()
    client = Commands(spawn, FIXED)
    ctl, _ = await client.began("backup")
    starting = asyncio.ensure_future(client.write_fid(ctl, b"exec"))
    await spawn.asked.wait()
    return client, ctl, starting


async def test_who_gives_up_starting_it_leaves_nothing_running() -> None:
    spawn = Hand()
    client, ctl, starting = await still_starting(spawn)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    spawn.go.set()
    await idle()
    assert spawn.made[0].did[0] == "killed"
    assert client.commands.runs == 0
    client.server.clunk(ctl)
    await client.commands.close()


async def test_what_still_starts_when_the_last_file_is_closed_is_ended_when_it_has() -> None:
    spawn = Hand()
    client, ctl, starting = await still_starting(spawn)
    client.server.clunk(ctl)
    assert await client.names("backup") == ["clone"]
    spawn.go.set()
    await starting
    await client.commands.close()
    assert {"killed", "closed"} <= set(spawn.made[0].did)


async def test_a_command_counts_as_a_process_of_who_started_it_until_it_ends() -> None:
    spawn = Hand()
    client = Commands(spawn, FIXED)
    quota = client.quotas[1] = Quota(None, "me", {Resource.PROCESSES: 1})
    first, at = await client.began("backup", "exec")
    second, _ = await client.began("backup")
    assert await bring(client.write_fid(second, b"exec")) is E.DQUOT
    spawn.made[0].over.set_result(0)
    await client.text(f"{at}/wait")
    assert quota.used(Resource.PROCESSES) == 0
    await client.write_fid(second, b"exec")
    for fid in (first, second):
        client.server.clunk(fid)
    await client.commands.close()
    assert quota.used(Resource.PROCESSES) == 0


@pytest.mark.parametrize(
    ("refusal", "said"),
    [(FileError(E.AGAIN, "host"), E.AGAIN), (UnicodeEncodeError("latin-1", "\u4e00", 0, 1, "beyond it"), E.IO)],
    ids=["refused", "unspeakable"],
)
async def test_one_that_does_not_start_counts_no_more(refusal: Exception, said: E) -> None:
    client = Commands(Hand(refusal), FIXED)
    quota = client.quotas[1] = Quota(None, "me")
    ctl, _ = await client.began("backup")
    assert await bring(client.write_fid(ctl, b"exec")) is said
    assert quota.used(Resource.PROCESSES) == 0
    client.server.clunk(ctl)
    await client.commands.close()


async def test_what_the_host_does_not_end_is_not_waited_for_when_the_node_stops(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(_: float) -> None:
        return

    monkeypatch.setattr(Made, "kill_group", lambda self, signal="KILL": self.did.append("may not be killed"))
    spawn = Hand()
    client = Commands(spawn, FIXED)
    quota = client.quotas[1] = Quota(None, "me")
    ctl, _ = await client.began("backup", "exec")
    monkeypatch.setattr(client.commands.clock, "sleep", at_once)
    client.server.clunk(ctl)
    await client.commands.close()
    assert "may not be killed" in spawn.made[0].did
    assert (client.commands.runs, quota.used(Resource.PROCESSES)) == (0, 0)
    assert "1 commands of the host could not be ended" in caplog.text


async def test_a_peer_sees_its_own_conversations_alone_and_nobody_a_peers() -> None:
    client = Commands(Hand(), FIXED)
    top = Quota(None, "node")
    for pid in (1, 2):
        peer = Quota(top, f"peer {pid}")
        peer.set_share(PEER_SHARE)
        client.quotas[pid] = Quota(peer)
    client.quotas[3], client.quotas[4] = Quota(top), Quota(top)
    ctls = []
    for pid in (1, 2, 3):
        client.caller = Somebody(pid)
        ctls.append((await client.began("backup"))[0])
    for pid, seen in ((1, "0"), (2, "1"), (3, "2"), (4, "2")):
        client.caller = Somebody(pid)
        assert await client.names("backup") == [seen, "clone"]
        for number in "012":
            if number == seen:
                client.server.clunk(await client.walk(f"backup/{number}/data"))
            else:
                assert await bring(client.walk(f"backup/{number}/data")) is E.NOENT
    for ctl in ctls:
        client.server.clunk(ctl)


async def test_who_may_only_read_starts_nothing_and_there_are_only_so_many() -> None:
    client = Commands(Hand(), FIXED)
    assert await bring(client.open("backup/clone", OREAD)) is E.ACCES
    assert await bring(client.create("backup/new")) is E.ACCES
    fids = [await client.open("backup/clone", ORDWR) for _ in range(MAX_CONVERSATIONS)]
    assert await bring(client.open("backup/clone", ORDWR)) is E.AGAIN
    for fid in fids:
        client.server.clunk(fid)
    assert await client.names("backup") == ["clone"]


async def test_one_peers_conversations_leave_others_theirs_and_are_of_all_commands_together() -> None:
    client = Commands(Hand(), FIXED)
    peers = [Quota(None, f"peer {name}") for name in ("pi", "lap")]
    for pid, peer in enumerate(peers, 2):
        peer.set_share(PEER_SHARE)
        client.quotas[pid] = Quota(peer)
    client.caller = Somebody(2)
    fids = [await client.open(f"{name}/clone", ORDWR) for name in FIXED for _ in range(PEER_CONVERSATIONS // 2)]
    for name in FIXED:
        assert await bring(client.open(f"{name}/clone", ORDWR)) is E.AGAIN
    assert peers[0].used(Resource.FILES) == PEER_CONVERSATIONS
    for pid in (1, 3):
        client.caller = Somebody(pid)
        fids.append(await client.open("backup/clone", ORDWR))
    client.caller = Somebody(2)
    client.server.clunk(fids.pop(0))
    fids.append(await client.open("print/clone", ORDWR))
    for fid in fids:
        client.server.clunk(fid)
    assert [peer.used(Resource.FILES) for peer in peers] == [0, 0]


async def test_a_file_of_one_that_ended_can_not_be_opened_any_more() -> None:
    client = Commands(Hand(), FIXED)
    ctl, at = await client.began("backup")
    walked = [await client.walk(f"{at}/{name}") for name in ("ctl", "data", "stderr", "status", "wait")]
    client.server.clunk(ctl)
    for fid in walked:
        assert isinstance(fid, TreeFid)
        with pytest.raises(FileError) as caught:
            fid.node.open(fid, OREAD, client.caller)
        assert caught.value.error is E.NOENT
        client.server.clunk(fid)


@given(st.lists(st.text(max_size=12).filter(lambda word: "\0" not in word), max_size=5))
def test_words_of_any_kind_are_one_argument_each(words: list[str]) -> None:
    line = " ".join(["exec", *map(quote, words)])
    assert FIXED["print"].words("print", split_words(line)[1:]) == ["/bin/lpr", "-P", *words, "end"]


@given(st.binary(max_size=60))
async def test_no_line_but_exec_starts_anything(line: bytes) -> None:
    spawn = Hand()
    client = Commands(spawn, FIXED)
    ctl, _ = await client.began("print")
    with suppress(FileError):
        await client.write_fid(ctl, line)
    assert not spawn.started or b"exec" in line.replace(b"'", b"")
    client.server.clunk(ctl)
    await client.commands.close()


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_say_what_may_be_run() -> None:
    assert parse_commands(
        {
            "backup": ["/bin/backup"],
            "host": "any",
            "lpr": {"run": ["/usr/bin/lpr", ARGS], "dir": "/tmp", "env": {"LANG": "C"}},
        },
        "settings.json",
    ) == {
        "backup": HostCommand(("/bin/backup",)),
        "host": HostCommand(()),
        "lpr": HostCommand(("/usr/bin/lpr", ARGS), "/tmp", (("LANG", "C"),)),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        [], {"a b": ["/x"]}, {"": ["/x"]}, {"A": ["/x"]}, {"a": []}, {"a": ["x"]}, {"a": "all"}, {"a": ["/x", 1]},
        {"a": ["/x", "{args}", "{args}"]}, {"a": ["/x\0"]}, {"a": {"run": ["/x"], "shell": True}}, {"a": {}},
        {"a": {"run": "any", "dir": "x"}}, {"a": {"run": ["/x"], "env": {"": "b"}}}, {"a": ["{args}"]},
        {"a": {"run": ["/x"], "limits": {"cpu": 0}}}, {"a": {"run": ["/x"], "limits": {"x": 1}}},
        {"a": {"run": ["/x"], "limits": {"memory": "1G"}}}, {"a": {"run": ["/x"], "limits": 7}},
        {"a": {"run": ["/x"], "env": {"A=B": "c"}}}, {"a": {"run": ["/x"], "env": {"A": 1}}}, {"a": None}, None,
        {str(number): ["/x"] for number in range(257)},
    ],
)  # fmt: skip
def test_settings_that_are_none_are_refused_with_what_they_are_of(wrong: object) -> None:
    with pytest.raises(FileError) as caught:
        parse_commands(wrong, "settings.json")
    assert caught.value.error is E.DAMAGED
    assert caught.value.subject.startswith("settings.json")


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("any") | st.just("/x"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "run", "dir", "env", "limits", "cpu"]), inner)
    ),
    max_leaves=12,
)


@given(json)
def test_whatever_the_file_has_gives_commands_or_a_refusal(raw: object) -> None:
    found: dict[str, HostCommand] = {}
    refusals = []
    try:
        found = parse_commands(raw, "settings.json")
    except FileError as error:
        refusals.append(error.error)
    assert refusals in ([], [E.DAMAGED])
    assert all(not entry.argv or entry.argv[0].startswith("/") for entry in found.values())
