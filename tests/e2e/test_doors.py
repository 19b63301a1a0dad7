"""The doors between real nodes and their programs, tried by those who were granted nothing, or something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognu.errors import E, FileError
from cognu.files.nstext import quote
from cognu.files.shown import Shown
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from e2e.harness import LOOPBACK, Client, Me, NodeProcess, Pair, confined, end, far, join, pair, refused, until
from programs.build import build

ABSENT = b"No such file or directory"


async def test_a_program_that_was_granted_nothing_finds_no_door(place: Path) -> None:
    async with pair(place, "read:{shared}", "net", "run") as two, two.desk.client() as desk:
        (two.shared / "file").write_text("x")
        await desk.put(build("cat"), "cat.wasm")
        doors = [
            "/proc/clone", "/proc/1/ctl", "/proc/1/status", "/srv", "/net/tcp/clone", "/net/cs", "/net/udp/clone",
            "/n/pi/proc/clone", f"/n/pi{two.shared}/file", "/mnt/node/rpc", "/mnt/store/put", "/bin/cat.wasm",
            "/dev/null", "/dev/random", "/dev/log", "/env/HOME", "/fd/0", "/tmp", "/etc/passwd", "#p/clone", "#U/etc",
            "#n/rpc", "../../etc/passwd",
        ]  # fmt: skip
        for on in ("", "pi"):
            ended = await desk.run("cat.wasm", *doors, on=on)
            assert (ended.output, ended.status) == (b"", 1)
            said = ended.errors.splitlines()
            assert len(said) == len(doors)
            allowed = (ABSENT, b"Operation not permitted")  # the way out of the directory it was started in
            assert all(line.endswith(allowed) for line in said), said


async def none_of_pi(two: Pair, desk: Client) -> None:
    assert await desk.list("/n/pi") == []
    for path in (
        str(two.shared),
        "/etc",
        "/proc",
        "/net",
        "/srv",
        "/mnt/node",
        "/mnt/store",
        "/n/desk",
        "/dev",
        "/tmp",
    ):
        await refused(desk.open(f"/n/pi{path}"), E.NOENT)
    await refused(desk.open("/n/pi/proc/clone", ORDWR), E.NOENT)
    await refused(desk.run("cat.wasm", on="pi"), E.ACCES)


async def test_a_peer_that_was_granted_nothing_finds_no_door(place: Path) -> None:
    """It can reach the other side, which knows it; that is all."""
    async with pair(place) as two:
        await join(two.pi, two.desk)
        async with two.desk.client() as desk, two.pi.client() as pi:
            await desk.put(build("cat"), "cat.wasm")
            await none_of_pi(two, desk)
            for name in ("#p", "#U", "#n", "#N"):  # nor by the names of the other side's devices
                await refused(desk.open(f"/n/pi/{name}"), E.NOENT)
            await pi.rpc("export", path=str(two.shared), peer="desk", write=False)
            assert await desk.list(f"/n/pi{two.shared}") == []
            await pi.rpc("revoke", peer="desk", grant=f"read:{two.shared}")
            await none_of_pi(two, desk)


@pytest.mark.parametrize("grant", ["read", "write", "net", "run"])
async def test_each_grant_opens_one_door(place: Path, grant: str) -> None:
    text = f"{grant}:{{shared}}" if grant in ("read", "write") else grant
    async with pair(place, text) as two, two.desk.client() as desk:
        (two.shared / "file").write_text("x")
        await desk.put(build("cat"), "cat.wasm")
        shown = {"net": "net", "run": "proc"}.get(grant, two.shared.parts[1])
        assert await desk.list("/n/pi") == [shown]
        file = f"/n/pi{two.shared}/file"
        if grant in ("read", "write"):
            assert await desk.read(file) == b"x"
        else:
            await refused(desk.open(file), E.NOENT)
        if grant == "write":
            await desk.write(file, b"y")
            (await desk.create(f"/n/pi{two.shared}/new")).close()
        elif grant == "read":
            for mode in (OWRITE, ORDWR):
                await refused(desk.open(file, mode), E.ACCES)
            await refused(desk.create(f"/n/pi{two.shared}/new"), E.ACCES)
        if grant == "net":
            ctl = await desk.open("/n/pi/net/tcp/clone", ORDWR)
            with pytest.raises(FileError) as caught:
                await desk.mount.write(ctl.fid, 0, b"announce *!0")
            assert caught.value.error is E.ACCES  # to dial, not to take calls
            ctl.close()
        else:
            await refused(desk.open("/n/pi/net/tcp/clone", ORDWR), E.NOENT)
        if grant == "run":
            assert (await desk.run("cat.wasm", on="pi", stdin=b"given")).output == b"given"
        else:
            await refused(desk.run("cat.wasm", on="pi"), E.ACCES)
            await refused(desk.open("/n/pi/proc/clone", ORDWR), E.NOENT)


async def test_nobody_ends_what_is_not_below_it(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk, two.pi.client() as pi:
        await pi.put(build("cat"), "cat.wasm")
        theirs = await pi.start("cat.wasm")
        await desk.put(build("cat"), "cat.wasm")
        own = await desk.start("cat.wasm", on="pi")
        session = await pi.pid()
        seen = {name for name in await desk.list("/n/pi/proc") if name.isdigit()}
        assert not seen & {"1", str(session), str(theirs.pid)}
        for pid in (1, session, theirs.pid):
            for file in ("ctl", "note", "notepg", "ns", "wants", "status"):
                await refused(desk.open(f"/n/pi/proc/{pid}/{file}", OREAD), E.NOENT)
            await refused(desk.open(f"/n/pi/proc/{pid}/ctl", OWRITE), E.NOENT)
        assert (await theirs.end(b"still there")).output == b"still there"
        assert (await own.end(b"so is this")).output == b"so is this"


async def test_to_know_a_hash_is_no_authority(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk, two.pi.client() as pi:
        program = build("show")
        # On pi it was run for desk, and so is kept there; nobody put it there for others.
        ran = await desk.put(program)
        assert (await desk.run(ran, on="pi")).status == 2
        assert await pi.read(f"/mnt/store/objects/{ran}") == program
        private = await pi.put(build("wc"))
        await refused(desk.open("/n/pi/mnt/store/objects"), E.NOENT)
        assert await desk.read(f"/mnt/store/objects/{private}") == build("wc")  # `put` is what shares
        await two.desk.stop()
        for kept in (two.desk.home / "store" / "objects").rglob(f"*{ran[8:]}*"):
            kept.unlink()
        await two.desk.start()
        async with two.desk.client() as again:
            await refused(again.open(f"/mnt/store/objects/{ran}"), E.NOENT)
            assert await again.list("/n/pi") == ["proc"]


async def begun(client: Client, *lines: str) -> None:
    """A process made by the client's `clone`, told `lines` and to start; it ends with its ctl."""
    ctl = await client.open("/clone", ORDWR)
    try:
        for line in (*lines, "start"):
            await ctl.write(line.encode())
    finally:
        ctl.close()


async def test_who_may_start_processes_starts_nothing_that_it_can_not_name_itself(place: Path) -> None:
    """Nor learns what there is, in the store or among the peers: all that is not its own is refused alike."""
    async with pair(place, "run") as two, two.desk.client() as desk:
        unnamed, named = await desk.put(build("cat")), await desk.put(build("wc"), "wc")
        async with confined(two.desk, Shown("/proc", writable=True)) as mount:
            client = Client(mount, far(await mount.attach(Me(), "")))
            for word in ("wc", "none", named, named[:20], unnamed, unnamed[:20], "bafkr4iaaaaaaaaaaaaa", "."):
                await refused(begun(client, f"program {quote(word)}"), E.NOTFOUND)
            await refused(begun(client, "program /bin/wc"), E.NOENT)
            book = await desk.rpc("peers")
            said = set()
            for name in ("pi", "mars", book[0]["fingerprint"], book[0]["fingerprint"][:10], "0123456789"):
                with pytest.raises(FileError) as caught:
                    await begun(client, "program wc", f"on {name}")
                assert caught.value.error is E.NOPEER
                said.add(str(caught.value).replace(name, "NAME"))
            assert len(said) == 1, said
        for word in ("wc", named, named[:20]):  # which a user of the node may
            assert (await desk.run(word, stdin=b"a b\n")).output == b"1 2 4\n"
        assert (await desk.run(unnamed[:20], stdin=b"a b\n")).output == b"a b\n"


async def test_a_program_that_is_here_runs_for_a_peer_only_if_the_peer_has_it_too(place: Path) -> None:
    thief = NodeProcess(place / "thief", "thief", *LOOPBACK, module=("-P", str(Path(__file__).with_name("thief.py"))))
    program = place / "wc.wasm"
    program.write_bytes(build("wc"))
    try:
        await thief.start()
        async with pair(place, "run") as two, two.pi.client() as pi, two.desk.client() as desk:
            await join(two.pi, thief, "run")
            score = await pi.put(program.read_bytes())
            published = two.pi.home / "store" / "published" / score
            async with thief.client() as thieving:
                ended = await thieving.run(str(program), on="pi", stdin=b"a b\n")
                assert ended.output == b"1 2 4\n"  # what was put there is for others
                published.unlink()
                await refused(thieving.run(str(program), on="pi"), E.NOENT)
            assert (await desk.run(str(program), on="pi", stdin=b"a b\n")).output == b"1 2 4\n"
    finally:
        await end(thief)


async def test_nobody_from_afar_has_the_node_listen(place: Path) -> None:
    """Not even with all grants there are: the node's control is its own users' alone."""
    async with pair(place, "read:{shared}", "write:/tmp", "net", "run") as two, two.desk.client() as desk:
        for path in ("/n/pi/mnt/node", "/n/pi/mnt/node/rpc", "/n/pi/mnt"):
            await refused(desk.open(path), E.NOENT)
        async with two.pi.client() as pi:
            for tree in ("read:/mnt/node", "write:/proc", "read:/srv", "read:/n", "read:/mnt/node/rpc", "read:/fd"):
                await refused(pi.rpc("invite", grants=[tree]), E.ACCES)
        assert await desk.list(f"/n/pi{two.shared}") == []


async def test_a_session_that_was_ended_holds_no_door_open(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as desk:
        await desk.put(build("cat"), "cat.wasm")
        gone = await Client.connect(two.desk.socket)
        running = await gone.start("cat.wasm", grants=[f"{two.notes} rw"])
        await gone.close()

        async def over() -> bool:
            return str(running.pid) not in await desk.list("/proc")

        await until(desk, over)
        rows = (await desk.rpc("caps"))["capabilities"]
        assert {row["holder"]["kind"] for row in rows} == {"node", "process"}
