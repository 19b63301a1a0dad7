"""A model of the namespace straight from bind(2) and Plan 9's chan.c: sets, dicts and lists, no handles, no servers.

A file is a number. A mount table is a dict from file to a list of (file, may create). A name is a list of steps, each
(name, file reached, file under the mount point that was crossed there or None).
"""

from __future__ import annotations

from dataclasses import dataclass, field

Files = dict[int, "File"]
Table = dict[int, list[tuple[int, bool]]]


@dataclass
class File:
    server: int
    names: dict[str, int] | None = None  # of a directory, newest last
    text: str = ""
    gone: bool = False


class Refused(Exception):
    """An error, by its class in the recorded scripts."""


@dataclass(frozen=True)
class Step:
    name: str
    file: int  # before any mount on it
    behind: int | None = None  # the file that was gone on from, if a mount point was crossed here


Place = tuple[Step, ...]
"""How a file was reached: the last step's `file` is it, the first is the root."""


@dataclass
class Naive:
    files: Files = field(default_factory=dict)
    table: Table = field(default_factory=dict)
    cwd: Place = ()
    saved: list[tuple[Table, Place]] = field(default_factory=list)

    # -- files --

    def add(self, server: int, directory: int | None, name: str, text: str | None) -> int:
        number = len(self.files) + 1
        self.files[number] = File(server, {} if text is None else None, text or "")
        if directory is not None:
            names = self.files[directory].names
            assert names is not None
            names[name] = number
        return number

    def member(self, directory: int, name: str) -> int:
        file = self.files[directory]
        if file.gone:
            raise Refused("notexist")
        if file.names is None:
            raise Refused("notdir")
        if name not in file.names:
            raise Refused("notexist")
        return file.names[name]

    def holder(self, number: int) -> tuple[dict[str, int], str]:
        for file in self.files.values():
            for name, child in (file.names or {}).items():
                if child == number:
                    assert file.names is not None
                    return file.names, name
        raise Refused("notexist")

    # -- names --

    def shown(self, number: int) -> int:
        """What stands for a file: the first thing mounted on it, or itself."""
        return self.table[number][0][0] if number in self.table else number

    def down(self, place: Place, name: str) -> Place:
        last = place[-1]
        start = self.shown(last.file)
        union = [member for member, _ in self.table.get(last.file, [(start, False)])]
        if self.files[start].names is None and not self.files[start].gone:
            raise Refused("notdir")
        failure = Refused("notexist")
        for index, directory in enumerate(union):
            try:
                found = self.member(directory, name)
            except Refused as refused:
                if index == 0 or str(failure) == "notexist":
                    failure = refused
                continue
            crossed = last.file in self.table
            return (*place[:-1], Step(last.name, last.file, start if crossed else None), Step(name, found))
        raise failure

    def up(self, place: Place) -> Place:
        if self.files[place[-1].file].gone:
            raise Refused("notexist")
        return place if len(place) == 1 else place[:-1]

    def walk(self, path: str) -> Place:
        place = self.root() if path.startswith("/") else self.cwd
        names = [name for name in path.split("/") if name not in ("", ".")]
        for name in names:
            directory = self.shown(place[-1].file)
            if self.files[directory].names is None:
                raise Refused("notexist" if self.files[directory].gone else "notdir")
            place = self.up(place) if name == ".." else self.down(place, name)
        if path.endswith(("/", "/.")) and self.files[self.shown(place[-1].file)].names is None:
            raise Refused("notdir")
        return place

    def root(self) -> Place:
        return (Step("/", 1),)

    # -- operations --

    def ls(self, path: str) -> list[str]:
        place = self.walk(path)
        start = self.shown(place[-1].file)
        if self.files[start].gone:
            raise Refused("notexist")
        if self.files[start].names is None:
            raise Refused("notdir")
        found = []
        for directory, _ in self.table.get(place[-1].file, [(start, False)]):
            file = self.files[directory]
            if file.gone or file.names is None:
                continue
            for name, number in reversed(file.names.items()):
                found.append(("d" if self.files[self.shown(number)].names is not None else "-") + name)
        return found

    def stat(self, path: str) -> list[str | int]:
        place = self.walk(path)
        file = self.files[self.shown(place[-1].file)]
        if file.gone:
            raise Refused("notexist")
        name = place[-1].name if len(place) > 1 else "memfs"
        return [name, "-" if file.names is None else "d", len(file.text)]

    def read(self, path: str) -> str:
        file = self.files[self.shown(self.walk(path)[-1].file)]
        if file.gone:
            raise Refused("notexist")
        if file.names is not None:
            raise Refused("NOTSUP")
        return file.text

    def write(self, path: str, text: str) -> None:
        file = self.files[self.shown(self.walk(path)[-1].file)]
        if file.gone:
            raise Refused("notexist")
        if file.names is not None:
            raise Refused("perm")
        file.text = text

    def _make(self, path: str, text: str | None) -> None:
        if path.endswith("/") and text is not None:
            raise Refused("other")
        names = [name for name in path.split("/") if name not in ("", ".")]
        if not names or names[-1] == "..":
            raise Refused("exists")
        above = ("/" if path.startswith("/") else "") + "/".join(names[:-1])
        place = self.walk(above or ".")
        try:
            existing = self.down(place, names[-1])
        except Refused as refused:
            if str(refused) not in ("notexist", "notdir"):
                raise
        else:
            if text is None:
                raise Refused("exists")
            file = self.files[self.shown(existing[-1].file)]
            if file.gone:
                raise Refused("notexist")
            if file.names is not None:
                raise Refused("perm")
            file.text = text
            return
        where = place[-1].file
        if where in self.table:
            members = [member for member, create in self.table[where] if create]
            if not members:
                raise Refused("perm")
            where = members[0]
        directory = self.files[where]
        if directory.gone:
            raise Refused("notexist")
        if directory.names is None:
            raise Refused("notdir")
        if names[-1] in directory.names:
            raise Refused("exists")
        self.add(directory.server, where, names[-1], text)

    def mkdir(self, path: str) -> None:
        self._make(path, None)

    def create(self, path: str, text: str) -> None:
        self._make(path, text)

    def _own(self, path: str) -> int:
        """A file that is to change its name or go: no mount point, not gone, no root."""
        number = self.walk(path)[-1].file
        if number in self.table:
            raise Refused("mountpoint")
        if self.files[number].gone:
            raise Refused("notexist")
        return number

    def remove(self, path: str) -> None:
        number = self._own(path)
        file = self.files[number]
        try:
            names, name = self.holder(number)
        except Refused:
            raise Refused("perm") from None
        if file.names:
            raise Refused("notempty")
        del names[name]
        file.gone = True

    def rename(self, path: str, new: str) -> None:
        number = self._own(path)
        try:
            names, name = self.holder(number)
        except Refused:
            raise Refused("perm") from None
        if new != name and new in names:
            raise Refused("exists")
        items = [(new if key == name else key, value) for key, value in names.items()]
        names.clear()
        names.update(items)

    def bind(self, source: str, place: str, flags: str) -> None:
        what = self.walk(source)[-1].file
        where = self.walk(place)[-1].file
        create = "MCREATE" in flags
        chain = self.table.get(what)
        first = self.shown(what)
        is_directory = self.files[where].names is not None
        if is_directory != (self.files[first].names is not None) or (not is_directory and "MREPL" not in flags):
            raise Refused("mount")
        if create and chain is not None and (len(chain) > 1 or not chain[0][1]):
            raise Refused("mount")
        added = [(first, create)] + [(member, False) for member, _ in (chain or [])[1:]]
        present = self.table.get(where)
        if "MREPL" in flags:
            self.table[where] = added
        elif "MBEFORE" in flags:
            self.table[where] = added + (present if present is not None else [(where, False)])
        else:
            self.table[where] = (present if present is not None else [(where, False)]) + added

    def unmount(self, source: str, place: str) -> None:
        where = self.walk(place)[-1].file
        what = None if source == "-" else self.shown(self.walk(source)[-1].file)
        if where not in self.table:
            raise Refused("mount")
        if what is None:
            del self.table[where]
            return
        members = self.table[where]
        found = [index for index, (member, _) in enumerate(members) if member == what]
        if not found:
            raise Refused("mount")
        self.table[where] = [member for index, member in enumerate(members) if index != found[0]]
        if not self.table[where]:
            del self.table[where]

    def chdir(self, path: str) -> None:
        place = self.walk(path)
        if self.files[place[-1].file].names is None:
            raise Refused("notdir")
        self.cwd = place

    def pwd(self) -> str:
        if self.files[self.shown(self.cwd[-1].file)].gone:
            raise Refused("notexist")
        return "/" + "/".join(step.name for step in self.cwd[1:])

    def push(self) -> None:
        self.saved.append((self.table, self.cwd))
        self.table = {place: list(members) for place, members in self.table.items()}

    def pop(self) -> None:
        self.table, self.cwd = self.saved.pop()
