"""Owners of files by name and by number: the table that 9P2000.u and 9P2000.L need, which have both. users(5).

Files here belong to names. What a client is told as a number is the table's for the name, or what the file's server
says, nobody (65534) if it says none. A number that a far server tells is shown by its name here, if it has one. None of
this is authority: who may do what is decided by capabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cognu.errors import E, FileError
from cognu.ninep.types import NONUNAME, Stat

MOST_ROWS = 4096
"""Of a table."""
_NONE: dict[str, int] = {}


class Users:
    """Numbers by name, of users and of groups. It never changes. Of two names with one number the first is shown."""

    def __init__(self, users: Mapping[str, int] = _NONE, groups: Mapping[str, int] = _NONE) -> None:
        self.users = users
        self.groups = groups
        self._user_names = {number: name for name, number in reversed([*users.items()])}
        self._group_names = {number: name for name, number in reversed([*groups.items()])}

    def with_own(self, name: str, uid: int, group: str, gid: int) -> Users:
        """With the node's own user and group by the host's numbers, where the table says nothing else of them."""
        return Users({**_free(self.users, name, uid), **self.users}, {**_free(self.groups, group, gid), **self.groups})

    def numbered(self, stat: Stat) -> Stat:
        """With the numbers of its owners' names."""
        uid, gid = self.users.get(stat.user, stat.uid), self.groups.get(stat.group, stat.gid)
        return stat if (uid, gid) == (stat.uid, stat.gid) else replace(stat, uid=uid, gid=gid)

    def named(self, stat: Stat) -> Stat:
        """With names in place of numbers, as a server of 9P2000.L tells its owners, where the table has some."""
        user = self._user_names.get(stat.uid, stat.user)
        group = self._group_names.get(stat.gid, stat.group)
        return stat if (user, group) == (stat.user, stat.group) else replace(stat, user=user, group=group)

    def user_of(self, uname: str, n_uname: int) -> str:
        """Who attaches, by name: as it says, or by its number if it says no name; "" for neither."""
        return uname or self._user_names.get(n_uname, "")

    def number_of(self, user: str) -> int:
        """What to attach with beside the name; NONUNAME if the user has no number here."""
        return self.users.get(user, NONUNAME)


def parse_users(text: str) -> Users:
    """A table as it lies in HOME/users. Raises `FileError(DAMAGED)`, whose subject tells the line."""
    tables: dict[str, dict[str, int]] = {"user": {}, "group": {}}
    for at, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        table = tables.get(words[0]) if len(words) == 3 else None
        if table is None:
            raise FileError(E.DAMAGED, f"line {at}", "user or group, a name, and a number")
        number = int(words[2]) if words[2].isascii() and words[2].isdigit() and len(words[2]) < 11 else NONUNAME
        if number >= NONUNAME:
            raise FileError(E.DAMAGED, f"line {at}", f"{words[2]} is no number below {NONUNAME}")
        if words[1] in table or number in table.values():
            raise FileError(E.DAMAGED, f"line {at}", "a name or number that was there before")
        if len(table) >= MOST_ROWS:
            raise FileError(E.DAMAGED, f"line {at}", f"at most {MOST_ROWS} of a kind")
        table[words[1]] = number
    return Users(tables["user"], tables["group"])


def _free(table: Mapping[str, int], name: str, number: int) -> dict[str, int]:
    return {} if number in table.values() else {name: number}
