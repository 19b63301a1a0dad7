"""Directories of the host: nothing leads out of them, nothing hangs, nothing leaks.

Everything here runs with both kinds of handle; the tests hold for an ordinary user and for root.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError, Misuse
from cognu.world import HostSteps, WouldWait
from cognu.world.cached import can_open_cached
from cognu.world.host_handles import HANDLE, Descriptor, NamedHandle, PathHandle
from cognu.world.host_names import component, decode, encode
from cognu.world.host_tree import RealHostTree
from cognu.world.refusals import refusals

SECRET = b"outside"


@pytest.fixture(params=[PathHandle, NamedHandle])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealHostTree]:
    """A tree at `tmp_path/in`, with a secret beside it in `tmp_path/out`."""
    gc.collect()  # what earlier tests forgot is not to vanish in the midst of this one
    before = len(os.listdir("/dev/fd"))
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret").write_bytes(SECRET)
    made = RealHostTree(str(tmp_path / "in"), request.param)
    yield made
    made.close()
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before


@pytest.fixture
def inside(tmp_path: Path, tree: RealHostTree) -> Path:
    return tmp_path / "in"


def refused(error: E, call: Callable[..., object], *args: object, **more: object) -> None:
    with pytest.raises(FileError) as caught:
        call(*args, **more)
    assert caught.value.error is error, caught.value


@pytest.mark.parametrize(("number", "detail"), [(errno.EACCES, "the host refuses it"), (errno.ENOENT, "")])
def test_what_the_host_refuses_is_said_to_be_the_hosts_refusal(number: int, detail: str) -> None:
    with pytest.raises(FileError) as caught, refusals("file"):
        raise OSError(number, "x")
    assert (caught.value.subject, caught.value.errno, caught.value.detail) == ("file", number, detail)


def test_a_file_is_made_written_read_and_found_again(tree: RealHostTree, inside: Path) -> None:
    root = tree.root()
    before = os.umask(0o077)
    try:
        node, file = tree.create(root, "file", 0o664, True)
    finally:
        os.umask(before)
    assert file.pwrite(3, b"def") == 3
    assert file.pwrite(0, memoryview(b"abc")) == 3
    assert file.append(bytearray(b"ghi")) == 3
    assert file.pread(1, 100) == b"bcdefghi"
    assert file.pread(9, 100) == b""
    for beyond in (1 << 63, (1 << 64) - 1):
        refused(E.INVAL, file.pread, beyond, 100)
        assert file.pread_now(beyond, 100) is None
    file.sync(True)
    file.sync(False)
    found = tree.stat(node)
    assert (found.kind, found.mode, found.size, found.links) == ("-", 0o664, 9, 1)
    assert (found.uid, found.gid) == (os.getuid(), os.getgid())
    assert found.identity == tree.stat(tree.walk(root, "file")).identity
    assert (inside / "file").read_bytes() == b"abcdefghi"


def test_create_keeps_what_is_there_unless_exclusive_refuses_it(tree: RealHostTree, inside: Path) -> None:
    (inside / "file").write_bytes(b"old")
    (inside / "file").chmod(0o640)
    refused(E.EXIST, tree.create, tree.root(), "file", 0o600, True)
    node, file = tree.create(tree.root(), "file", 0o600, False)
    assert file.pread(0, 9) == b"old"
    assert tree.stat(node).mode == 0o640
    (inside / "dir").mkdir()
    refused(E.ISDIR, tree.create, tree.root(), "dir", 0o600, False)
    refused(E.NOTDIR, tree.create, node, "x", 0o600, False)


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "../out", "/etc", "a\0b", "..\0"])
def test_what_is_no_single_component_is_refused(tree: RealHostTree, inside: Path, name: str) -> None:
    root = tree.root()
    (inside / "file").touch()
    file = tree.walk(root, "file")
    refused(E.INVAL, tree.walk, root, name)
    refused(E.INVAL, tree.create, root, name, 0o600, False)
    refused(E.INVAL, tree.make_directory, root, name, 0o700)
    refused(E.INVAL, tree.symlink, root, name, "x")
    refused(E.INVAL, tree.link, root, name, file)
    refused(E.INVAL, tree.unlink, root, name, False)
    refused(E.INVAL, tree.unlink, root, name, True)
    refused(E.INVAL, tree.rename, root, name, root, "x")
    refused(E.INVAL, tree.rename, root, "file", root, name)
    assert os.listdir(inside) == ["file"]


@pytest.mark.parametrize("target", ["../out", "/", "..", "../out/secret", "/proc/self/root", "link"])
def test_a_link_is_itself_and_leads_nowhere(tree: RealHostTree, inside: Path, target: str) -> None:
    root = tree.root()
    link = tree.symlink(root, "link", target)
    assert tree.readlink(link) == os.readlink(inside / "link") == target
    assert tree.stat(link).kind == "l"
    refused(E.NOTDIR, tree.walk, link, "secret")
    refused(E.NOTDIR, tree.list, link)
    refused(E.LOOP, tree.open, link, True, False, False)
    refused(E.LOOP, tree.open, link, False, True, True)
    refused(E.EXIST, tree.create, root, "link", 0o600, True)
    refused(E.LOOP, tree.create, root, "link", 0o600, False)
    refused(E.NOTSUP, tree.change, link, mode=0o777)
    refused(E.NOTSUP, tree.change, link, size=0)
    refused(E.NOTSUP, tree.change, link, mtime=0)
    refused(E.NOTDIR, tree.unlink, root, "link", True)
    tree.unlink(root, "link", False)
    assert (inside.parent / "out" / "secret").read_bytes() == SECRET


SWAPPED = (E.NOENT, E.NOTDIR, E.LOOP, E.STALE, E.AGAIN)


def use_everything(tree: RealHostTree) -> bytes | E:
    """Read, change and make files below `name`; what was read, or why not."""
    try:
        root = tree.root()
        node = tree.walk(tree.walk(root, "name"), "secret")
        file = tree.open(node, True, True, False)
        data = file.pread(0, 100)
        tree.change(node, size=7, mode=0o600, mtime=1)
        made = tree.create(tree.walk(root, "name"), "new", 0o600, False)[1]
        made.pwrite(0, b"x")
        if "link" not in tree.list(tree.walk(root, "name")):
            tree.link(tree.walk(root, "name"), "link", node)
        tree.unlink(tree.walk(root, "name"), "link", False)
        return data
    except FileError as error:
        if error.error not in SWAPPED:
            raise
        return error.error


def lay_trap(inside: Path) -> None:
    (inside / "name").mkdir()
    (inside / "name" / "secret").write_bytes(b"inside!")
    os.symlink("../out", inside / "trap")


def check_outside(inside: Path) -> None:
    secret = inside.parent / "out" / "secret"
    assert os.listdir(inside.parent / "out") == ["secret"]
    assert secret.read_bytes() == SECRET
    assert secret.stat().st_nlink == 1
    assert secret.stat().st_mtime_ns > 1


def test_a_directory_swapped_for_a_link_before_any_one_call_never_leads_out(
    tree: RealHostTree, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_trap(inside)
    left = 0

    def swapping(call: Callable[..., object]) -> Callable[..., object]:
        def swapped(*args: object, **more: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                rename(inside / "name", inside / "spare")
                rename(inside / "trap", inside / "name")
            return call(*args, **more)

        return swapped

    rename = os.rename
    outcomes: list[bytes | E] = []
    with monkeypatch.context() as patch:
        for name in ("open", "stat", "fstat", "link", "unlink", "chmod", "utime", "ftruncate", "fchmod", "dup"):
            patch.setattr(os, name, swapping(getattr(os, name)))
        while left <= 0:
            left = len(outcomes) + 1
            outcomes.append(use_everything(tree))
            if left <= 0:
                rename(inside / "name", inside / "trap")
                rename(inside / "spare", inside / "name")
    # The last round was over before its swap.
    assert outcomes[-1] == b"inside!"
    assert len(outcomes) > 10
    assert set(outcomes) <= {b"inside!", *SWAPPED}
    check_outside(inside)


def test_a_directory_swapped_for_a_link_again_and_again_never_leads_out(tree: RealHostTree, inside: Path) -> None:
    lay_trap(inside)
    stop = threading.Event()

    def swap() -> None:
        # `name` is in turn a directory of the tree, nothing, and a link that leads out.
        while not stop.is_set():
            os.rename(inside / "name", inside / "spare")
            os.rename(inside / "trap", inside / "name")
            os.rename(inside / "name", inside / "trap")
            os.rename(inside / "spare", inside / "name")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        outcomes = {use_everything(tree) for _ in range(1000)}
    finally:
        stop.set()
        swapping.join()
    assert outcomes <= {b"inside!", *SWAPPED}
    assert use_everything(tree) == b"inside!"
    check_outside(inside)


def test_a_handle_stays_with_its_file_when_the_name_goes_to_another(tree: RealHostTree, inside: Path) -> None:
    (inside / "a").write_bytes(b"first")
    node = tree.walk(tree.root(), "a")
    os.rename(inside / "a", inside / "b")
    os.symlink("../out/secret", inside / "a")
    for call in (
        lambda: tree.open(node, True, False, False).pread(0, 9),
        lambda: tree.change(node, mode=0o600),
        lambda: tree.change(node, size=5),
        lambda: tree.change(node, mtime=5),
        lambda: tree.link(tree.root(), "c", node),
    ):
        try:
            assert call() in (b"first", None)
        except FileError as error:
            # A handle by name can't follow the file; it must notice.
            if error.error not in (E.STALE, E.LOOP) or not isinstance(node, NamedHandle):
                raise
    secret = os.stat(inside.parent / "out" / "secret")
    assert secret.st_size == len(SECRET)
    assert secret.st_nlink == 1
    assert secret.st_mtime_ns > 5


def test_directories_are_made_listed_and_removed(tree: RealHostTree, inside: Path) -> None:
    root = tree.root()
    before = os.umask(0o077)
    try:
        sub = tree.make_directory(root, "sub", 0o755)
    finally:
        os.umask(before)
    assert (tree.stat(sub).kind, tree.stat(sub).mode) == ("d", 0o755)
    tree.create(sub, "x", 0o600, True)[1].close()
    assert tree.list(root) == ["sub"]
    assert tree.list(sub) == ["x"]
    refused(E.EXIST, tree.make_directory, root, "sub", 0o755)
    refused(E.NOTEMPTY, tree.unlink, root, "sub", True)
    refused(E.ISDIR, tree.unlink, root, "sub", False)
    refused(E.NOTDIR, tree.unlink, sub, "x", True)
    refused(E.ISDIR, tree.open, sub, True, False, False)
    refused(E.ISDIR, tree.change, sub, size=0)
    tree.unlink(sub, "x", False)
    tree.unlink(root, "sub", True)
    refused(E.NOENT, tree.unlink, root, "sub", True)
    refused(E.NOENT, tree.walk, root, "sub")
    assert os.listdir(inside) == []


def test_rename_moves_across_directories_and_replaces(tree: RealHostTree, inside: Path) -> None:
    root = tree.root()
    a, b = tree.make_directory(root, "a", 0o700), tree.make_directory(root, "b", 0o700)
    (inside / "a" / "x").write_bytes(b"x")
    (inside / "b" / "y").write_bytes(b"y")
    node = tree.walk(a, "x")
    identity = tree.stat(node).identity
    tree.rename(a, "x", b, "y")
    assert tree.stat(tree.walk(b, "y")).identity == identity
    assert (tree.list(a), tree.list(b)) == ([], ["y"])
    refused(E.NOENT, tree.rename, a, "x", b, "y")
    refused(E.INVAL, tree.rename, root, "a", a, "inside-itself")
    refused(E.NOTEMPTY, tree.rename, root, "a", root, "b")
    refused(E.NOTDIR, tree.rename, root, "a", b, "y")
    assert sorted(tree.list(root)) == ["a", "b"]


def test_change_sets_what_is_given_and_nothing_else(tree: RealHostTree, inside: Path) -> None:
    (inside / "f").write_bytes(b"12345")
    node = tree.walk(tree.root(), "f")
    tree.change(node, mtime=1_000_000_001, atime=2_000_000_002)
    tree.change(node, mode=0o400)
    assert (inside / "f").stat().st_mtime_ns == 1_000_000_001
    tree.change(node, mode=0o600, size=2, atime=3)
    found = tree.stat(node)
    assert (found.mode, found.size, found.atime) == (0o600, 2, 3)
    tree.change(node, mtime=7)
    assert (tree.stat(node).mtime, tree.stat(node).atime) == (7, 3)
    refused(E.INVAL, tree.change, node, size=-1)
    for wrong in (0o4755, 0o2755):
        refused(E.PERM, tree.change, node, mode=wrong)
        refused(E.PERM, tree.create, tree.root(), "g", wrong, True)
        refused(E.PERM, tree.make_directory, tree.root(), "g", wrong)
    assert tree.stat(node).mode == 0o600
    assert os.listdir(inside) == ["f"]
    directory = tree.make_directory(tree.root(), "d", 0o700)
    tree.change(directory, mode=0o1777, mtime=9)
    assert (tree.stat(directory).mode, tree.stat(directory).mtime) == (0o1777, 9)


def test_hard_links_join_the_same_file(tree: RealHostTree, inside: Path) -> None:
    root = tree.root()
    (inside / "f").write_bytes(b"x")
    node = tree.walk(root, "f")
    tree.link(root, "g", node)
    assert tree.stat(tree.walk(root, "g")).identity == tree.stat(node).identity
    assert tree.stat(node).links == 2
    refused(E.EXIST, tree.link, root, "g", node)
    sub = tree.make_directory(root, "d", 0o700)
    refused(E.PERM, tree.link, root, "h", sub)
    refused(E.INVAL, tree.readlink, node)


def test_pipes_neither_hang_at_open_nor_at_read(tree: RealHostTree, inside: Path) -> None:
    os.mkfifo(inside / "fifo")
    node = tree.walk(tree.root(), "fifo")
    assert tree.stat(node).kind == "p"
    refused(E.NXIO, tree.open, node, False, True, False)
    reader = tree.open(node, True, False, False)
    assert reader.pread(0, 10) == b""
    writer = tree.open(node, False, True, False)
    refused(E.AGAIN, reader.pread, 0, 10)
    assert writer.pwrite(1000, b"one") == 3
    assert writer.append(b"two") == 3
    assert reader.pread(77, 10) == b"onetwo"

    def fill() -> None:
        while True:
            writer.pwrite(0, bytes(65536))

    refused(E.AGAIN, fill)
    reader.close()
    refused(E.PIPE, writer.pwrite, 0, b"x")
    writer.sync(False)
    refused(E.INVAL, tree.change, node, size=0)


def test_sockets_are_seen_and_not_opened(tree: RealHostTree, inside: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(inside / "s"))
    node = tree.walk(tree.root(), "s")
    assert tree.stat(node).kind == "s"
    refused(E.NXIO, tree.open, node, True, False, False)
    tree.unlink(tree.root(), "s", False)


def test_devices_read_and_write(tree: RealHostTree) -> None:
    devices = RealHostTree("/dev", type(tree.root()))  # type: ignore[arg-type]
    zero = devices.walk(devices.root(), "zero")
    assert devices.stat(zero).kind == "c"
    file = devices.open(zero, True, True, False)
    assert file.pread(12345, 10) == bytes(10)
    null = devices.open(devices.walk(devices.root(), "null"), True, True, False)
    assert null.pwrite(0, b"x") == 1
    assert null.append(b"x") == 1
    assert null.pread(0, 5) == b""
    null.sync(True)
    refused(E.NOSPC, devices.open(devices.walk(devices.root(), "full"), False, True, False).pwrite, 0, b"x")
    devices.close()


def test_opening_needs_a_direction_and_truncates_only_for_writing(tree: RealHostTree, inside: Path) -> None:
    (inside / "f").write_bytes(b"12345")
    node = tree.walk(tree.root(), "f")
    refused(E.INVAL, tree.open, node, False, False, False)
    refused(E.INVAL, tree.open, node, True, False, True)
    assert (inside / "f").read_bytes() == b"12345"
    reading = tree.open(node, True, False, False)
    refused(E.BADF, reading.pwrite, 0, b"x")
    refused(E.INVAL, reading.pread, -1, 5)
    refused(E.INVAL, reading.pread, 1 << 70, 5)
    refused(E.INVAL, reading.pread, 0, -1)
    refused(E.BADF, tree.open(node, False, True, True).pread, 0, 1)
    assert (inside / "f").read_bytes() == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to be")
def test_permissions_of_the_host_hold_and_are_told(tree: RealHostTree, inside: Path) -> None:
    (inside / "f").write_bytes(b"12345")
    (inside / "f").chmod(0)
    (inside / "d").mkdir(0o700)
    node, sub, root = tree.walk(tree.root(), "f"), tree.walk(tree.root(), "d"), tree.root()
    os.seteuid(65534)
    try:
        refused(E.ACCES, tree.open, node, True, False, False)
        refused(E.ACCES, tree.create, root, "g", 0o600, True)
        refused(E.ACCES, tree.create, root, "f", 0o600, False)
        refused(E.ACCES, tree.walk, sub, "x")
        refused(E.ACCES, tree.list, sub)
        refused(E.ACCES, tree.unlink, root, "f", False)
        refused(E.ACCES, tree.make_directory, root, "h", 0o700)
        refused(E.ACCES, tree.symlink, root, "h", "x")
        with pytest.raises(FileError) as caught:
            tree.change(node, mode=0o777)
        assert caught.value.error in (E.PERM, E.ACCES)
    finally:
        os.seteuid(0)
    assert sorted(os.listdir(inside)) == ["d", "f"]


def test_names_that_are_not_utf_8_are_listed_walked_and_removed(tree: RealHostTree, inside: Path) -> None:
    raw = os.fsencode(str(inside)) + b"/caf\xe9\xff"
    with open(raw, "wb") as file:
        file.write(b"x")
    (shown,) = tree.list(tree.root())
    shown.encode("utf-8")
    assert shown == "caf\uefe9\uefff"
    assert tree.open(tree.walk(tree.root(), shown), True, False, False).pread(0, 5) == b"x"
    tree.rename(tree.root(), shown, tree.root(), "plain")
    assert os.listdir(inside) == ["plain"]
    link = tree.symlink(tree.root(), "l", shown)
    assert tree.readlink(link) == shown
    assert os.readlink(os.fsencode(str(inside)) + b"/l") == b"caf\xe9\xff"
    refused(E.ILSEQ, tree.walk, tree.root(), "\udcff")
    refused(E.ILSEQ, tree.symlink, tree.root(), "m", "\ud800")
    refused(E.INVAL, tree.symlink, tree.root(), "m", "a\0b")
    refused(E.NAMETOOLONG, tree.walk, tree.root(), "x" * 256)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_every_name_a_host_can_have_shows_as_utf_8_and_comes_back(name: bytes) -> None:
    shown = decode(name)
    shown.encode("utf-8")
    assert encode(shown) == name


@given(st.text(st.characters() | st.sampled_from("./\0\uef80\uefff\ud800")))
def test_any_text_is_a_component_or_refused(name: str) -> None:
    try:
        raw = component(name)
    except FileError as error:
        str(error).encode("utf-8")
        if error.error not in (E.INVAL, E.ILSEQ):
            raise
    else:
        assert raw not in (b"", b".", b"..")
        assert not set(raw) & set(b"/\0")


def test_thousands_of_entries_are_listed_and_open_nothing(tree: RealHostTree, inside: Path) -> None:
    for number in range(3000):
        (inside / f"{number:05}").touch()
    root = tree.root()
    before = len(os.listdir("/dev/fd"))
    assert sorted(tree.list(root)) == [f"{number:05}" for number in range(3000)]
    for number in range(0, 3000, 10):
        node = tree.walk(root, f"{number:05}")
        assert tree.stat(node).size == 0
        node.close()
    assert len(os.listdir("/dev/fd")) == before


def test_failed_calls_leave_no_handle_open(tree: RealHostTree, inside: Path) -> None:
    (inside / "f").touch()
    (inside / "d").mkdir()
    root = tree.root()
    file, sub = tree.walk(root, "f"), tree.walk(root, "d")
    before = len(os.listdir("/dev/fd"))
    for _ in range(50):
        refused(E.NOENT, tree.walk, root, "none")
        refused(E.NOTDIR, tree.walk, file, "x")
        refused(E.EXIST, tree.create, root, "f", 0o600, True)
        refused(E.EXIST, tree.make_directory, root, "f", 0o700)
        refused(E.EXIST, tree.symlink, root, "f", "x")
        refused(E.ISDIR, tree.open, sub, True, False, False)
        refused(E.ISDIR, tree.create, root, "d", 0o600, False)
        refused(E.NOTDIR, tree.list, file)
    assert len(os.listdir("/dev/fd")) == before


def test_a_closed_handle_says_so_and_a_dropped_one_is_closed(tree: RealHostTree, inside: Path) -> None:
    (inside / "f").write_bytes(b"x")
    node = tree.walk(tree.root(), "f")
    file = tree.open(node, True, False, False)
    node.close()
    node.close()
    refused(E.BADF, tree.stat, node)
    refused(E.BADF, tree.open, node, True, False, False)
    assert file.pread(0, 1) == b"x"
    file.close()
    file.close()
    refused(E.BADF, file.pread, 0, 1)
    with pytest.raises(Misuse):
        tree.stat(object())  # type: ignore[arg-type]


def test_a_descriptor_in_use_keeps_its_number_until_the_last_user_is_done() -> None:
    reading, writing = os.pipe()
    descriptor = Descriptor(reading)
    with descriptor as fd:
        with descriptor as again:
            assert fd == again == reading
            descriptor.close()
        os.fstat(reading)
        with pytest.raises(FileError):
            descriptor.__enter__()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)
    os.close(writing)


def test_a_tree_is_a_directory_that_exists(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    for kind in (PathHandle, NamedHandle):
        refused(E.NOENT, RealHostTree, str(tmp_path / "none"), kind)
        refused(E.NOTDIR, RealHostTree, str(tmp_path / "f"), kind)
        refused(E.INVAL, RealHostTree, "a\0b", kind)
        refused(E.ILSEQ, RealHostTree, "/\ud800", kind)


def test_space_is_what_the_host_says(tree: RealHostTree, inside: Path) -> None:
    size, blocks, free = tree.space()
    found = os.statvfs(inside)
    assert (size, blocks) == (found.f_frsize, found.f_blocks)
    assert 0 <= free <= blocks


def test_kinds_and_owners_that_have_no_name_are_told_by_number(tree: RealHostTree, inside: Path) -> None:
    (inside / "f").touch()
    if os.geteuid() == 0:
        os.chown(inside / "f", 54321, 54322)
    found = tree.stat(tree.walk(tree.root(), "f"))
    if os.geteuid() == 0:
        assert (found.user, found.group, found.uid, found.gid) == ("54321", "54322", 54321, 54322)
    assert stat.filemode(stat.S_IFREG | found.mode)[0] == found.kind


# -- what is answered from memory --


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[tuple[RealHostTree, HostSteps]]:
    """A tree and its quick steps; where the host has none, the tree's own, which answer the same."""
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"file")
    (tmp_path / "l").symlink_to("d")
    os.mkfifo(tmp_path / "p")
    made = RealHostTree(str(tmp_path))
    assert (made.quick is not None) is (HANDLE is PathHandle and can_open_cached())
    yield made, made.quick or made
    made.close()
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except (FileError, WouldWait) as error:
        return error.error if isinstance(error, FileError) else None


def test_quick_steps_answer_as_the_tree_does(quick: tuple[RealHostTree, HostSteps]) -> None:
    tree, steps = quick
    root = tree.root()
    again = steps.root()
    assert steps.stat(again).identity == tree.stat(root).identity
    for name in ("d", "l", "p"):
        slow, fast = tree.walk(root, name), steps.walk(root, name)
        assert steps.stat(fast) == tree.stat(slow)
        slow.close()
        fast.close()
    directory = steps.walk(root, "d")
    file = steps.walk(directory, "f")
    opened = steps.open(file, True, False, False)
    assert opened.pread(0, 10) == b"file"
    opened.close()
    assert outcome(lambda: steps.walk(root, "none")) in (E.NOENT, None)  # the host may not remember that
    refused(E.NOTDIR, steps.walk, file, "f")
    for name in ("..", ".", "", "d/f", "/etc", "a\0b"):
        refused(E.INVAL, steps.walk, root, name)
    for node in (root, again, directory, file):
        node.close()
    refused(E.BADF, steps.walk, root, "d")
    refused(E.BADF, steps.stat, file)


@given(name=st.text(max_size=8))
def test_quick_steps_know_no_other_names_than_the_tree(name: str) -> None:
    tree = RealHostTree("/")
    steps = tree.quick or tree
    root = tree.root()
    fast, slow = outcome(lambda: steps.walk(root, name)), outcome(lambda: tree.walk(root, name))
    try:
        assert fast is None or type(fast) is type(slow)
        assert fast is None or not isinstance(fast, E) or fast is slow
    finally:
        for node in (fast, slow, root, tree):
            if isinstance(node, PathHandle | NamedHandle | RealHostTree):
                node.close()


def test_what_may_take_time_is_not_quick(quick: tuple[RealHostTree, HostSteps]) -> None:
    tree, steps = quick
    if steps is tree:
        return  # this host has none: nothing is promised
    root = steps.root()
    pipe, directory = steps.walk(root, "p"), steps.walk(root, "d")
    file = steps.walk(directory, "f")
    for node, write, truncate in (
        (pipe, False, False),
        (directory, False, False),
        (file, True, False),
        (file, True, True),
    ):
        with pytest.raises(WouldWait):
            steps.open(node, not truncate, write, truncate)
    assert isinstance(file, PathHandle)
    file.local = False  # as on a network's file system
    with pytest.raises(WouldWait):
        steps.stat(file)
    with pytest.raises(WouldWait):
        steps.open(file, True, False, False)
    for node in (root, pipe, directory, file):
        node.close()


def test_quick_steps_stay_in_one_mount_and_know_a_foreign_file_system() -> None:
    tree = RealHostTree("/")
    root = tree.root()
    other = tree.walk(root, "proc" if os.path.exists("/proc") else "dev")
    if tree.quick is not None and tree.stat(other).identity[0] != tree.stat(root).identity[0]:
        with pytest.raises(WouldWait):
            tree.quick.walk(root, "proc")
        with pytest.raises(WouldWait):
            tree.quick.stat(other)
    for node in (root, other, tree):
        node.close()


def test_attributes_are_those_of_the_file_held_and_of_no_link(tree: RealHostTree, inside: Path) -> None:
    (inside / "file").write_bytes(b"x")
    (inside / "dir").mkdir()
    root = tree.root()
    os.setxattr(inside / "file", "user.outside", b"there")
    for name in ("file", "dir"):
        node = tree.walk(root, name)
        tree.setxattr(node, "user.\uefff", b"value", 0)
        assert os.getxattr(inside / name, b"user.\xff") == tree.getxattr(node, "user.\uefff") == b"value"
        refused(E.EXIST, tree.setxattr, node, "user.\uefff", b"", os.XATTR_CREATE)
        refused(E.NODATA, tree.setxattr, node, "user.none", b"", os.XATTR_REPLACE)
        refused(E.NODATA, tree.getxattr, node, "user.none")
        assert "user.\uefff" in tree.listxattr(node)
        tree.removexattr(node, "user.\uefff")
        refused(E.NODATA, tree.removexattr, node, "user.\uefff")
    assert tree.getxattr(tree.walk(root, "file"), "user.outside") == b"there"
    link = tree.symlink(root, "link", "file")
    for call in (tree.getxattr, tree.removexattr):
        refused(E.NOTSUP, call, link, "user.outside")
    refused(E.NOTSUP, tree.setxattr, link, "user.outside", b"", 0)
    refused(E.NOTSUP, tree.listxattr, link)
