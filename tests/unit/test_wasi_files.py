"""The functions of WASI preview 1 on files and directories, one by one, normal and refused, without an engine."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cognu.devices.ram import RamServer
from cognu.errors import E
from cognu.files.mounts import MCREATE, MREPL
from cognu.files.steps import finish
from cognu.kernel import CREATE, GRANT, READ, WRITE
from cognu.runtime.wasi import FUNCTIONS, abi
from cognu.runtime.wasi.abi import (
    APPEND,
    CREAT,
    DIRECTORY,
    DSYNC,
    NONBLOCK,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
    TRUNC,
    Errno,
    Filetype,
    Right,
    errno_of,
)
from wasi_kit import BAD, READ_RIGHTS, Bench, attach

OK = Errno.SUCCESS


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.make("/notes.txt", b"one\ntwo\n")
    await bench.make("/dir", None)
    await bench.make("/dir/inner", None)
    await bench.make("/dir/inner/deep.txt", b"deep")
    yield bench
    bench.close()


def test_all_46_functions_are_there() -> None:
    assert len(FUNCTIONS) == 46


@pytest.mark.parametrize("row", list(E))
def test_every_row_of_the_error_table_has_a_number_of_its_own_kind(row: E) -> None:
    number = errno_of(row)
    assert number is not Errno.SUCCESS
    assert (number is Errno.IO) == (row.errno == 5)


@pytest.mark.parametrize(
    ("row", "number"),
    [(E.NOENT, 44), (E.ACCES, 2), (E.BADF, 8), (E.EXIST, 20), (E.PERM, 63), (E.SPIPE, 70), (E.REVOKED, 72)],
)
def test_numbers_are_those_of_the_specification(row: E, number: int) -> None:
    assert errno_of(row) == number


def test_layouts_have_the_sizes_of_the_specification() -> None:
    sizes = {
        abi.FDSTAT: 24, abi.FILESTAT: 64, abi.PRESTAT: 8, abi.DIRENT: 24, abi.SUBSCRIPTION: 48, abi.EVENT: 32,
    }  # fmt: skip
    assert [layout.size for layout in sizes] == list(sizes.values())


# -- rights -----------------------------------------------------------------------------------------------------------


async def test_rights_narrow_and_never_widen(bench: Bench) -> None:
    fd = bench.open("notes.txt", rights=READ_RIGHTS)
    base = bench.fdstat(fd)[2]
    assert bench.ready("fd_fdstat_set_rights", fd, Right.FD_READ, 0) is OK
    assert bench.fdstat(fd)[2:] == (Right.FD_READ, 0)
    assert bench.ready("fd_fdstat_set_rights", fd, base, 0) is Errno.NOTCAPABLE
    assert bench.ready("fd_fdstat_set_rights", fd, Right.FD_READ, 1) is Errno.NOTCAPABLE
    assert bench.read(fd)[0] is OK
    assert bench.seek(fd, 0, SEEK_SET)[0] is Errno.NOTCAPABLE
    assert bench.ready("fd_fdstat_set_rights", 77, 0, 0) is Errno.BADF


async def test_inheriting_rights_bound_what_is_opened_below(bench: Bench) -> None:
    assert bench.ready("fd_fdstat_set_rights", 3, Right.PATH_OPEN, Right.FD_READ) is OK
    assert bench.try_open("notes.txt", rights=Right.FD_READ, inheriting=0)[0] is OK
    assert bench.try_open("notes.txt", rights=Right.FD_WRITE, inheriting=0)[0] is Errno.NOTCAPABLE
    assert bench.try_open("new", CREAT, Right.FD_READ, inheriting=0)[0] is Errno.NOTCAPABLE
    assert bench.try_open("notes.txt", TRUNC, Right.FD_READ, inheriting=0)[0] is Errno.NOTCAPABLE


async def test_only_setting_rights_narrows_what_a_directory_bequeaths(bench: Bench) -> None:
    """Zig opens directories with too few inheriting rights for the files it makes in them later."""
    await bench.make("/d", None)
    errno, fd = bench.try_open("d", DIRECTORY, Right.PATH_OPEN | Right.PATH_CREATE_FILE, inheriting=0)
    assert errno is OK
    assert bench.try_open("new", CREAT, Right.FD_WRITE, fd=fd, inheriting=Right.FD_WRITE)[0] is OK
    assert bench.ready("fd_fdstat_set_rights", fd, Right.PATH_OPEN, Right.FD_READ) is OK
    assert bench.try_open("new", 0, Right.FD_WRITE, fd=fd, inheriting=0)[0] is Errno.NOTCAPABLE
    errno, below = bench.try_open(".", DIRECTORY, Right.FD_READ, fd=fd, inheriting=0)
    assert errno is OK
    assert bench.fdstat(below)[3] == Right.FD_READ


NEEDS = {
    "fd_advise": (Right.FD_ADVISE, (0, 0, 0)),
    "fd_allocate": (Right.FD_ALLOCATE, (0, 10)),
    "fd_datasync": (Right.FD_DATASYNC, ()),
    "fd_sync": (Right.FD_SYNC, ()),
    "fd_fdstat_set_flags": (Right.FD_FDSTAT_SET_FLAGS, (0,)),
    "fd_filestat_get": (Right.FD_FILESTAT_GET, (256,)),
    "fd_filestat_set_size": (Right.FD_FILESTAT_SET_SIZE, (3,)),
    "fd_filestat_set_times": (Right.FD_FILESTAT_SET_TIMES, (0, 0, 0)),
    "fd_pread": (Right.FD_READ | Right.FD_SEEK, (256, 0, 0, 512)),
    "fd_pwrite": (Right.FD_WRITE | Right.FD_SEEK, (256, 0, 0, 512)),
    "fd_read": (Right.FD_READ, (256, 0, 512)),
    "fd_write": (Right.FD_WRITE, (256, 0, 512)),
    "fd_seek": (Right.FD_SEEK, (1, 0, 512)),
    "fd_tell": (Right.FD_TELL, (512,)),
}


@pytest.mark.parametrize("name", list(NEEDS))
async def test_every_call_on_a_file_needs_its_right(bench: Bench, name: str) -> None:
    rights, arguments = NEEDS[name]
    fd = bench.open("notes.txt")
    assert bench.ready(name, fd, *arguments) is OK
    assert bench.ready("fd_fdstat_set_rights", fd, abi.FILE_RIGHTS & ~rights, 0) is OK
    assert bench.ready(name, fd, *arguments) is Errno.NOTCAPABLE
    assert bench.ready(name, 77, *arguments) is Errno.BADF


async def test_every_call_on_a_path_needs_its_right(bench: Bench) -> None:
    file, new = bench.text("notes.txt"), bench.text("new")
    calls = [
        ("path_create_directory", (3, *new)),
        ("path_filestat_get", (3, 0, *file, 512)),
        ("path_filestat_set_times", (3, 0, *file, 0, 0, 0)),
        ("path_link", (3, 0, *file, 3, *new)),
        ("path_open", (3, 0, *file, 0, 0, 0, 0, 512)),
        ("path_readlink", (3, *file, 512, 1, 600)),
        ("path_remove_directory", (3, *new)),
        ("path_rename", (3, *file, 3, *new)),
        ("path_symlink", (*file, 3, *new)),
        ("path_unlink_file", (3, *file)),
        ("fd_readdir", (3, 1024, 100, 0, 512)),
    ]
    assert bench.ready("fd_fdstat_set_rights", 3, 0, 0) is OK
    for name, arguments in calls:
        assert bench.ready(name, *arguments) is Errno.NOTCAPABLE, name


# -- reading and writing ----------------------------------------------------------------------------------------------


async def test_read_fills_buffers_in_order_and_ends(bench: Bench) -> None:
    fd = bench.open("notes.txt", rights=READ_RIGHTS)
    vector, count = bench.vector(3, 0, 2)
    out = bench.room(4)
    assert bench.ready("fd_read", fd, vector, count, out) is OK
    assert bench.u32(out) == 5
    (first, _), _, (third, _) = struct.iter_unpack("<II", bench.guest.read(vector, 24))
    assert bench.guest.read(first, 3) + bench.guest.read(third, 2) == b"one\nt"
    assert bench.read(fd) == (OK, b"wo\n")
    assert bench.read(fd) == (OK, b"")


async def test_a_bad_pointer_loses_no_data(bench: Bench) -> None:
    fd = bench.open("notes.txt", rights=READ_RIGHTS)
    good, count = bench.vector(3)
    bad = bench.guest.put(struct.pack("<II", BAD, 100))
    assert bench.ready("fd_read", fd, good, count, BAD) is Errno.FAULT
    assert bench.ready("fd_read", fd, bad, 1, bench.room()) is Errno.FAULT
    assert bench.ready("fd_read", fd, BAD, 1, bench.room()) is Errno.FAULT
    assert bench.ready("fd_read", fd, good, 1025, bench.room()) is Errno.INVAL
    assert bench.read(fd) == (OK, b"one\ntwo\n")


async def test_write_gathers_buffers_and_moves_on(bench: Bench) -> None:
    fd = bench.open("new", CREAT)
    assert bench.write(fd, b"ab", b"", b"cd") == (OK, 4)
    assert bench.write(fd, b"ef") == (OK, 2)
    assert await bench.content("/new") == b"abcdef"
    assert bench.ready("fd_write", fd, *bench.vector(b"lost"), BAD) is Errno.FAULT
    assert await bench.content("/new") == b"abcdef"


async def test_positioned_reads_and_writes_leave_the_position(bench: Bench) -> None:
    fd = bench.open("notes.txt")
    vector, count = bench.vector(3)
    out = bench.room(4)
    assert bench.ready("fd_pread", fd, vector, count, 4, out) is OK
    assert bench.guest.read(struct.unpack("<II", bench.guest.read(vector, 8))[0], bench.u32(out)) == b"two"
    assert bench.ready("fd_pwrite", fd, *bench.vector(b"ONE"), 0, out) is OK
    assert bench.seek(fd, 0, SEEK_CUR) == (OK, 0)
    assert await bench.content("/notes.txt") == b"ONE\ntwo\n"
    assert bench.ready("fd_pread", fd, vector, count, 1 << 63, out) is Errno.INVAL
    assert bench.ready("fd_pwrite", fd, vector, count, (1 << 63) - 1, out) is Errno.FBIG


@pytest.mark.parametrize("name", ["fd_read", "fd_write", "fd_pread", "fd_pwrite", "fd_seek", "fd_tell", "fd_allocate"])
async def test_directories_are_not_read_or_sought_like_files(bench: Bench, name: str) -> None:
    arguments = {"fd_pread": (0, 0, 0, 0), "fd_pwrite": (0, 0, 0, 0), "fd_tell": (0,), "fd_allocate": (0, 1)}
    assert bench.ready(name, 3, *arguments.get(name, (0, 0, 0))) is Errno.BADF


@pytest.mark.parametrize(
    ("offset", "whence", "result"),
    [
        (3, SEEK_SET, (OK, 3)), (2, SEEK_CUR, (OK, 4)), (-1, SEEK_CUR, (OK, 1)), (-1, SEEK_END, (OK, 7)),
        (5, SEEK_END, (OK, 13)), (-1, SEEK_SET, (Errno.INVAL, 0)), (-9, SEEK_END, (Errno.INVAL, 0)),
        (0, 3, (Errno.INVAL, 0)),
        ((1 << 63) - 1, SEEK_END, (Errno.OVERFLOW, 0)),
    ],
)  # fmt: skip
async def test_seek(bench: Bench, offset: int, whence: int, result: tuple[Errno, int]) -> None:
    fd = bench.open("notes.txt")
    assert bench.read(fd, 2) == (OK, b"on")
    assert bench.seek(fd, offset, whence) == result
    out = bench.room(8)
    assert bench.ready("fd_tell", fd, out) is OK
    assert bench.u64(out) == (result[1] if result[0] is OK else 2)


async def test_append_writes_at_the_end_wherever_the_position_is(bench: Bench) -> None:
    fd = bench.open("notes.txt", flags=APPEND)
    assert bench.write(fd, b"three") == (OK, 5)
    assert bench.seek(fd, 0, SEEK_CUR) == (OK, 13)
    assert bench.seek(fd, 0, SEEK_SET) == (OK, 0)
    assert bench.write(fd, b"!") == (OK, 1)
    assert await bench.content("/notes.txt") == b"one\ntwo\nthree!"


async def test_append_can_be_set_and_cleared_later(bench: Bench) -> None:
    fd = bench.open("notes.txt")
    assert bench.ready("fd_fdstat_set_flags", fd, APPEND) is OK
    assert bench.fdstat(fd)[1] == APPEND
    assert bench.write(fd, b"end") == (OK, 3)
    assert bench.ready("fd_fdstat_set_flags", fd, NONBLOCK) is OK
    assert bench.seek(fd, 0, SEEK_SET) == (OK, 0)
    assert bench.write(fd, b"ONE") == (OK, 3)
    assert await bench.content("/notes.txt") == b"ONE\ntwo\nend"
    assert bench.ready("fd_fdstat_set_flags", fd, 64) is Errno.INVAL
    assert bench.ready("path_unlink_file", 3, *bench.text("notes.txt")) is OK
    assert bench.ready("fd_fdstat_set_flags", fd, APPEND) is Errno.NOTSUP
    assert bench.fdstat(fd)[1] == NONBLOCK


async def test_dsync_syncs_after_each_write(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(RamServer, "sync", lambda self, fid, data_only: synced.append(data_only))
    fd = bench.open("notes.txt", flags=DSYNC)
    bench.write(fd, b"x")
    assert bench.ready("fd_sync", fd) is OK
    assert bench.ready("fd_datasync", fd) is OK
    assert synced == [True, False, True]


async def test_two_descriptors_on_one_file_have_positions_of_their_own(bench: Bench) -> None:
    first, second = bench.open("notes.txt"), bench.open("notes.txt")
    assert bench.read(first, 4) == (OK, b"one\n")
    assert bench.read(second, 4) == (OK, b"one\n")


# -- attributes -------------------------------------------------------------------------------------------------------


async def test_attributes_by_path_and_by_descriptor_agree(bench: Bench) -> None:
    errno, by_path = bench.path_stat("notes.txt")
    fd, out = bench.open("notes.txt"), bench.room(64)
    assert errno is OK
    assert bench.ready("fd_filestat_get", fd, out) is OK
    assert abi.FILESTAT.unpack(bench.guest.read(out, 64)) == by_path
    assert by_path[2:5] == (Filetype.REGULAR_FILE, 1, 8)
    assert bench.path_stat("dir")[1][2] == Filetype.DIRECTORY
    assert bench.path_stat("dir")[1][1] != by_path[1]
    assert bench.path_stat("nothing")[0] is Errno.NOENT
    assert bench.ready("fd_filestat_get", fd, BAD) is Errno.FAULT


async def test_attributes_of_a_link_and_of_its_target(bench: Bench) -> None:
    await bench.link("/l", "notes.txt")
    assert bench.path_stat("l", follow=False)[1][2] == Filetype.SYMBOLIC_LINK
    assert bench.path_stat("l", follow=True)[1][2] == Filetype.REGULAR_FILE


async def test_size_is_set_and_allocated(bench: Bench) -> None:
    fd = bench.open("notes.txt")
    assert bench.ready("fd_filestat_set_size", fd, 3) is OK
    assert await bench.content("/notes.txt") == b"one"
    assert bench.ready("fd_allocate", fd, 2, 3) is OK
    assert await bench.content("/notes.txt") == b"one\0\0"
    assert bench.ready("fd_allocate", fd, 0, 2) is OK
    assert await bench.content("/notes.txt") == b"one\0\0"
    assert bench.ready("fd_allocate", fd, 0, 0) is Errno.INVAL
    assert bench.ready("fd_allocate", fd, 1, (1 << 63) - 1) is Errno.FBIG
    assert bench.ready("fd_filestat_set_size", fd, 1 << 40) is Errno.NOSPC


@pytest.mark.parametrize(
    ("flags", "errno", "times"),
    [
        (abi.ATIM | abi.MTIM, OK, (11, 22)), (abi.ATIM, OK, (11, None)), (abi.MTIM_NOW, OK, (None, None)),
        (abi.ATIM | abi.ATIM_NOW, Errno.INVAL, (None, None)), (abi.MTIM | abi.MTIM_NOW, Errno.INVAL, (None, None)),
        (16, Errno.INVAL, (None, None)), (0, OK, (None, None)),
    ],
)  # fmt: skip
async def test_times(bench: Bench, flags: int, errno: Errno, times: tuple[int | None, int | None]) -> None:
    fd, now = bench.open("notes.txt"), bench.clock.wall
    path = bench.text("notes.txt")
    assert bench.ready("path_filestat_set_times", 3, 0, *path, 11, 22, flags) is errno
    expected = tuple(now if time is None else time for time in times)
    assert bench.path_stat("notes.txt")[1][5:7] == expected
    assert bench.ready("fd_filestat_set_times", fd, 33, 44, abi.ATIM | abi.MTIM) is OK
    assert bench.path_stat("notes.txt")[1][5:7] == (33, 44)
    assert bench.ready("path_filestat_set_times", 3, 0, *bench.text("no"), 1, 1, 1) is Errno.NOENT


async def test_advice_is_checked_and_taken(bench: Bench) -> None:
    fd = bench.open("notes.txt")
    assert bench.ready("fd_advise", fd, 0, 10, 5) is OK
    assert bench.ready("fd_advise", fd, 0, 10, 6) is Errno.INVAL
    assert bench.ready("fd_advise", fd, 1 << 63, 1, 0) is Errno.INVAL


# -- directories ------------------------------------------------------------------------------------------------------


async def test_directory_lists_dot_dotdot_and_its_entries(bench: Bench) -> None:
    errno, entries = bench.names(3)
    assert errno is OK
    assert [(name, kind) for name, _, _, kind in entries] == [
        (".", Filetype.DIRECTORY), ("..", Filetype.DIRECTORY), ("notes.txt", Filetype.REGULAR_FILE),
        ("dir", Filetype.DIRECTORY),
    ]  # fmt: skip
    assert [cookie for _, cookie, _, _ in entries] == [1, 2, 3, 4]
    assert {inode for name, _, inode, _ in entries if name == "notes.txt"} == {bench.path_stat("notes.txt")[1][1]}


@pytest.mark.parametrize("size", [24, 30, 60, 200])
async def test_directory_is_read_in_small_pieces_by_cookies(bench: Bench, size: int) -> None:
    for number in range(300):
        await bench.make(f"/dir/f{number}")
    fd, cookie, names = bench.open("dir", DIRECTORY), 0, []
    buffer, out = bench.room(size), bench.room(4)
    while True:
        assert bench.ready("fd_readdir", fd, buffer, size, cookie, out) is OK
        used = bench.u32(out)
        data, whole = bench.guest.read(buffer, used), 0
        while len(data) >= 24 and len(data) >= 24 + abi.DIRENT.unpack_from(data)[2]:
            cookie, _, length, _ = abi.DIRENT.unpack_from(data)
            names.append(data[24 : 24 + length].decode())
            data, whole = data[24 + length :], whole + 1
        if used < size:
            break
        if not whole:
            size += 40  # as C libraries do, when not even one entry fits
            buffer = bench.room(size)
    assert names == [".", "..", "inner"] + [f"f{number}" for number in range(300)]


async def test_cookie_zero_takes_a_fresh_look(bench: Bench) -> None:
    assert len(bench.names(3)[1]) == 4
    await bench.make("/more")
    assert len(bench.names(3, cookie=4)[1]) == 0
    assert len(bench.names(3)[1]) == 5
    assert bench.names(3, cookie=(1 << 64) - 1) == (OK, [])


async def test_readdir_refusals(bench: Bench) -> None:
    fd = bench.open("notes.txt")
    assert bench.names(fd)[0] is Errno.NOTDIR
    assert bench.names(77)[0] is Errno.BADF
    assert bench.ready("fd_readdir", 3, BAD, 100, 0, bench.room()) is Errno.FAULT
    assert bench.ready("fd_readdir", 3, bench.room(100), 100, 0, BAD) is Errno.FAULT


@pytest.mark.parametrize(
    ("name", "path", "errno"),
    [
        ("path_create_directory", "new", OK),
        ("path_create_directory", "new/", OK),
        ("path_create_directory", "dir/inner/new", OK),
        ("path_create_directory", "dir", Errno.EXIST),
        ("path_create_directory", "notes.txt", Errno.EXIST),
        ("path_create_directory", ".", Errno.EXIST),
        ("path_create_directory", "no/new", Errno.NOENT),
        ("path_create_directory", "notes.txt/new", Errno.NOTDIR),
        ("path_create_directory", "../new", Errno.PERM),
        ("path_create_directory", "/new", Errno.PERM),
        ("path_remove_directory", "dir/inner", Errno.NOTEMPTY),
        ("path_remove_directory", "empty", OK),
        ("path_remove_directory", "empty/", OK),
        ("path_remove_directory", "notes.txt", Errno.NOTDIR),
        ("path_remove_directory", "no", Errno.NOENT),
        ("path_remove_directory", ".", Errno.INVAL),
        ("path_remove_directory", "empty/.", Errno.INVAL),
        ("path_remove_directory", "..", Errno.PERM),
        ("path_remove_directory", "to_empty", Errno.NOTDIR),
        ("path_unlink_file", "notes.txt", OK),
        ("path_unlink_file", "to_empty", OK),
        ("path_unlink_file", "empty", Errno.ISDIR),
        ("path_unlink_file", "notes.txt/", Errno.NOTDIR),
        ("path_unlink_file", "no", Errno.NOENT),
        ("path_unlink_file", "../notes.txt", Errno.PERM),
    ],
)
async def test_making_and_removing(bench: Bench, name: str, path: str, errno: Errno) -> None:
    await bench.make("/empty", None)
    await bench.link("/to_empty", "empty")
    before = {name for name, _, _, _ in bench.names(3)[1]}
    assert bench.ready(name, 3, *bench.text(path)) is errno
    after = {name for name, _, _, _ in bench.names(3)[1]}
    if errno is not OK:
        assert after == before
    elif name == "path_create_directory":
        assert bench.path_stat(path)[1][2] == Filetype.DIRECTORY
    else:
        assert after == before - {path.rstrip("/")}


async def test_a_removed_file_is_read_on_through_its_descriptor(bench: Bench) -> None:
    fd = bench.open("notes.txt")
    assert bench.ready("path_unlink_file", 3, *bench.text("notes.txt")) is OK
    assert bench.read(fd) == (OK, b"one\ntwo\n")
    assert bench.path_stat("notes.txt")[0] is Errno.NOENT


@pytest.mark.parametrize(
    ("old", "new", "errno"),
    [
        ("notes.txt", "renamed", OK),
        ("notes.txt", "dir/renamed", OK),
        ("notes.txt", "other", OK),
        ("dir", "moved/", OK),
        ("notes.txt", "dir/../notes.txt", OK),
        ("notes.txt", "dir", Errno.ISDIR),
        ("dir", "notes.txt", Errno.NOTDIR),
        ("dir", "dir/inner/below", Errno.INVAL),
        ("notes.txt", "new/", Errno.NOTDIR),
        ("notes.txt/", "new", Errno.NOTDIR),
        ("no", "new", Errno.NOENT),
        ("notes.txt", "no/new", Errno.NOENT),
        (".", "new", Errno.BUSY),
        ("notes.txt", "../new", Errno.PERM),
        ("/notes.txt", "new", Errno.PERM),
    ],
)
async def test_rename(bench: Bench, old: str, new: str, errno: Errno) -> None:
    await bench.make("/other", b"other")
    inode = bench.path_stat(old)[1][1]
    assert bench.ready("path_rename", 3, *bench.text(old), 3, *bench.text(new)) is errno
    if errno is OK:
        assert bench.path_stat(new)[1][1] == inode
        assert bench.path_stat(old)[0] is (OK if "notes.txt" in new else Errno.NOENT)


async def test_rename_moves_a_link_and_not_its_target(bench: Bench) -> None:
    await bench.link("/l", "notes.txt")
    assert bench.ready("path_rename", 3, *bench.text("l"), 3, *bench.text("m")) is OK
    assert bench.path_stat("m", follow=False)[1][2] == Filetype.SYMBOLIC_LINK
    assert bench.path_stat("notes.txt")[0] is OK


# -- descriptors ------------------------------------------------------------------------------------------------------


async def test_close_and_renumber(bench: Bench) -> None:
    first, second = bench.open("notes.txt"), bench.open("dir/inner/deep.txt")
    assert bench.ready("fd_renumber", first, 40) is Errno.BADF
    assert bench.ready("fd_renumber", 40, first) is Errno.BADF
    assert bench.ready("fd_renumber", first, first) is OK
    assert bench.ready("fd_renumber", second, first) is OK
    assert bench.read(first) == (OK, b"deep")
    assert bench.read(second)[0] is Errno.BADF
    assert bench.ready("fd_close", first) is OK
    assert bench.ready("fd_close", first) is Errno.BADF
    assert bench.ready("fd_close", 3) is OK
    assert bench.try_open("notes.txt")[0] is Errno.BADF


async def test_nothing_is_left_open_when_the_process_ends(bench: Bench) -> None:
    fd = bench.open("notes.txt")
    bench.open("dir", DIRECTORY)
    bench.names(3)
    chan = bench.process.descriptors[fd]
    bench.program.close()
    bench.processes.end(bench.process, 0)
    assert chan.closed
    assert bench.read(fd)[0] is Errno.BADF
    assert bench.authority.kernel.processes.alive[chan.domain.pid] == 0


# -- mounts and capabilities ------------------------------------------------------------------------------------------


async def _mount(bench: Bench, place: str, rights: int) -> RamServer:
    """Another tree in memory at `place`, under a capability with these rights."""
    server = RamServer(bench.clock, spec="#s")
    source = attach(bench.namespace.domain, server, rights | GRANT)
    where = await finish(bench.namespace.find(place, bench.process.cwd, bench.process))
    bench.namespace.mount(source, where, MREPL | MCREATE)
    return server


async def test_a_file_without_the_right_is_eacces(bench: Bench) -> None:
    await _mount(bench, "/dir", READ)
    assert bench.try_open("dir/new", CREAT)[0] is Errno.ACCES
    assert bench.ready("path_create_directory", 3, *bench.text("dir/new")) is Errno.ACCES
    assert bench.ready("path_symlink", *bench.text("x"), 3, *bench.text("dir/l")) is Errno.ACCES
    assert bench.names(bench.open("dir", DIRECTORY))[0] is OK


async def test_names_are_moved_and_linked_within_one_server_only(bench: Bench) -> None:
    await _mount(bench, "/dir", READ | WRITE | CREATE)
    assert bench.ready("path_rename", 3, *bench.text("notes.txt"), 3, *bench.text("dir/n")) is Errno.XDEV
    assert bench.ready("path_link", 3, 0, *bench.text("notes.txt"), 3, *bench.text("dir/n")) is Errno.XDEV
    assert bench.ready("path_link", 3, 0, *bench.text("dir"), 3, *bench.text("n")) is Errno.PERM
    assert bench.ready("path_link", 3, 0, *bench.text("no"), 3, *bench.text("n")) is Errno.NOENT
    assert bench.ready("path_link", 3, 0, *bench.text("notes.txt"), 3, *bench.text("dir")) is Errno.EXIST


async def test_what_is_mounted_can_not_be_removed_or_renamed(bench: Bench) -> None:
    await _mount(bench, "/dir", READ | WRITE | CREATE)
    assert bench.ready("path_remove_directory", 3, *bench.text("dir")) is Errno.BUSY
    assert bench.ready("path_rename", 3, *bench.text("dir"), 3, *bench.text("n")) is Errno.BUSY


async def test_files_of_different_servers_have_different_devices(bench: Bench) -> None:
    await _mount(bench, "/dir", READ)
    assert bench.path_stat("dir")[1][0] != bench.path_stat("notes.txt")[1][0]


async def test_a_rename_gives_no_right_that_the_old_name_did_not_give(bench: Bench) -> None:
    """The same tree is mounted twice, once to be read alone: nothing of it becomes writable by moving it."""
    for place, rights in (("/dir", READ | WRITE | CREATE), ("/dir/inner", READ)):
        source = attach(bench.namespace.domain, bench.ram, rights | GRANT)
        where = await finish(bench.namespace.find(place, bench.process.cwd, bench.process))
        bench.namespace.mount(source, where, MREPL | MCREATE)
        if place == "/dir":
            break
    source = attach(bench.namespace.domain, bench.ram, READ | GRANT)
    await bench.make("/ro", None)
    where = await finish(bench.namespace.find("/ro", bench.process.cwd, bench.process))
    bench.namespace.mount(source, where, MREPL | MCREATE)
    out = bench.ready("path_rename", 3, *bench.text("ro/notes.txt"), 3, *bench.text("dir/n"))
    assert out is Errno.ACCES
    assert bench.ready("path_link", 3, 0, *bench.text("ro/notes.txt"), 3, *bench.text("dir/n")) is Errno.ACCES
