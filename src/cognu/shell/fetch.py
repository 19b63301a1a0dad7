"""`fetch`: HTTP/1.1 (RFC 9110, RFC 9112) through `/net` of a namespace.

    http://HOST[:PORT]/PATH             over /net/tcp
    http+unix://PERCENT-ENCODED-PATH/PATH   over /net/unix: the authority is the path of a Unix socket

An answer other than 2xx is an error; redirections are followed within http, a few times.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from cognu.errors import E, FileError
from cognu.shell.network import Opener, dial
from cognu.shell.system import File

MAX_HEAD = 64 * 1024
MAX_REDIRECTIONS = 5
_REDIRECTIONS = (301, 302, 303, 307, 308)
_REQUEST = "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: cognu\r\nAccept: */*\r\nConnection: close\r\n\r\n"


class Address(NamedTuple):
    """Where to go for a URL: `query` for /net/cs, and what the request says."""

    query: str
    host: str
    target: str


@dataclass(frozen=True)
class Head:
    """The head of an answer; header names in lower case, of repeated ones the last."""

    status: int
    reason: str
    headers: dict[str, str] = field(default_factory=dict)


def parse_url(url: str) -> Address:
    """Raises USAGE."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise FileError(E.USAGE, url, str(error)) from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not host or not url.isascii() or any(ord(letter) <= 0x20 or ord(letter) == 0x7F for letter in url):
        raise FileError(E.USAGE, url, "http://HOST[:PORT]/PATH or http+unix://SOCKET/PATH")
    if parts.scheme == "http":
        return Address(f"tcp!{host}!{port}", parts.netloc.rpartition("@")[2], target)
    if parts.scheme == "http+unix":
        return Address(f"unix!{unquote(parts.netloc)}", "localhost", target)
    raise FileError(E.NOPROTO, url, f"{parts.scheme or 'no scheme'}; fetch speaks http and http+unix")


def parse_head(data: bytes) -> Head:
    """The head of an answer, with the empty line at its end (RFC 9112, 4 and 5). Raises BADMESSAGE."""
    lines = data.decode("iso-8859-1").split("\n")
    first = lines[0].rstrip("\r").split(" ", 2)
    if len(first) < 2 or not first[0].startswith("HTTP/1.") or len(first[1]) != 3 or not _is_number(first[1]):
        raise FileError(E.BADMESSAGE, lines[0][:80], "not an answer in HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        line = line.rstrip("\r")
        name, colon, value = line.partition(":")
        if line and (not colon or not name or name != name.strip()):
            raise FileError(E.BADMESSAGE, line[:80], "not a header")
        if line:
            headers[name.lower()] = value.strip()
    return Head(int(first[1]), first[2] if len(first) > 2 else "", headers)


def _is_number(text: str, digits: str = "0123456789") -> bool:
    return bool(text) and set(text) <= set(digits)


class _Reader:
    """What comes over a connection: lines, then bytes."""

    def __init__(self, data: File, url: str) -> None:
        self._data = data
        self._url = url
        self._kept = b""

    async def read(self, count: int) -> bytes:
        if not self._kept:
            return await self._data.read(count)
        piece, self._kept = self._kept[:count], self._kept[count:]
        return piece

    async def until(self, mark: bytes) -> bytes:
        """Up to and with `mark`. Raises BADMESSAGE if it does not come."""
        found = b""
        while mark not in found:
            piece = await self.read(64 * 1024)
            found += piece
            if not piece or len(found) > MAX_HEAD:
                raise FileError(E.BADMESSAGE, self._url, "cut short" if not piece else "a head too long")
        end = found.index(mark) + len(mark)
        self._kept = found[end:] + self._kept
        return found[:end]

    async def body(self, head: Head) -> AsyncGenerator[bytes, None]:
        """The body (RFC 9112, 6). Raises BADMESSAGE if it is cut short."""
        if head.headers.get("transfer-encoding", "").lower() == "chunked":
            while length := await self._chunk_length():
                async for piece in self._exactly(length):
                    yield piece
                await self.until(b"\n")
            return
        announced = head.headers.get("content-length")
        if announced is None:
            while piece := await self.read(64 * 1024):
                yield piece
            return
        if not _is_number(announced) or len(announced) > 18:
            raise FileError(E.BADMESSAGE, self._url, f"content-length {announced[:40]}")
        async for piece in self._exactly(int(announced)):
            yield piece

    async def _chunk_length(self) -> int:
        text = (await self.until(b"\n")).decode("iso-8859-1").partition(";")[0].strip()
        if not _is_number(text, "0123456789abcdefABCDEF") or len(text) > 15:
            raise FileError(E.BADMESSAGE, self._url, f"chunk {text[:40]}")
        return int(text, 16)

    async def _exactly(self, length: int) -> AsyncGenerator[bytes, None]:
        while length:
            piece = await self.read(min(length, 64 * 1024))
            if not piece:
                raise FileError(E.BADMESSAGE, self._url, f"cut short, {length} bytes are missing")
            length -= len(piece)
            yield piece


class Body:
    """A `File` that reads as the body of an answer. Closing it hangs up."""

    def __init__(self, url: str, pieces: AsyncGenerator[bytes, None], files: list[File]) -> None:
        self.path = url
        self._pieces = pieces
        self._files = files
        self._kept = b""

    async def read(self, count: int = 65536) -> bytes:
        while not self._kept:
            try:
                self._kept = await anext(self._pieces)
            except StopAsyncIteration:
                return b""
        piece, self._kept = self._kept[:count], self._kept[count:]
        return piece

    async def write(self, data: bytes) -> None:
        raise FileError(E.BADF, self.path)

    async def close(self) -> None:
        await self._pieces.aclose()
        await _close(self._files)


async def _close(files: list[File]) -> None:
    while files:
        await files.pop().close()


async def fetch(system: Opener, url: str) -> Body:
    """A body. Raises what the network says, BADMESSAGE, IO with the status of an answer without success."""
    for _ in range(MAX_REDIRECTIONS + 1):
        files: list[File] = []
        try:
            reader = _Reader(await _request(system, url, files), url)
            head = parse_head(await _head(reader))
            while 100 <= head.status < 200:
                head = parse_head(await _head(reader))
            if head.status // 100 == 2:
                return Body(url, reader.body(head), files)
            location = head.headers.get("location")
            if head.status not in _REDIRECTIONS or location is None:
                row = {403: E.ACCES, 404: E.NOENT, 410: E.NOENT}.get(head.status, E.IO)
                raise FileError(row, url, f"{head.status} {head.reason}".strip())
        except BaseException:
            await _close(files)
            raise
        await _close(files)
        url = _follow(url, location)
    raise FileError(E.LOOP, url, f"more than {MAX_REDIRECTIONS} redirections")


def _follow(url: str, location: str) -> str:
    """Where a redirection leads; `urljoin` does not know http+unix."""
    if location.startswith("/") and not location.startswith("//"):
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}{location}"
    return urljoin(url, location)


async def _head(reader: _Reader) -> bytes:
    lines = b""
    while True:
        line = await reader.until(b"\n")
        if lines and line in (b"\r\n", b"\n"):
            return lines
        lines += line
        if len(lines) > MAX_HEAD:
            raise FileError(E.BADMESSAGE, "", "a head too long")


async def _request(system: Opener, url: str, files: list[File]) -> File:
    """Dial, and send the request. Fills `files`."""
    address = parse_url(url)
    try:
        conversation = await dial(system, address.query)
        files.append(conversation.ctl)
        data = await conversation.data()
        files.append(data)
        await data.write(_REQUEST.format(target=address.target, host=address.host).encode())
        return data
    except FileError as error:
        # A /net without Unix sockets is no way to this one, but another machine's may be.
        row = E.NETUNREACH if error.error is E.NOPROTO else error.error
        raise FileError(row, url, error.detail) from None
