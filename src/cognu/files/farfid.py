"""What the mount driver knows of a fid at its server."""

from __future__ import annotations

from cognu.files.late import Kept
from cognu.files.readahead import ReadAhead
from cognu.files.server import Entry, Fid
from cognu.files.trips import Held
from cognu.files.writebehind import WriteBehind
from cognu.ninep.types import Qid


class Root:
    """The fid of an attach or a Tattenuate: never opened, and there until the last fid walked from it is gone.

    `name` is what the file is called.
    """

    __slots__ = ("name", "number", "qid", "uses")

    def __init__(self, number: int, qid: Qid, name: str = "/") -> None:
        self.number = number
        self.qid = qid
        self.name = name
        self.uses = 0


class FarFid(Fid):
    """A fid of the far server. `names` lead to it from the attach root, which has none."""

    __slots__ = (
        "ahead",
        "behind",
        "entries",
        "held",
        "kept",
        "listed",
        "looked",
        "made",
        "mode",
        "names",
        "number",
        "offset",
        "opened",
        "root",
        "wrote",
    )

    def __init__(self, qid: Qid, number: int, root: Root, names: tuple[str, ...]) -> None:
        super().__init__(qid)
        self.number = number
        self.root = root
        root.uses += 1
        self.names = names
        self.mode: int | None = None  # as it was opened
        self.opened = False  # at the server; perhaps before anybody asked for it, for reading
        self.held: Held | None = None  # what came before it was asked for
        self.offset = 0  # how far an open directory was read on plain 9P2000
        self.entries: list[Entry] = []
        self.listed = 0  # entries given since it was last read from its start
        self.ahead: ReadAhead | None = None
        self.behind: WriteBehind | None = None
        self.made = False  # by whoever has it open
        self.wrote = False  # once, before it was known whether that may be done behind
        self.looked = False  # whether it may
        self.kept: list[Kept] = []  # cancelled reads that are not known to have brought nothing, in order

    def name(self) -> str:
        return self.names[-1] if self.names else self.root.name
