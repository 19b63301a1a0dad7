"""The invitations of a node, in HOME/invitations.json.

An invitation is open, or it is over: used, spent (too many attempts) or withdrawn; its secret is forgotten then. Every
change is on disk before it counts, so that neither a restart nor a crash gives a ticket a second life. Times are wall
clock; within one run an invitation also ends ten minutes after it was made or loaded, in case the clock is set back.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace

from cognu.errors import E, FileError
from cognu.mesh.identity import GRANT_LENGTH, bounded_grants, check_grant_count
from cognu.mesh.join_messages import Refusal
from cognu.mesh.tickets import LIFE_SECONDS, SECRET_SIZE, invitation_id
from cognu.world import Clock, Disk, Keeper

ATTEMPT_LIMIT = 5
OPEN_LIMIT = 32
KEEP_SECONDS = 86_400
"""How long an invitation that is over is remembered, to say why it is refused."""
SECOND = 1_000_000_000
STATES = {"open": None, "used": Refusal.USED, "spent": Refusal.SPENT, "withdrawn": Refusal.WITHDRAWN}


@dataclass(frozen=True)
class Invitation:
    """`number` and `secret` are hexadecimal; `expires` is seconds since 1970; `peer` is who used it."""

    number: str
    secret: str
    expires: int
    grants: tuple[str, ...]
    attempts: int = 0
    state: str = "open"
    peer: str = ""

    def __repr__(self) -> str:
        return f"Invitation({self.number}, {self.state})"


class Invitations:
    """The table; no network."""

    def __init__(self, world: Keeper, home: str) -> None:
        """Raises `FileError(DAMAGED)`."""
        self._disk: Disk = world.disk
        self._clock: Clock = world.clock
        self._random = world.random
        self._home = home
        self._path = f"{home}/invitations.json"
        self.port = 0
        """Where the listener was, so that open tickets still find it after a restart."""
        self._rows: dict[str, Invitation] = {}
        if self._disk.exists(self._path):
            self.port, self._rows = parse_invitations(self._disk.read(self._path), self._path)
        end = self._clock.monotonic() + LIFE_SECONDS * SECOND
        self._ends = dict.fromkeys(self._rows, end)

    def open(self) -> list[Invitation]:
        """Those that can still be used."""
        return [row for row in self._rows.values() if self.refusal(row) is None]

    def seconds_left(self) -> float:
        """Until the last open one expires; 0 if none is open."""
        return max((self._left(row) for row in self.open()), default=0.0)

    def create(self, grants: tuple[str, ...], port: int) -> Invitation:
        """A new invitation. Raises `FileError`: GRANTSFULL, INVAL for grants, BUSY if too many are open."""
        check_grant_count("grants", grants)
        if not bounded_grants(grants):
            raise FileError(E.INVAL, "grants", f"each has 1 to {GRANT_LENGTH} bytes")
        if len(self.open()) >= OPEN_LIMIT:
            raise FileError(E.BUSY, "invite", f"{OPEN_LIMIT} invitations are open")
        secret = self._random.bytes(SECRET_SIZE)
        number = invitation_id(secret).hex()
        row = Invitation(number, secret.hex(), self._now() + LIFE_SECONDS, grants)
        self._ends[number] = self._clock.monotonic() + LIFE_SECONDS * SECOND
        self.port = port
        self._put(row)
        return row

    def attempt(self, number: bytes) -> Invitation | Refusal:
        """Count an attempt, on disk, and only then say whether the invitation is open."""
        row = self._rows.get(number.hex())
        if row is None:
            return Refusal.UNKNOWN
        refusal = self.refusal(row)
        if refusal is not None:
            return refusal
        row = replace(row, attempts=row.attempts + 1)
        self._put(row)
        return row

    def fail(self, number: str) -> None:
        """After a wrong attempt: the last one allowed ends the invitation."""
        row = self._rows[number]
        if row.state == "open" and row.attempts >= ATTEMPT_LIMIT:
            self._put(replace(row, state="spent", secret=""))

    def use(self, number: str, peer: str) -> Refusal | None:
        """Use it up, on disk. None if this call did; else why not."""
        row = self._rows[number]
        refusal = self.refusal(row)
        if refusal is None or (refusal is Refusal.SPENT and row.state == "open"):
            self._put(replace(row, state="used", secret="", peer=peer))
            return None
        return refusal

    def find(self, beginning: str) -> str:
        """The number of the open one that begins so. Raises `FileError`: BADTICKET, AMBIGUOUS."""
        found = [row.number for row in self.open() if beginning and row.number.startswith(beginning.lower())]
        if not found:
            raise FileError(E.BADTICKET, beginning, "no invitation of that number is open")
        if len(found) > 1:
            raise FileError(E.AMBIGUOUS, beginning, ", ".join(found))
        return found[0]

    def withdraw(self, number: str) -> None:
        """Raises `FileError(BADTICKET)` if there is none or it is over."""
        row = self._rows.get(number)
        refusal = Refusal.UNKNOWN if row is None else self.refusal(row)
        if row is None or refusal is not None:
            raise FileError(E.BADTICKET, number, refusal.detail if refusal is not None else "")
        self._put(replace(row, state="withdrawn", secret=""))

    def refusal(self, row: Invitation) -> Refusal | None:
        """Why an attempt at `row` would be refused now."""
        over = STATES[row.state]
        if over is not None:
            return over
        if self._left(row) <= 0:
            return Refusal.EXPIRED
        return Refusal.SPENT if row.attempts >= ATTEMPT_LIMIT else None

    def _now(self) -> int:
        return self._clock.now() // SECOND

    def _left(self, row: Invitation) -> float:
        run = (self._ends[row.number] - self._clock.monotonic()) / SECOND
        return min(run, row.expires - self._clock.now() / SECOND)

    def _put(self, row: Invitation) -> None:
        oldest = self._now() - KEEP_SECONDS
        rows = {key: kept for key, kept in self._rows.items() if kept.expires >= oldest}
        rows[row.number] = row
        self._disk.make_directory(self._home)
        self._disk.write(self._path, format_invitations(self.port, list(rows.values())), 0o600)
        self._rows = rows


def format_invitations(port: int, rows: list[Invitation]) -> bytes:
    return (json.dumps({"version": 1, "port": port, "invitations": [asdict(row) for row in rows]}) + "\n").encode()


def parse_invitations(data: bytes, path: str) -> tuple[int, dict[str, Invitation]]:
    """The port and the rows by number; raises `FileError(DAMAGED)` about `path`."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileError(E.DAMAGED, path, f"not JSON: {error}") from error
    if not isinstance(document, dict) or document.keys() != {"version", "port", "invitations"}:
        raise FileError(E.DAMAGED, path, "no table of invitations")
    port, listed = document["port"], document["invitations"]
    if document["version"] != 1 or type(port) is not int or not 0 <= port <= 65535 or not isinstance(listed, list):
        raise FileError(E.DAMAGED, path, "no table of invitations of this version")
    rows: dict[str, Invitation] = {}
    for index, item in enumerate(listed):
        row = _parse_invitation(item)
        if row is None or row.number in rows:
            raise FileError(E.DAMAGED, path, f"invitation {index}")
        rows[row.number] = row
    return port, rows


def _parse_invitation(item: object) -> Invitation | None:
    if not isinstance(item, dict) or item.keys() != {field.name for field in fields(Invitation)}:
        return None
    texts = (item["number"], item["secret"], item["state"], item["peer"])
    numbers = (item["expires"], item["attempts"])
    grants = item["grants"]
    if not all(isinstance(text, str) for text in texts) or not all(type(n) is int and n >= 0 for n in numbers):
        return None
    if not isinstance(grants, list) or not all(isinstance(grant, str) for grant in grants):
        return None
    if item["state"] not in STATES or not bounded_grants(grants):
        return None
    try:
        secret = bytes.fromhex(item["secret"])
    except ValueError:
        return None
    is_open = item["state"] == "open"
    if is_open and (len(secret) != SECRET_SIZE or invitation_id(secret).hex() != item["number"]):
        return None
    return Invitation(**{**item, "grants": tuple(grants)})
