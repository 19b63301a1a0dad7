"""Calls through /net: what addresses mean, what is made of the answers of cs, and what is closed when that fails."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import AsyncMock, Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.shell.commands.network import listen1, parse_wait
from cognu.shell.network import announce, dial, listen, parse_number, split, translate
from cognu.shell.options import Options
from cognu.shell.system import File, Mode
from joined import bring
from shell_fake import Bench


class Opened:
    """A file of a network: it reads as a number, and refuses what the network is to refuse."""

    def __init__(self, path: str, net: Net) -> None:
        self.path = path
        self.net = net
        self.told: list[str] = []

    async def read(self, count: int = 65536) -> bytes:
        return self.net.number

    async def write(self, data: bytes) -> None:
        self.told.append(data.decode())
        if self.told[-1] in self.net.refused:
            raise FileError(E.CONNREFUSED, self.path, "nobody")

    async def close(self) -> None:
        self.net.files.remove(self)


class Net:
    """`answers` of cs; what is `refused` are lines for a ctl, and files that are not there."""

    def __init__(self, *answers: str, refused: tuple[str, ...] = ()) -> None:
        self.answers = list(answers)
        self.refused = refused
        self.number = b"7\n"
        self.asked: list[tuple[str, str]] = []
        self.files: list[Opened] = []

    async def ask(self, path: str, question: str) -> Sequence[str]:
        self.asked.append((path, question))
        if not self.answers:
            raise FileError(E.NOENT, path, "no such service")
        return self.answers

    async def open(self, path: str, mode: Mode) -> File:
        if path in self.refused:
            raise FileError(E.NOENT, path)
        self.files.append(Opened(path, self))
        return self.files[-1]


@pytest.mark.parametrize(
    ("address", "net", "question"),
    [
        ("tcp!pi!80", "/net", "tcp!pi!80"),
        ("/n/pi/net/tcp!pi!80", "/n/pi/net", "tcp!pi!80"),
        ("unix!/run/it", "/net", "unix!/run/it"),
        ("/net.alt/unix!/run/it", "/net.alt", "unix!/run/it"),
        ("/tcp!pi!80", "/net", "/tcp!pi!80"),
        ("", "/net", ""),
        ("a/b!c", "/net", "a/b!c"),
    ],
)
def test_an_address_may_begin_with_a_network(address: str, net: str, question: str) -> None:
    assert split(address) == (net, question)


@given(st.text(alphabet="/!*ab1"))
def test_nothing_of_an_address_is_lost(address: str) -> None:
    net, question = split(address)
    assert address in (question, f"{net}/{question}")
    assert net.startswith("/")


async def test_what_cs_says_is_there_where_it_was_asked() -> None:
    net = Net("/net/tcp/clone 10.0.0.1!80\n", "/n/sea/net/tcp/clone 127.0.0.1!80")
    assert await translate(net, "/n/pi/net/tcp!www!80") == [
        ("/n/pi/net/tcp/clone", "10.0.0.1!80"),
        ("/n/sea/net/tcp/clone", "127.0.0.1!80"),
    ]
    assert net.asked == [("/n/pi/net/cs", "tcp!www!80")]


@given(st.text() | st.from_regex(r"/(net|n)/[a-z/]*clone .*"))
async def test_no_answer_of_cs_breaks_it(answer: str) -> None:
    clone, blank, where = answer.strip().partition(" ")
    if blank and clone.endswith("/clone"):
        assert await translate(Net(answer), "tcp!pi!80") == [(clone, where)]
    else:
        with pytest.raises(FileError) as caught:
            await translate(Net(answer), "tcp!pi!80")
        assert caught.value.error is E.BADMESSAGE


async def test_each_way_is_tried_and_what_failed_is_closed() -> None:
    ways = ("/net/tcp/clone a!1", "/net/udp/clone b!1", "/net/tcp/clone c!1", "/net/tcp/clone d!1")
    net = Net(*ways, refused=("connect a!1", "/net/udp/clone"))
    called = await dial(net, "net!pi!1")
    assert called.directory == "/net/tcp/7"
    (ctl,) = net.files
    assert ctl.told == ["connect c!1"]
    data = await called.data()
    assert data.path == "/net/tcp/7/data"
    assert await called.read("remote") == "7"
    await data.close()
    await called.close()
    assert net.files == []


async def test_what_the_last_way_said_is_the_refusal_and_names_the_address() -> None:
    net = Net("/net/tcp/clone a!1", "/net/tcp/clone b!1", refused=("connect a!1", "connect b!1"))
    with pytest.raises(FileError) as caught:
        await dial(net, "net!pi!1")
    assert (caught.value.error, caught.value.subject, caught.value.detail) == (E.CONNREFUSED, "net!pi!1", "nobody")
    with pytest.raises(FileError) as caught:
        await dial(Net(), "tcp!pi!fly")
    assert (caught.value.error, caught.value.subject) == (E.NOENT, "tcp!pi!fly")
    assert net.files == []


async def test_a_network_that_gives_no_number_leads_nowhere_and_nothing_stays_open() -> None:
    net = Net("/net/tcp/clone a!1")
    net.number = b"../../home\n"
    assert await bring(dial(net, "net!pi!1")) is E.BADMESSAGE
    assert net.files == []


async def test_a_call_that_comes_is_a_conversation_of_the_same_protocol() -> None:
    net = Net("/net/tcp/clone *!80")
    announced = await announce(net, "/n/pi/net/tcp!*!80")
    assert (await listen(announced)).directory == "/n/pi/net/tcp/7"
    assert [file.path for file in net.files] == ["/n/pi/net/tcp/clone", "/n/pi/net/tcp/7/listen"]
    assert net.files[0].told == ["announce *!80"]


# -- os ---------------------------------------------------------------------------------------------------------------


async def of_machine(number: bytes, wait: bytes) -> tuple[int, str]:
    """Status and errors of `os` with a machine that says this."""
    bench = Bench()
    for name, data in (("clone", number), ("3/data", b""), ("3/stderr", b""), ("3/wait", wait)):
        bench.system.make(f"/cmd/job/{name}", data)
    bench.system.make("/cmd/data", b"")
    result = await bench.run("os job")
    return result.status, result.err


async def test_the_status_of_a_command_is_its_own_and_a_signal_is_said() -> None:
    assert await of_machine(b"3\n", b"7 0 0 12 '' 0\n") == (0, "")
    assert await of_machine(b"3\n", b"7 0 0 12 'signal 9' 137\n") == (137, "os: job: signal 9\n")


@pytest.mark.parametrize(
    "wait", [b"", b"\n", b"7 0 0 12 '' x\n", b"7 0 0 12 '' -1\n", b"7 0 0 12 '' 256\n", b"'", b"0\n", b"\xff"]
)
async def test_a_machine_that_does_not_say_how_a_command_ended_is_refused(wait: bytes) -> None:
    status, said = await of_machine(b"3\n", wait)
    assert (status, said.startswith(f"os: /cmd/job/3/wait: {E.BADMESSAGE.text}")) == (1, True), said


@pytest.mark.parametrize("number", [b"", b"..\n", b"3/../..\n", b"-3\n", b"\xff"])
async def test_a_machine_leads_os_to_no_other_files_than_its_conversation(number: bytes) -> None:
    status, said = await of_machine(number, b"7 0 0 12 '' 0\n")
    assert (status, said.startswith(f"os: /cmd/job/clone: {E.BADMESSAGE.text}")) == (1, True), said


@given(st.text() | st.from_regex(r"1 0 0 2 [a-z' ]* [0-9]+\n", fullmatch=True))
def test_whatever_a_wait_file_has_gives_a_status_or_a_refusal(text: str) -> None:
    try:
        _, status = parse_wait("/cmd/job/3/wait", text)
    except FileError as error:
        assert error.error is E.BADMESSAGE  # noqa: PT017
    else:
        assert 0 <= status <= 255


@given(st.text())
def test_whatever_a_clone_file_reads_as_is_a_number_or_refused(text: str) -> None:
    try:
        number = parse_number("/cmd/job/clone", text)
    except FileError as error:
        assert error.error is E.BADMESSAGE  # noqa: PT017
    else:
        assert int(text) == number >= 0


async def test_a_call_that_nobody_answers_any_more_is_hung_up() -> None:
    """It came just before taking calls ended: what was to answer it never began."""

    class Ending(Net):
        async def open(self, path: str, mode: Mode) -> File:
            if path.endswith("/listen") and any(file.path == path for file in self.files):
                raise FileError(E.NOTANNOUNCED, path)
            return await super().open(path, mode)

    net = Ending("/net/tcp/clone *!80")
    call = Mock(operands=["tcp!*!80", "cat"], options=Options(), system=net, argv=("listen1",))
    call.streams.stderr.write = call.complain = AsyncMock()
    with pytest.raises(FileError) as caught:
        await listen1(call)
    assert caught.value.error is E.NOTANNOUNCED
    assert net.files == []
