"""Trees of empty directories to mount on: the synthetic root `#R`, and what leads to a guest's grants."""

from __future__ import annotations

from collections.abc import Iterable

from cognu.errors import E, FileError
from cognu.files.attach import OWN
from cognu.files.tree import Directory, Node, TreeServer

ROOT_DIRECTORIES = (
    "/bin",
    "/dev",
    "/env",
    "/fd",
    "/man",
    "/mnt/host",
    "/mnt/term",
    "/n",
    "/net",
    "/proc",
    "/srv",
    "/tmp",
)


class SkeletonServer(TreeServer):
    """The directories and files of the given absolute paths and those that lead there, all empty and unchangeable.

    Files are there to be bound over and can't be opened themselves. Raises INVAL for a path that is not absolute or
    has `.` or `..` in it, NOTDIR for one that leads through a file.
    """

    def __init__(self, directories: Iterable[str], files: Iterable[str] = (), spec: str = OWN) -> None:
        self._root = Directory("")
        super().__init__(spec, self._root)
        for path in directories:
            self.plant(path)
        for path in files:
            self.plant(path, directory=False)

    def plant(self, path: str, directory: bool = True) -> None:
        """Add a directory or a file, and what leads there. Raises INVAL, NOTDIR, ISDIR."""
        names = _split(path)
        if directory:
            self._directory(names, path)
            return
        parent = self._directory(names[:-1], path)
        if not names or isinstance(parent.children.get(names[-1]), Directory):
            raise FileError(E.ISDIR, path)
        if names[-1] not in parent.children:
            parent.add(Node(names[-1], 0))

    def uproot(self, keep: Iterable[str]) -> None:
        """Take away all but what leads to the paths in `keep`, which are as they were planted."""
        wanted = {tuple(names[:count]) for names in map(_split, keep) for count in range(1, len(names) + 1)}
        self._prune(self._root, (), wanted)

    def _prune(self, at: Directory, above: tuple[str, ...], wanted: set[tuple[str, ...]]) -> None:
        for name, node in list(at.children.items()):
            if (*above, name) not in wanted:
                at.discard(name)
            if isinstance(node, Directory):
                # Also what is taken away whole: who has it open still must find nothing in it.
                self._prune(node, (*above, name), wanted)

    def _directory(self, names: list[str], path: str) -> Directory:
        at = self._root
        for name in names:
            below = at.children.get(name) or at.add(Directory(name))
            if not isinstance(below, Directory):
                raise FileError(E.NOTDIR, path)
            at = below
        return at


def root_server(more: Iterable[str] = ()) -> SkeletonServer:
    """The root of a node: `ROOT_DIRECTORIES` and `more`, such as the host's top-level directories."""
    return SkeletonServer([*ROOT_DIRECTORIES, *more], spec="#R")


def _split(path: str) -> list[str]:
    names = [name for name in path.split("/") if name]
    if not path.startswith("/") or "\0" in path or "." in names or ".." in names:
        raise FileError(E.INVAL, repr(path), "an absolute path without . and ..")
    return names
