"""Calls through /net: what addresses mean, what is made of the answers of cs, and what is closed when that fails."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.shell.network import announce, dial, listen, split, translate
from cognu.shell.system import File, Mode


class Opened:
    """A file of a network: it reads as a number, and refuses what the network is to refuse."""

    def __init__(self, path: str, net: Net) -> None:
        self.path = path
        self.net = net
        self.told: list[str] = []

    async def read(self, count: int = 65536) -> bytes:
        return b"7\n"

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


async def test_a_call_that_comes_is_a_conversation_of_the_same_protocol() -> None:
    net = Net("/net/tcp/clone *!80")
    announced = await announce(net, "/n/pi/net/tcp!*!80")
    assert (await listen(announced)).directory == "/n/pi/net/tcp/7"
    assert [file.path for file in net.files] == ["/n/pi/net/tcp/clone", "/n/pi/net/tcp/7/listen"]
    assert net.files[0].told == ["announce *!80"]
