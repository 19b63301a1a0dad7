"""WASI preview 1: directories found open, path_open, and symlinks, without an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cognu.runtime.wasi import abi
from cognu.runtime.wasi.abi import (
    CREAT,
    DIRECTORY,
    EXCL,
    TRUNC,
    Errno,
    Right,
)
from wasi_kit import ALL, BAD, READ_RIGHTS, Bench

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


# -- preopens ---------------------------------------------------------------------------------------------------------


async def test_preopens_are_found_from_three_on_until_badf(bench: Bench) -> None:
    names = []
    out, fd = bench.room(8), 3
    while bench.ready("fd_prestat_get", fd, out) is OK:
        tag, size = abi.PRESTAT.unpack(bench.guest.read(out, 8))
        assert tag == 0
        place = bench.room(size)
        assert bench.ready("fd_prestat_dir_name", fd, place, size) is OK
        names.append(bench.guest.read(place, size))
        fd += 1
    assert names == [b".", b"/"]
    assert bench.ready("fd_prestat_get", fd, out) is Errno.BADF
    assert bench.ready("fd_prestat_dir_name", 4, out, 0) is Errno.NAMETOOLONG
    assert bench.ready("fd_prestat_dir_name", 4, out, 8) is OK
    opened = bench.open("dir", DIRECTORY)
    assert bench.ready("fd_prestat_get", opened, out) is Errno.BADF


# -- path_open --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "oflags", "rights", "flags", "follow", "errno"),
    [
        ("notes.txt", 0, READ_RIGHTS, 0, True, OK),
        ("./dir/.//inner/../../dir/inner///./deep.txt", 0, READ_RIGHTS, 0, True, OK),
        ("dir", 0, READ_RIGHTS, 0, True, OK),
        ("dir/", DIRECTORY, ALL & ~Right.FD_WRITE, 0, True, OK),
        ("dir/", DIRECTORY, ALL, 0, True, Errno.ISDIR),
        (".", DIRECTORY, READ_RIGHTS, 0, True, OK),
        ("new", CREAT, ALL, 0, True, OK),
        ("notes.txt", CREAT | TRUNC, ALL, 0, True, OK),
        ("notes.txt", 0, 0, 0, True, OK),
        ("nothing", 0, READ_RIGHTS, 0, True, Errno.NOENT),
        ("nothing/new", CREAT, ALL, 0, True, Errno.NOENT),
        ("", 0, READ_RIGHTS, 0, True, Errno.NOENT),
        ("notes.txt", CREAT | EXCL, ALL, 0, True, Errno.EXIST),
        ("notes.txt", DIRECTORY, READ_RIGHTS, 0, True, Errno.NOTDIR),
        ("notes.txt/", 0, READ_RIGHTS, 0, True, Errno.NOTDIR),
        ("notes.txt/x", 0, READ_RIGHTS, 0, True, Errno.NOTDIR),
        ("notes.txt/x", CREAT, ALL, 0, True, Errno.NOTDIR),
        ("new/", CREAT, ALL, 0, True, Errno.ISDIR),
        ("dir", 0, ALL, 0, True, Errno.ISDIR),
        ("dir", CREAT, READ_RIGHTS, 0, True, Errno.ISDIR),
        ("dir", DIRECTORY | CREAT, READ_RIGHTS, 0, True, Errno.INVAL),
        ("dir", DIRECTORY | TRUNC, READ_RIGHTS, 0, True, Errno.INVAL),
        ("notes.txt", 16, READ_RIGHTS, 0, True, Errno.INVAL),
        ("notes.txt", 0, READ_RIGHTS, 32, True, Errno.INVAL),
        ("/notes.txt", 0, READ_RIGHTS, 0, True, Errno.PERM),
        ("..", 0, READ_RIGHTS, 0, True, Errno.PERM),
        ("dir/../../notes.txt", 0, READ_RIGHTS, 0, True, Errno.PERM),
        ("nothing/../notes.txt", 0, READ_RIGHTS, 0, True, Errno.NOENT),
        ("notes\0.txt", 0, READ_RIGHTS, 0, True, Errno.INVAL),
        ("x" * 256, CREAT, ALL, 0, True, Errno.NAMETOOLONG),
        ("x" * 5000, 0, READ_RIGHTS, 0, True, Errno.NAMETOOLONG),
    ],
)  # fmt: skip
async def test_path_open(
    bench: Bench, path: str, oflags: int, rights: int, flags: int, follow: bool, errno: Errno
) -> None:
    before = len(bench.process.descriptors)
    assert bench.try_open(path, oflags, rights, flags, follow=follow)[0] is errno
    assert len(bench.process.descriptors) == before + (errno is OK)


async def test_path_open_takes_the_lowest_free_number(bench: Bench) -> None:
    first, second = bench.open("notes.txt", rights=READ_RIGHTS), bench.open("notes.txt", rights=READ_RIGHTS)
    assert (first, second) == (0, 1)  # the process has no standard streams
    assert bench.ready("fd_close", first) is OK
    assert bench.open("notes.txt", rights=READ_RIGHTS) == first


async def test_open_files_are_limited(bench: Bench) -> None:
    bench.process.descriptors.limit = len(bench.process.descriptors) + 1
    bench.open("notes.txt", rights=READ_RIGHTS)
    assert bench.try_open("notes.txt", rights=READ_RIGHTS)[0] is Errno.MFILE


async def test_path_open_needs_a_directory_that_is_open(bench: Bench) -> None:
    fd = bench.open("notes.txt", rights=READ_RIGHTS)
    assert bench.try_open("x", fd=fd)[0] is Errno.NOTDIR
    assert bench.try_open("x", fd=77)[0] is Errno.BADF


async def test_bad_pointers_are_efault_and_open_nothing(bench: Bench) -> None:
    before = list(bench.process.descriptors)
    path = bench.text("notes.txt")
    assert bench.ready("path_open", 3, 1, *path, 0, ALL, ALL, 0, BAD) is Errno.FAULT
    assert bench.ready("path_open", 3, 1, BAD, 16, 0, ALL, ALL, 0, bench.room()) is Errno.FAULT
    assert bench.ready("path_open", 3, 1, 16, 0xFFFFFFFF, 0, ALL, ALL, 0, bench.room()) is Errno.FAULT
    assert list(bench.process.descriptors) == before


async def test_names_that_are_not_utf8_are_eilseq(bench: Bench) -> None:
    assert bench.ready("path_open", 3, 1, *bench.text(b"\xff\xfe"), 0, ALL, ALL, 0, bench.room()) is Errno.ILSEQ


async def test_file_opened_for_reading_only_is_not_written(bench: Bench) -> None:
    fd = bench.open("notes.txt", rights=READ_RIGHTS)
    assert bench.write(fd, b"x")[0] is Errno.BADF
    assert await bench.content("/notes.txt") == b"one\ntwo\n"


# -- symlinks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "target", "path", "follow", "errno"),
    [
        ("/l", "notes.txt", "l", True, OK),
        ("/l", "notes.txt", "l", False, Errno.LOOP),
        ("/l", "dir/inner", "l/deep.txt", False, OK),
        ("/dir/l", "../notes.txt", "dir/l", True, OK),
        ("/dir/l", "./inner/../../dir/inner", "dir/l/deep.txt", True, OK),
        ("/l", "dir", "l/", False, OK),
        ("/l", "notes.txt", "l/", True, Errno.NOTDIR),
        ("/l", "notes.txt/", "l", True, Errno.NOTDIR),
        ("/l", "nothing", "l", True, Errno.NOENT),
        ("/l", "l", "l", True, Errno.LOOP),
        ("/l", "/notes.txt", "l", True, Errno.PERM),
        ("/l", "../notes.txt", "l", True, Errno.PERM),
        ("/l", "/dir", "l/inner/deep.txt", True, Errno.PERM),
        ("/dir/l", "../../notes.txt", "dir/l", True, Errno.PERM),
        ("/l", "#c", "l", True, Errno.NOENT),
    ],
)
async def test_symlinks_lead_about_below_the_directory_and_not_out(
    bench: Bench, link: str, target: str, path: str, follow: bool, errno: Errno
) -> None:
    await bench.link(link, target)
    assert bench.try_open(path, rights=READ_RIGHTS, follow=follow)[0] is errno


async def test_symlink_is_fenced_by_the_directory_it_was_opened_below(bench: Bench) -> None:
    await bench.link("/dir/l", "../notes.txt")
    fd = bench.open("dir", DIRECTORY)
    assert bench.try_open("l", rights=READ_RIGHTS, fd=fd)[0] is Errno.PERM
    assert bench.try_open("../notes.txt", rights=READ_RIGHTS, fd=fd)[0] is Errno.PERM
    assert bench.try_open("dir/l", rights=READ_RIGHTS)[0] is OK


async def test_creating_through_a_dangling_link_makes_its_target(bench: Bench) -> None:
    await bench.link("/l", "dir/made")
    fd = bench.open("l", CREAT)
    assert bench.write(fd, b"x") == (OK, 1)
    assert await bench.content("/dir/made") == b"x"
    assert bench.try_open("l", CREAT | EXCL)[0] is Errno.EXIST


async def test_making_and_reading_symlinks(bench: Bench) -> None:
    room, out = bench.room(16), bench.room(4)
    assert bench.ready("path_symlink", *bench.text("notes.txt"), 3, *bench.text("dir/l")) is OK
    assert bench.ready("path_readlink", 3, *bench.text("dir/l"), room, 16, out) is OK
    assert bench.guest.read(room, bench.u32(out)) == b"notes.txt"
    assert bench.ready("path_readlink", 3, *bench.text("dir/l"), room, 3, out) is OK
    assert bench.u32(out) == 3
    assert bench.ready("path_readlink", 3, *bench.text("notes.txt"), room, 16, out) is Errno.INVAL
    assert bench.ready("path_readlink", 3, *bench.text("nothing"), room, 16, out) is Errno.NOENT
    assert bench.ready("path_readlink", 3, *bench.text("dir/l"), BAD, 16, out) is Errno.FAULT
    assert bench.ready("path_symlink", *bench.text("/abs"), 3, *bench.text("m")) is Errno.PERM
    assert bench.ready("path_symlink", *bench.text("x"), 3, *bench.text("dir/l")) is Errno.EXIST
    assert bench.ready("path_symlink", *bench.text("x"), 3, *bench.text("m/")) is Errno.NOENT
    assert bench.ready("path_symlink", *bench.text("x"), 3, *bench.text("../m")) is Errno.PERM
    await bench.link("/abs", "/notes.txt")
    assert bench.ready("path_readlink", 3, *bench.text("abs"), room, 16, out) is Errno.PERM
