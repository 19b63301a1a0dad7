"""`fetch`: URLs, answers, bodies, against servers of the test's own behind a node's /net."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.shell.fetch import parse_head, parse_url
from cognu.shell.session import NodeSession
from sessions import nothing_open, served, short_place

OK = b"HTTP/1.1 200 OK\r\n"


class Web:
    """A server that gives each path's bytes as they are, and hangs up."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        writer.write(self.answers[head.split(" ")[1]])
        await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest_asyncio.fixture
async def place() -> AsyncIterator[tuple[NodeSession, Web, str, str]]:
    """A session, a web server, its URL over tcp and over a Unix socket."""
    web = Web()
    with short_place() as path:
        unix = await asyncio.start_unix_server(web.serve, path / "web")
        tcp = await asyncio.start_server(web.serve, "127.0.0.1", 0)
        async with served(unix=(str(path / "web"),)) as at, unix, tcp:
            session = await at.session()
            port = tcp.sockets[0].getsockname()[1]
            sock = str(path / "web").replace("/", "%2F")
            yield session, web, f"http://127.0.0.1:{port}", f"http+unix://{sock}"
            await nothing_open(session)
            await session.close()


Place = tuple[NodeSession, Web, str, str]


async def body(session: NodeSession, url: str) -> bytes:
    file = await session.fetch(url)
    parts = []
    try:
        while part := await file.read(1000):
            assert len(part) <= 1000
            parts.append(part)
    finally:
        await file.close()
    return b"".join(parts)


async def refused(session: NodeSession, url: str, error: E, detail: str = "") -> None:
    with pytest.raises(FileError) as caught:
        await body(session, url)
    assert caught.value.error is error
    assert detail in str(caught.value)


async def test_bodies_of_all_three_kinds_come_whole(place: Place) -> None:
    session, web, tcp, unix = place
    data = bytes(range(256)) * 1000
    web.answers = {
        "/length": OK + b"Content-Length: 256000\r\n\r\n" + data + b"not any more",
        "/end": OK + b"\r\n" + data,
        "/chunks?q=1": OK + b"transfer-encoding: Chunked\r\n\r\n" + b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
        "/empty": b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "/later": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\nlate",
    }
    for base in (tcp, unix):
        assert await body(session, f"{base}/length") == data
        assert await body(session, f"{base}/end") == data
        assert await body(session, f"{base}/chunks?q=1#part") == b"abc0123456789"
        assert await body(session, f"{base}/empty") == b""
        assert await body(session, f"{base}/later") == b"late"
    assert f"Host: {tcp.removeprefix('http://')}\r\n" in web.heads[0]


async def test_redirections_are_followed_and_not_for_ever(place: Place) -> None:
    session, web, tcp, unix = place
    web.answers = {
        "/old": b"HTTP/1.1 301 Moved\r\nLocation: /new\r\n\r\n",
        "/new": OK + b"\r\nhere",
        "/round": b"HTTP/1.1 302 Found\r\nLocation: /round\r\n\r\n",
        "/tls": b"HTTP/1.1 302 Found\r\nLocation: https://example.com/\r\n\r\n",
        "/nowhere": b"HTTP/1.1 302 Found\r\n\r\n",
    }
    for base in (tcp, unix):
        assert await body(session, f"{base}/old") == b"here"
        await refused(session, f"{base}/round", E.LOOP)
        await refused(session, f"{base}/nowhere", E.IO, "302")
    await refused(session, f"{tcp}/tls", E.NOPROTO, "https")


@pytest.mark.parametrize(
    ("answer", "error", "detail"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", E.NOENT, "404 Not Found"),
        (b"HTTP/1.1 403 No\r\n\r\n", E.ACCES, "403"),
        (b"HTTP/1.1 500\r\n\r\n", E.IO, "500"),
        (b"", E.BADMESSAGE, "cut short"),
        (OK, E.BADMESSAGE, "cut short"),
        (b"SSH-2.0-x\r\n\r\n", E.BADMESSAGE, "HTTP"),
        (OK + b"no header\r\n\r\n", E.BADMESSAGE, "no header"),
        (OK + b"Content-Length: 5\r\n\r\n123", E.BADMESSAGE, "2 bytes are missing"),
        (OK + b"Content-Length: -5\r\n\r\n", E.BADMESSAGE, "-5"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", E.BADMESSAGE, "xyz"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", E.BADMESSAGE, "3 bytes are missing"),
        (OK + b"a: b\r\n" * 20_000, E.BADMESSAGE, "too long"),
        (b"x" * 100_000, E.BADMESSAGE, "too long"),
    ],
)
async def test_what_is_no_success_is_an_error(place: Place, answer: bytes, error: E, detail: str) -> None:
    session, web, tcp, _ = place
    web.answers = {"/": answer}
    await refused(session, tcp, error, detail)


async def test_what_can_not_be_reached_is_named(place: Place) -> None:
    session, _, tcp, unix = place
    await refused(session, "http://127.0.0.1:1/", E.CONNREFUSED, "http://127.0.0.1:1/")
    await refused(session, unix + "x", E.ACCES)
    await refused(session, "ftp://example.com/", E.NOPROTO, "ftp")
    await session.unmount("#I", "/net")
    await refused(session, tcp, E.NOENT)


@pytest.mark.parametrize("url", ["", "http://", "http:///x", "http://a:b/", "http://[::1", "http://a b/", "http://ä/"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_url(url)
    assert caught.value.error in (E.USAGE, E.NOPROTO)


def test_urls_say_where_to_go() -> None:
    assert parse_url("http://[::1]:81/a%20b?c=d#e") == ("tcp!::1!81", "[::1]:81", "/a%20b?c=d")
    assert parse_url("http://pi.local") == ("tcp!pi.local!80", "pi.local", "/")
    assert parse_url("http+unix://%2Frun%2Fx/y") == ("unix!/run/x", "localhost", "/y")


@given(st.one_of(st.text(max_size=80), st.text(max_size=60).map("http://".__add__)))
def test_any_url_is_taken_or_refused(url: str) -> None:
    with suppress(FileError):
        address = parse_url(url)
        assert address.target.startswith("/")
        assert not set("\r\n ") & set(address.target + address.host)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(OK.__add__)))
def test_any_head_is_read_or_refused(data: bytes) -> None:
    with suppress(FileError):
        head = parse_head(data)
        assert all(name == name.lower().strip() for name in head.headers)
