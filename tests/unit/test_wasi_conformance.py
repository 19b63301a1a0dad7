"""WASI preview 1 by its specification: a table for each group of functions; each row names the rule it checks.

A rule says in our words what the specification means, and where; it is no quotation, and the text there decides.
Sources: wasi_snapshot_preview1.witx and typenames.witx (witx), which say of many functions that they are similar to one
of POSIX.1-2017 (POSIX, with the function's page); where both are silent, what Wasmtime does.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from cognu.files.chan import Chan
from cognu.runtime.wasi import FUNCTIONS, abi
from cognu.runtime.wasi.abi import (
    ABSTIME,
    APPEND,
    ATIM,
    ATIM_NOW,
    CREAT,
    DIRECTORY,
    DSYNC,
    EXCL,
    MTIM,
    MTIM_NOW,
    NONBLOCK,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
    SYMLINK_FOLLOW,
    TRUNC,
    Errno,
    Right,
)
from wasi_kit import ALL, BAD, Bench

OK = Errno.SUCCESS
TEXT = b"0123456789"


@dataclass(frozen=True)
class Named:
    """A descriptor of the scene, or a place in memory, by name; a row is made before either is there."""

    name: str

    def __repr__(self) -> str:
        return self.name


FILE, READ_ONLY, WRITE_ONLY, APPENDING, DIR, PIPE = (
    Named(name) for name in ("FILE", "READ_ONLY", "WRITE_ONLY", "APPENDING", "DIR", "PIPE")
)
CWD, NONE = 3, 77
OUT = Named("OUT")
"""64 bytes for results."""
INTO = Named("INTO")
"""Two buffers, of 3 and 5 bytes."""
WORDS = Named("WORDS")
"""Two buffers that hold `ab` and `cde`."""
Argument = int | str | Named
Row = tuple[str, str, tuple[Argument, ...], Errno, int | bytes | None]
"""The rule, the function, its arguments, its errno, and what is at OUT after it: a number or bytes."""


class Scene:
    """notes.txt, dir/inner, empty/, links: gone (dangling), link -> notes.txt, way -> dir, loop -> loop, up -> ../x."""

    def __init__(self) -> None:
        self.bench = Bench([b"prog", b"arg"], [b"A=1"])
        self.places: dict[str, tuple[int, ...]] = {}
        self.end: Chan | None = None

    async def set(self) -> Scene:
        bench = self.bench
        self.end = await bench.pipe(0)
        await bench.make("/notes.txt", TEXT)
        await bench.make("/empty", None)
        await bench.make("/dir", None)
        await bench.make("/dir/inner", b"inner")
        for link, target in (("link", "notes.txt"), ("way", "dir"), ("loop", "loop"), ("up", "../x"), ("gone", "no")):
            await bench.link(f"/{link}", target)
        self.places = {
            "PIPE": (0,),
            "FILE": (bench.open("notes.txt"),),
            "READ_ONLY": (bench.open("notes.txt", rights=ALL & ~abi.WRITING_RIGHTS),),
            "WRITE_ONLY": (bench.open("notes.txt", rights=ALL & ~Right.FD_READ),),
            "APPENDING": (bench.open("notes.txt", flags=APPEND),),
            "DIR": (bench.open("dir", DIRECTORY),),
            "OUT": (bench.room(64),),
            "INTO": bench.vector(3, 5),
            "WORDS": bench.vector(b"ab", b"cde"),
        }
        return self

    def values(self, arguments: tuple[Argument, ...]) -> list[int]:
        values: list[int] = []
        for argument in arguments:
            if isinstance(argument, Named):
                values += self.places[argument.name]
            elif isinstance(argument, str):
                values += self.bench.text(argument)
            else:
                values.append(argument)
        return values

    async def check(self, row: Row) -> None:
        rule, name, arguments, errno, result = row
        assert await self.bench.call(name, *self.values(arguments)) is errno, rule
        [out] = self.places["OUT"]
        if isinstance(result, bytes):
            assert self.bench.guest.read(out, len(result)) == result, rule
        elif result is not None:
            width = "<Q" if name in ("fd_seek", "fd_tell", "clock_time_get", "clock_res_get") else "<I"
            found: int = struct.unpack_from(width, self.bench.guest.read(out, 8))[0]
            assert found == result, rule

    def close(self) -> None:
        if self.end is not None and not self.end.closed:
            self.end.close()
        self.bench.close()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = await Scene().set()
    yield made
    made.close()


def rows(table: list[Row]) -> pytest.MarkDecorator:
    ids = [f"{name}-{index}" for index, (_, name, *_) in enumerate(table)]
    return pytest.mark.parametrize("row", table, ids=ids)


# -- reading and writing ----------------------------------------------------------------------------------------------

READING: list[Row] = [
    ("witx fd_read: the number of bytes read", "fd_read", (FILE, INTO, OUT), OK, 8),
    ("POSIX read: no data transfer shall occur past the current end-of-file", "fd_pread", (FILE, INTO, 6, OUT), OK, 4),
    ("POSIX read: starting at or after the end-of-file, 0 shall be returned", "fd_pread", (FILE, INTO, 10, OUT), OK, 0),
    ("POSIX read: starting at or after the end-of-file, 0", "fd_pread", (FILE, INTO, 1 << 40, OUT), OK, 0),
    ("POSIX read: nbyte is zero ... return zero and have no other results", "fd_read", (FILE, 0, 0, OUT), OK, 0),
    ("POSIX read: EBADF not a valid file descriptor", "fd_read", (NONE, INTO, OUT), Errno.BADF, None),
    ("POSIX read: EBADF ... open for reading", "fd_read", (WRITE_ONLY, INTO, OUT), Errno.BADF, None),
    ("POSIX pread: EBADF ... open for reading", "fd_pread", (WRITE_ONLY, INTO, 0, OUT), Errno.BADF, None),
    ("Wasmtime: a directory is no file: EBADF", "fd_read", (DIR, INTO, OUT), Errno.BADF, None),
    ("Wasmtime: a directory is no file: EBADF", "fd_pread", (DIR, INTO, 0, OUT), Errno.BADF, None),
    ("POSIX pread: ESPIPE the file is a pipe", "fd_pread", (PIPE, INTO, 0, OUT), Errno.SPIPE, None),
    ("POSIX pread: EINVAL the offset is negative", "fd_pread", (FILE, INTO, 1 << 63, OUT), Errno.INVAL, None),
    ("witx errno fault: bad address: the list", "fd_read", (FILE, BAD, 1, OUT), Errno.FAULT, None),
    ("witx errno fault: bad address: the result", "fd_read", (FILE, INTO, BAD), Errno.FAULT, None),
    ("POSIX readv: EINVAL iovcnt greater than IOV_MAX", "fd_read", (FILE, 16, 1025, OUT), Errno.INVAL, None),
    ("witx fd_write: number of bytes written", "fd_write", (FILE, WORDS, OUT), OK, 5),
    ("POSIX write: EBADF not open for writing", "fd_write", (READ_ONLY, WORDS, OUT), Errno.BADF, None),
    ("POSIX write: EBADF not open for writing", "fd_pwrite", (READ_ONLY, WORDS, 0, OUT), Errno.BADF, None),
    ("POSIX write: EBADF not a valid file descriptor", "fd_write", (NONE, WORDS, OUT), Errno.BADF, None),
    ("Wasmtime: a directory is no file: EBADF", "fd_write", (DIR, WORDS, OUT), Errno.BADF, None),
    ("POSIX pwrite: ESPIPE the file is a pipe", "fd_pwrite", (PIPE, WORDS, 0, OUT), Errno.SPIPE, None),
    ("POSIX pwrite: EINVAL the offset is negative", "fd_pwrite", (FILE, WORDS, 1 << 63, OUT), Errno.INVAL, None),
    ("POSIX write: EFBIG the offset maximum", "fd_pwrite", (FILE, WORDS, (1 << 63) - 2, OUT), Errno.FBIG, None),
    ("POSIX write: zero bytes ... return zero", "fd_write", (FILE, 0, 0, OUT), OK, 0),
    ("witx errno fault: bad address", "fd_write", (FILE, WORDS, BAD), Errno.FAULT, None),
]


@rows(READING)
async def test_reading_and_writing(scene: Scene, row: Row) -> None:
    await scene.check(row)


async def test_positions_after_reading_and_writing(scene: Scene) -> None:
    """witx fd_pread, fd_pwrite: "without using and updating the file descriptor's offset"; fd_read and fd_write do."""
    for name, arguments, position in (
        ("fd_read", (FILE, INTO, OUT), 8), ("fd_pread", (FILE, INTO, 1, OUT), 8),
        ("fd_pwrite", (FILE, WORDS, 1, OUT), 8), ("fd_write", (FILE, WORDS, OUT), 13),
    ):  # fmt: skip
        await scene.check(("", name, arguments, OK, None))
        await scene.check((name, "fd_tell", (FILE, OUT), OK, position))
    assert await scene.bench.content("/notes.txt") == b"0abcde67abcde"


async def test_append_mode(scene: Scene) -> None:
    """witx fdflags append: "data written to the file is always appended to the file's end"."""
    await scene.check(("", "fd_write", (APPENDING, WORDS, OUT), OK, 5))
    await scene.check(("", "fd_seek", (APPENDING, 0, SEEK_SET, OUT), OK, 0))
    await scene.check(("", "fd_write", (APPENDING, WORDS, OUT), OK, 5))
    assert await scene.bench.content("/notes.txt") == TEXT + b"abcdeabcde"


# -- positions --------------------------------------------------------------------------------------------------------

SEEKING: list[Row] = [
    ("witx whence set: relative to start-of-file", "fd_seek", (FILE, 4, SEEK_SET, OUT), OK, 4),
    ("witx whence cur: relative to current position", "fd_seek", (FILE, 4, SEEK_CUR, OUT), OK, 4),
    ("witx whence end: relative to end-of-file", "fd_seek", (FILE, -4, SEEK_END, OUT), OK, 6),
    ("POSIX lseek: allow ... beyond the end of the existing data", "fd_seek", (FILE, 100, SEEK_END, OUT), OK, 110),
    ("POSIX lseek: EINVAL offset would be negative", "fd_seek", (FILE, -1, SEEK_SET, OUT), Errno.INVAL, None),
    ("POSIX lseek: EINVAL ... negative", "fd_seek", (FILE, -11, SEEK_END, OUT), Errno.INVAL, None),
    ("POSIX lseek: EINVAL whence is not a proper value", "fd_seek", (FILE, 0, 3, OUT), Errno.INVAL, None),
    ("POSIX lseek: EOVERFLOW", "fd_seek", (FILE, (1 << 63) - 1, SEEK_END, OUT), Errno.OVERFLOW, None),
    ("POSIX lseek: ESPIPE a pipe", "fd_seek", (PIPE, 0, SEEK_SET, OUT), Errno.SPIPE, None),
    ("POSIX lseek: EBADF", "fd_seek", (NONE, 0, SEEK_SET, OUT), Errno.BADF, None),
    ("Wasmtime: a directory is no file: EBADF", "fd_seek", (DIR, 0, SEEK_SET, OUT), Errno.BADF, None),
    ("witx errno fault", "fd_seek", (FILE, 1, SEEK_SET, BAD), Errno.FAULT, None),
    ("witx fd_tell: current offset, relative to the start", "fd_tell", (FILE, OUT), OK, 0),
    ("witx fd_tell: similar to lseek(fd, 0, SEEK_CUR): ESPIPE", "fd_tell", (PIPE, OUT), Errno.SPIPE, None),
    ("witx fd_tell: similar to lseek: EBADF", "fd_tell", (NONE, OUT), Errno.BADF, None),
    ("Wasmtime: a directory is no file: EBADF", "fd_tell", (DIR, OUT), Errno.BADF, None),
]


@rows(SEEKING)
async def test_positions(scene: Scene, row: Row) -> None:
    await scene.check(row)


# -- sizes, times, syncing --------------------------------------------------------------------------------------------

CHANGING: list[Row] = [
    ("witx fd_filestat_set_size: similar to ftruncate", "fd_filestat_set_size", (FILE, 3), OK, None),
    ("witx: if this increases the size, the extra bytes are zeros", "fd_filestat_set_size", (FILE, 30), OK, None),
    ("POSIX ftruncate: EINVAL less than 0", "fd_filestat_set_size", (FILE, 1 << 63), Errno.INVAL, None),
    ("witx right fd_filestat_set_size", "fd_filestat_set_size", (READ_ONLY, 3), Errno.NOTCAPABLE, None),
    ("POSIX ftruncate: EBADF", "fd_filestat_set_size", (NONE, 3), Errno.BADF, None),
    ("Wasmtime: a directory is no file: EBADF", "fd_filestat_set_size", (DIR, 3), Errno.BADF, None),
    ("POSIX ftruncate: EINVAL ... not a regular file", "fd_filestat_set_size", (PIPE, 3), Errno.INVAL, None),
    ("witx fd_allocate: force the allocation of space", "fd_allocate", (FILE, 0, 50), OK, None),
    ("POSIX posix_fallocate: EINVAL len is zero", "fd_allocate", (FILE, 0, 0), Errno.INVAL, None),
    ("POSIX posix_fallocate: EFBIG offset+len", "fd_allocate", (FILE, (1 << 63) - 1, 1), Errno.FBIG, None),
    ("POSIX posix_fallocate: EINVAL offset less than zero", "fd_allocate", (FILE, 1 << 63, 1), Errno.INVAL, None),
    ("POSIX posix_fallocate: ESPIPE a pipe", "fd_allocate", (PIPE, 0, 1), Errno.SPIPE, None),
    ("POSIX posix_fallocate: EBADF", "fd_allocate", (NONE, 0, 1), Errno.BADF, None),
    ("witx right fd_allocate", "fd_allocate", (READ_ONLY, 0, 1), Errno.NOTCAPABLE, None),
    ("witx fstflags: to the value stored in", "fd_filestat_set_times", (FILE, 5, 6, ATIM | MTIM), OK, None),
    ("witx fstflags: to clock realtime's", "fd_filestat_set_times", (FILE, 0, 0, ATIM_NOW | MTIM_NOW), OK, None),
    ("witx fstflags: none asked for, none changed", "fd_filestat_set_times", (FILE, 1, 1, 0), OK, None),
    ("Wasmtime: one time both ways: EINVAL", "fd_filestat_set_times", (FILE, 1, 1, ATIM | ATIM_NOW), Errno.INVAL, None),
    ("Wasmtime: one time both ways: EINVAL", "fd_filestat_set_times", (FILE, 1, 1, MTIM | MTIM_NOW), Errno.INVAL, None),
    ("POSIX futimens: EINVAL", "fd_filestat_set_times", (FILE, 1, 1, 16), Errno.INVAL, None),
    ("POSIX futimens: EBADF", "fd_filestat_set_times", (NONE, 1, 1, 0), Errno.BADF, None),
    ("POSIX futimens: of directories too", "fd_filestat_set_times", (DIR, 5, 6, ATIM | MTIM), OK, None),
    ("witx fd_sync: similar to fsync", "fd_sync", (FILE,), OK, None),
    ("witx fd_datasync: similar to fdatasync", "fd_datasync", (FILE,), OK, None),
    ("POSIX fsync: EBADF", "fd_sync", (NONE,), Errno.BADF, None),
    ("POSIX fdatasync: EBADF", "fd_datasync", (NONE,), Errno.BADF, None),
    ("POSIX fsync: of directories too", "fd_sync", (DIR,), OK, None),
    ("witx fd_advise: provide file advisory information", "fd_advise", (FILE, 0, 10, 5), OK, None),
    ("POSIX posix_fadvise: len zero: all data after offset", "fd_advise", (FILE, 5, 0, 0), OK, None),
    ("POSIX posix_fadvise: EINVAL invalid advice", "fd_advise", (FILE, 0, 10, 6), Errno.INVAL, None),
    ("POSIX posix_fadvise: ESPIPE a pipe", "fd_advise", (PIPE, 0, 10, 0), Errno.SPIPE, None),
    ("POSIX posix_fadvise: EBADF", "fd_advise", (NONE, 0, 10, 0), Errno.BADF, None),
]


@rows(CHANGING)
async def test_sizes_times_and_syncing(scene: Scene, row: Row) -> None:
    await scene.check(row)


# -- descriptors ------------------------------------------------------------------------------------------------------

DESCRIPTORS: list[Row] = [
    ("POSIX close: EBADF", "fd_close", (NONE,), Errno.BADF, None),
    ("witx fd_close: a directory's too, a preopened one's", "fd_close", (CWD,), OK, None),
    ("witx fd_renumber: atomically replacing a file descriptor", "fd_renumber", (FILE, READ_ONLY), OK, None),
    ("POSIX dup2: fildes equal to fildes2: no change", "fd_renumber", (FILE, FILE), OK, None),
    ("POSIX dup2: EBADF fildes is not valid", "fd_renumber", (NONE, FILE), Errno.BADF, None),
    ("Wasmtime: the one to replace must be open: EBADF", "fd_renumber", (FILE, NONE), Errno.BADF, None),
    ("witx fd_prestat_get: length of the name", "fd_prestat_get", (CWD, OUT), OK, b"\0\0\0\0\1\0\0\0"),
    ("Wasmtime: not preopened: EBADF", "fd_prestat_get", (DIR, OUT), Errno.BADF, None),
    ("Wasmtime: not open: EBADF", "fd_prestat_get", (NONE, OUT), Errno.BADF, None),
    ("witx errno fault", "fd_prestat_get", (CWD, BAD), Errno.FAULT, None),
    ("witx fd_prestat_dir_name: the name", "fd_prestat_dir_name", (CWD, OUT, 1), OK, b"."),
    ("Wasmtime: too short a buffer: ENAMETOOLONG", "fd_prestat_dir_name", (CWD, OUT, 0), Errno.NAMETOOLONG, None),
    ("Wasmtime: not preopened: EBADF", "fd_prestat_dir_name", (FILE, OUT, 1), Errno.BADF, None),
    ("witx fd_fdstat_get: filetype", "fd_fdstat_get", (FILE, OUT), OK, b"\4\0\0\0"),
    ("witx fd_fdstat_get: filetype directory", "fd_fdstat_get", (DIR, OUT), OK, b"\3\0\0\0"),
    ("witx fd_fdstat_get: flags", "fd_fdstat_get", (APPENDING, OUT), OK, b"\4\0\1\0"),
    ("POSIX fcntl: EBADF", "fd_fdstat_get", (NONE, OUT), Errno.BADF, None),
    ("witx fd_fdstat_set_flags: append", "fd_fdstat_set_flags", (FILE, APPEND), OK, None),
    ("witx fd_fdstat_set_flags: nonblock", "fd_fdstat_set_flags", (FILE, NONBLOCK), OK, None),
    ("witx fd_fdstat_set_flags: dsync", "fd_fdstat_set_flags", (FILE, DSYNC), OK, None),
    ("POSIX fcntl: EINVAL", "fd_fdstat_set_flags", (FILE, 32), Errno.INVAL, None),
    ("POSIX fcntl: EBADF", "fd_fdstat_set_flags", (NONE, 0), Errno.BADF, None),
    ("witx: can only be used to remove rights", "fd_fdstat_set_rights", (FILE, Right.FD_READ, 0), OK, None),
    ("witx: can only be used to remove rights", "fd_fdstat_set_rights", (READ_ONLY, ALL, 0), Errno.NOTCAPABLE, None),
    ("POSIX fcntl: EBADF", "fd_fdstat_set_rights", (NONE, 0, 0), Errno.BADF, None),
    ("witx fd_filestat_get: similar to fstat", "fd_filestat_get", (FILE, OUT), OK, None),
    ("POSIX fstat: EBADF", "fd_filestat_get", (NONE, OUT), Errno.BADF, None),
    ("witx errno fault", "fd_filestat_get", (FILE, BAD), Errno.FAULT, None),
]


@rows(DESCRIPTORS)
async def test_descriptors(scene: Scene, row: Row) -> None:
    await scene.check(row)


# -- directories ------------------------------------------------------------------------------------------------------

# Three entries: 24 bytes and the name each.
LISTING: list[Row] = [
    ("witx fd_readdir: stopping when the buffer is filled", "fd_readdir", (DIR, 4096, 10, 0, OUT), OK, 10),
    ("witx: less than the size: the end", "fd_readdir", (DIR, 4096, 4096, 0, OUT), OK, 80),
    ("witx: cookie: the location to start reading: one entry on", "fd_readdir", (DIR, 4096, 4096, 1, OUT), OK, 55),
    ("witx: cookie: behind the last entry nothing", "fd_readdir", (DIR, 4096, 4096, 3, OUT), OK, 0),
    ("Wasmtime: a cookie past the end: nothing", "fd_readdir", (DIR, 4096, 4096, 1 << 40, OUT), OK, 0),
    ("POSIX fdopendir: ENOTDIR", "fd_readdir", (FILE, 4096, 100, 0, OUT), Errno.NOTDIR, None),
    ("POSIX fdopendir: EBADF", "fd_readdir", (NONE, 4096, 100, 0, OUT), Errno.BADF, None),
    ("witx errno fault", "fd_readdir", (DIR, BAD, 100, 0, OUT), Errno.FAULT, None),
    ("witx errno fault", "fd_readdir", (DIR, 4096, 100, 0, BAD), Errno.FAULT, None),
    ("POSIX mkdir: EEXIST", "path_create_directory", (CWD, "dir"), Errno.EXIST, None),
    ("POSIX mkdir: EEXIST a symbolic link", "path_create_directory", (CWD, "gone"), Errno.EXIST, None),
    ("POSIX mkdir: ENOENT a component of the path prefix", "path_create_directory", (CWD, "no/new"), Errno.NOENT, None),
    ("POSIX mkdir: ENOENT path is an empty string", "path_create_directory", (CWD, ""), Errno.NOENT, None),
    ("POSIX mkdir: ENOTDIR", "path_create_directory", (CWD, "notes.txt/new"), Errno.NOTDIR, None),
    ("POSIX mkdir: ELOOP", "path_create_directory", (CWD, "loop/new"), Errno.LOOP, None),
    ("POSIX mkdir: a linked directory is gone through", "path_create_directory", (CWD, "way/new"), OK, None),
    ("POSIX mkdirat: EBADF", "path_create_directory", (NONE, "new"), Errno.BADF, None),
    ("POSIX mkdirat: ENOTDIR fd is no directory", "path_create_directory", (FILE, "new"), Errno.NOTDIR, None),
    ("POSIX mkdir: ENAMETOOLONG", "path_create_directory", (CWD, "n" * 256), Errno.NAMETOOLONG, None),
    ("Wasmtime: the sandbox: EPERM", "path_create_directory", (CWD, "../new"), Errno.PERM, None),
    ("Wasmtime: the sandbox: EPERM", "path_create_directory", (CWD, "/new"), Errno.PERM, None),
    ("POSIX rmdir", "path_remove_directory", (CWD, "empty"), OK, None),
    ("witx: notempty if it is not empty", "path_remove_directory", (CWD, "dir"), Errno.NOTEMPTY, None),
    ("POSIX rmdir: ENOTDIR", "path_remove_directory", (CWD, "notes.txt"), Errno.NOTDIR, None),
    ("POSIX rmdir: ENOTDIR a symbolic link", "path_remove_directory", (CWD, "way"), Errno.NOTDIR, None),
    ("POSIX rmdir: ENOENT", "path_remove_directory", (CWD, "no"), Errno.NOENT, None),
    ("POSIX rmdir: EINVAL the last component is a dot", "path_remove_directory", (CWD, "empty/."), Errno.INVAL, None),
    ("witx: return isdir if the path refers to a directory", "path_unlink_file", (CWD, "dir"), Errno.ISDIR, None),
    ("POSIX unlink: a symbolic link itself", "path_unlink_file", (CWD, "way"), OK, None),
    ("POSIX unlink: ENOENT", "path_unlink_file", (CWD, "no"), Errno.NOENT, None),
    ("POSIX unlink: ENOTDIR", "path_unlink_file", (CWD, "notes.txt/"), Errno.NOTDIR, None),
    ("POSIX unlinkat: EBADF", "path_unlink_file", (NONE, "notes.txt"), Errno.BADF, None),
]


@rows(LISTING)
async def test_directories(scene: Scene, row: Row) -> None:
    await scene.check(row)


# -- opening ----------------------------------------------------------------------------------------------------------

R, W, DIRS = Right.FD_READ, Right.FD_WRITE, abi.DIRECTORY_RIGHTS


def opening(rule: str, path: str, oflags: int, rights: int, errno: Errno, lookup: int = 0, fd: Argument = CWD,
            fdflags: int = 0, out: Argument = OUT) -> Row:  # fmt: skip
    return rule, "path_open", (fd, lookup, path, oflags, rights, rights, fdflags, out), errno, None


OPENING: list[Row] = [
    opening("witx path_open: similar to openat", "notes.txt", 0, R | W, OK),
    opening("witx oflags creat: create file if it does not exist", "new", CREAT, W, OK),
    opening("witx oflags creat: ... if it does", "notes.txt", CREAT, W, OK),
    opening("witx oflags excl: fail if file already exists", "notes.txt", CREAT | EXCL, W, Errno.EXIST),
    opening("POSIX open: O_EXCL: EEXIST regardless of the link's contents", "gone", CREAT | EXCL, W, Errno.EXIST, 1),
    opening("witx oflags trunc: truncate file to size 0", "notes.txt", TRUNC, W, OK),
    opening("witx oflags directory: fail if not a directory", "notes.txt", DIRECTORY, R, Errno.NOTDIR),
    opening("witx oflags directory: a directory", "dir", DIRECTORY, DIRS, OK),
    opening("POSIX open: EISDIR O_WRONLY or O_RDWR", "dir", 0, R | W, Errno.ISDIR),
    opening("POSIX open: EISDIR O_CREAT", "dir", CREAT, R, Errno.ISDIR),
    opening("Wasmtime: making a directory by opening: EINVAL", "new", CREAT | DIRECTORY, R, Errno.INVAL),
    opening("POSIX open: ENOENT", "no", 0, R, Errno.NOENT),
    opening("POSIX open: ENOENT an empty string", "", 0, R, Errno.NOENT),
    opening("POSIX open: ENOTDIR", "notes.txt/x", 0, R, Errno.NOTDIR),
    opening("POSIX open: ENOTDIR a trailing slash", "notes.txt/", 0, R, Errno.NOTDIR),
    opening("witx lookupflags symlink_follow", "link", 0, R, OK, SYMLINK_FOLLOW),
    opening("POSIX open: ELOOP O_NOFOLLOW", "link", 0, R, Errno.LOOP),
    opening("POSIX open: ELOOP a loop exists", "loop", 0, R, Errno.LOOP, SYMLINK_FOLLOW),
    opening("POSIX open: links before the end are followed", "way/inner", 0, R, OK),
    opening("POSIX open: O_CREAT through a linked directory", "way/new", CREAT, W, OK),
    opening("POSIX open: O_CREAT makes what a link leads to", "gone", CREAT, W, OK, SYMLINK_FOLLOW),
    opening("Wasmtime: the sandbox: EPERM", "up", 0, R, Errno.PERM, SYMLINK_FOLLOW),
    opening("Wasmtime: the sandbox: EPERM", "../x", 0, R, Errno.PERM),
    opening("Wasmtime: the sandbox: EPERM", "/notes.txt", 0, R, Errno.PERM),
    opening("Wasmtime: `..` below the directory is fine", "dir/../notes.txt", 0, R, OK),
    opening("POSIX openat: EBADF", "notes.txt", 0, R, Errno.BADF, fd=NONE),
    opening("POSIX openat: ENOTDIR", "notes.txt", 0, R, Errno.NOTDIR, fd=FILE),
    opening("POSIX open: ENAMETOOLONG", "n" * 256, CREAT, W, Errno.NAMETOOLONG),
    opening("POSIX open: EINVAL", "notes.txt", 16, R, Errno.INVAL),
    opening("POSIX open: EINVAL", "notes.txt", 0, R, Errno.INVAL, fdflags=32),
    opening("witx errno fault", "notes.txt", 0, R, Errno.FAULT, out=BAD),
]


@rows(OPENING)
async def test_opening(scene: Scene, row: Row) -> None:
    before = len(scene.bench.process.descriptors)
    await scene.check(row)
    assert len(scene.bench.process.descriptors) == before + (row[3] is OK)


async def test_the_lowest_number_that_is_free(scene: Scene) -> None:
    """witx path_open says "not guaranteed to be the lowest-numbered"; POSIX open: "shall be the lowest"; here it is."""
    assert await scene.bench.call("fd_close", CWD) is OK
    assert scene.bench.open("notes.txt", fd=4) == CWD


async def test_rights_that_are_inherited_bound_those_asked_for(scene: Scene) -> None:
    """witx rights: "path_open ... fs_rights_inheriting"; errno notcapable: "capabilities insufficient"."""
    await scene.check(("", "fd_fdstat_set_rights", (CWD, Right.PATH_OPEN, R), OK, None))
    await scene.check(opening("", "notes.txt", 0, R, OK))
    await scene.check(opening("", "notes.txt", 0, W, Errno.NOTCAPABLE))
    await scene.check(("", "path_unlink_file", (CWD, "notes.txt"), Errno.NOTCAPABLE, None))


# -- names ------------------------------------------------------------------------------------------------------------

NAMES: list[Row] = [
    ("POSIX rename", "path_rename", (CWD, "notes.txt", CWD, "new"), OK, None),
    ("POSIX rename: old removed, new replaced", "path_rename", (CWD, "notes.txt", CWD, "dir/inner"), OK, None),
    ("POSIX rename: the same file: no action", "path_rename", (CWD, "notes.txt", CWD, "notes.txt"), OK, None),
    ("POSIX rename: a symbolic link itself", "path_rename", (CWD, "loop", CWD, "new"), OK, None),
    ("POSIX rename: an empty directory is replaced", "path_rename", (CWD, "dir", CWD, "empty"), OK, None),
    ("POSIX rename: ENOTEMPTY", "path_rename", (CWD, "empty", CWD, "dir"), Errno.NOTEMPTY, None),
    ("POSIX rename: EISDIR", "path_rename", (CWD, "notes.txt", CWD, "dir"), Errno.ISDIR, None),
    ("POSIX rename: ENOTDIR", "path_rename", (CWD, "dir", CWD, "notes.txt"), Errno.NOTDIR, None),
    ("POSIX rename: EINVAL a subdirectory of itself", "path_rename", (CWD, "dir", CWD, "dir/new"), Errno.INVAL, None),
    ("POSIX rename: ENOENT", "path_rename", (CWD, "no", CWD, "new"), Errno.NOENT, None),
    ("POSIX rename: ENOENT an empty string", "path_rename", (CWD, "notes.txt", CWD, ""), Errno.NOENT, None),
    ("Linux rename: EBUSY for a dot", "path_rename", (CWD, ".", CWD, "new"), Errno.BUSY, None),
    ("POSIX renameat: EBADF", "path_rename", (CWD, "notes.txt", NONE, "new"), Errno.BADF, None),
    ("POSIX renameat: ENOTDIR", "path_rename", (CWD, "notes.txt", FILE, "new"), Errno.NOTDIR, None),
    ("Wasmtime: the sandbox: EPERM", "path_rename", (CWD, "notes.txt", CWD, "../new"), Errno.PERM, None),
    ("POSIX symlink", "path_symlink", ("dir/inner", CWD, "new"), OK, None),
    ("POSIX symlink: need not exist", "path_symlink", ("no", CWD, "new"), OK, None),
    ("POSIX symlink: EEXIST", "path_symlink", ("x", CWD, "gone"), Errno.EXIST, None),
    ("POSIX symlink: ENOENT an empty string", "path_symlink", ("", CWD, "new"), Errno.NOENT, None),
    ("POSIX symlink: ENOENT", "path_symlink", ("x", CWD, "no/new"), Errno.NOENT, None),
    ("Wasmtime: an absolute target: EPERM", "path_symlink", ("/etc", CWD, "new"), Errno.PERM, None),
    ("POSIX symlinkat: EBADF", "path_symlink", ("x", NONE, "new"), Errno.BADF, None),
    ("POSIX readlink", "path_readlink", (CWD, "link", OUT, 9, OUT), OK, 9),
    ("POSIX readlink: too short: cut off", "path_readlink", (CWD, "link", 4096, 5, OUT), OK, 5),
    ("POSIX readlink: EINVAL no symbolic link", "path_readlink", (CWD, "notes.txt", 4096, 9, OUT), Errno.INVAL, None),
    ("POSIX readlink: ENOENT", "path_readlink", (CWD, "no", 4096, 9, OUT), Errno.NOENT, None),
    ("witx errno fault", "path_readlink", (CWD, "link", BAD, 9, OUT), Errno.FAULT, None),
    ("POSIX link: EPERM a directory", "path_link", (CWD, 0, "dir", CWD, "new"), Errno.PERM, None),
    ("POSIX link: EEXIST", "path_link", (CWD, 0, "notes.txt", CWD, "dir"), Errno.EXIST, None),
    ("POSIX link: ENOENT", "path_link", (CWD, 0, "no", CWD, "new"), Errno.NOENT, None),
    ("POSIX linkat: EBADF", "path_link", (NONE, 0, "notes.txt", CWD, "new"), Errno.BADF, None),
    ("POSIX linkat: ENOTDIR", "path_link", (CWD, 0, "notes.txt", FILE, "new"), Errno.NOTDIR, None),
    ("witx path_filestat_get: similar to stat", "path_filestat_get", (CWD, 0, "notes.txt", OUT), OK, None),
    ("witx lookupflags: without symlink_follow the link", "path_filestat_get", (CWD, 0, "gone", OUT), OK, None),
    ("POSIX stat: ENOENT", "path_filestat_get", (CWD, 1, "gone", OUT), Errno.NOENT, None),
    ("POSIX stat: ELOOP", "path_filestat_get", (CWD, 1, "loop", OUT), Errno.LOOP, None),
    ("POSIX stat: ENOTDIR", "path_filestat_get", (CWD, 1, "notes.txt/", OUT), Errno.NOTDIR, None),
    ("POSIX fstatat: EBADF", "path_filestat_get", (NONE, 1, "notes.txt", OUT), Errno.BADF, None),
    ("witx path_filestat_set_times", "path_filestat_set_times", (CWD, 0, "notes.txt", 5, 6, ATIM | MTIM), OK, None),
    ("POSIX utimensat: ENOENT", "path_filestat_set_times", (CWD, 0, "no", 5, 6, ATIM), Errno.NOENT, None),
    ("POSIX utimensat: EINVAL", "path_filestat_set_times", (CWD, 0, "notes.txt", 5, 6, 16), Errno.INVAL, None),
]


@rows(NAMES)
async def test_names(scene: Scene, row: Row) -> None:
    await scene.check(row)


# -- polling ----------------------------------------------------------------------------------------------------------


def clock(number: int, timeout: int, flags: int = 0) -> bytes:
    return abi.SUBSCRIPTION.pack(1, abi.EVENT_CLOCK, number, timeout, 0, flags)


def on(fd: Argument, kind: int) -> tuple[Argument, int]:
    return fd, kind


Asked = bytes | tuple[Argument, int]
POLLING: list[tuple[str, list[Asked], list[tuple[Errno, int, int]]]] = [
    ("witx eventtype clock: the time has been reached", [clock(abi.MONOTONIC, 5)], [(OK, abi.EVENT_CLOCK, 0)]),
    ("witx subclockflags: absolute", [clock(abi.REALTIME, 1, ABSTIME)], [(OK, abi.EVENT_CLOCK, 0)]),
    ("witx eventtype fd_read: data available; nbytes", [on(FILE, 1)], [(OK, abi.EVENT_FD_READ, 10)]),
    ("witx eventtype fd_write: capacity available", [on(FILE, 2)], [(OK, abi.EVENT_FD_WRITE, -1)]),
    ("witx: an event's error: a descriptor that is not open", [on(NONE, 1)], [(Errno.BADF, abi.EVENT_FD_READ, 0)]),
    ("witx: events that are ready, others not", [on(FILE, 1), clock(0, 1 << 60)], [(OK, abi.EVENT_FD_READ, 10)]),
    ("witx: as many events as are ready", [on(FILE, 1), on(FILE, 2)],
     [(OK, abi.EVENT_FD_READ, 10), (OK, abi.EVENT_FD_WRITE, -1)]),
    ("POSIX clock_nanosleep: EINVAL an unknown clock", [clock(9, 0)], [(Errno.INVAL, abi.EVENT_CLOCK, 0)]),
    ("Wasmtime: what nothing comes of waits: only the clock", [on(PIPE, 1), clock(1, 7)], [(OK, abi.EVENT_CLOCK, 0)]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "asked", "events"), POLLING, ids=[row[0][:40] for row in POLLING])
async def test_polling(scene: Scene, rule: str, asked: list[Asked], events: list[tuple[Errno, int, int]]) -> None:
    bench, raw = scene.bench, b""
    for subscription in asked:
        if isinstance(subscription, bytes):
            raw += subscription
        else:
            [fd] = scene.values((subscription[0],))
            raw += abi.SUBSCRIPTION.pack(2, subscription[1], fd, 0, 0, 0)
    into, out = bench.room(32 * len(asked)), bench.room(4)
    assert await bench.call("poll_oneoff", bench.guest.put(raw), into, len(asked), out) is OK
    assert bench.u32(out) == len(events), rule
    for index, (errno, kind, size) in enumerate(events):
        _, found, what, nbytes, _ = abi.EVENT.unpack(bench.guest.read(into + 32 * index, 32))
        assert (found, what) == (errno, kind), rule
        assert size in (-1, nbytes), rule


# -- the rest ---------------------------------------------------------------------------------------------------------

REST: list[Row] = [
    ("Wasmtime: no subscriptions: EINVAL", "poll_oneoff", (16, 4096, 0, OUT), Errno.INVAL, None),
    ("witx errno fault", "poll_oneoff", (BAD, 4096, 1, OUT), Errno.FAULT, None),
    ("witx args_sizes_get: the number of arguments", "args_sizes_get", (OUT, 4096), OK, 2),
    ("witx environ_sizes_get: the number of variables", "environ_sizes_get", (OUT, 4096), OK, 1),
    ("witx errno fault", "args_sizes_get", (BAD, OUT), Errno.FAULT, None),
    ("witx errno fault", "args_get", (4096, BAD), Errno.FAULT, None),
    ("witx errno fault", "environ_get", (BAD, 4096), Errno.FAULT, None),
    ("witx clock_time_get: similar to clock_gettime", "clock_time_get", (abi.MONOTONIC, 0, OUT), OK, 5_000_000_000),
    ("witx clock_time_get: nanoseconds since 1970", "clock_time_get", (0, 0, OUT), OK, 1_700_000_000_000_000_000),
    ("POSIX clock_gettime: EINVAL", "clock_time_get", (4, 0, OUT), Errno.INVAL, None),
    ("witx clock_res_get: never 0", "clock_res_get", (abi.REALTIME, OUT), OK, 1),
    ("witx: for unsupported clocks, return EINVAL", "clock_res_get", (4, OUT), Errno.INVAL, None),
    ("witx errno fault", "clock_time_get", (0, 0, BAD), Errno.FAULT, None),
    ("witx random_get: write high-quality random data into a buffer", "random_get", (OUT, 4), OK, b"\0\1\2\3"),
    ("witx random_get: none", "random_get", (OUT, 0), OK, None),
    ("witx errno fault", "random_get", (BAD, 100), Errno.FAULT, None),
    ("witx sched_yield: similar to sched_yield", "sched_yield", (), OK, None),
    ("POSIX raise: EINVAL", "proc_raise", (31,), Errno.INVAL, None),
    ("POSIX raise: signal 0 does nothing", "proc_raise", (0,), OK, None),
    ("POSIX recv: ENOTSOCK", "sock_recv", (FILE, INTO, 0, OUT, 4096), Errno.NOTSOCK, None),
    ("POSIX send: ENOTSOCK", "sock_send", (FILE, WORDS, 0, OUT), Errno.NOTSOCK, None),
    ("POSIX shutdown: ENOTSOCK", "sock_shutdown", (FILE, 3), Errno.NOTSOCK, None),
    ("POSIX accept: ENOTSOCK", "sock_accept", (FILE, 0, OUT), Errno.NOTSOCK, None),
    ("POSIX recv: EBADF", "sock_recv", (NONE, INTO, 0, OUT, 4096), Errno.BADF, None),
    ("POSIX send: EBADF", "sock_send", (NONE, WORDS, 0, OUT), Errno.BADF, None),
    ("POSIX shutdown: EBADF", "sock_shutdown", (NONE, 3), Errno.BADF, None),
    ("POSIX accept: EBADF", "sock_accept", (NONE, 0, OUT), Errno.BADF, None),
]


@rows(REST)
async def test_the_rest(scene: Scene, row: Row) -> None:
    await scene.check(row)


def test_every_function_has_rows() -> None:
    """But proc_exit, which does not return."""
    tables = (READING, SEEKING, CHANGING, DESCRIPTORS, LISTING, OPENING, NAMES, REST)
    assert {name for table in tables for _, name, *_ in table} == set(FUNCTIONS) - {"proc_exit"}
