"""Lists within tables: `after` and `before` join the items of one owner; 0 stands for none.

An item that is in no list has no links. `heads` tells an owner's newest item, `tails` its oldest where the order
counts.
"""

from __future__ import annotations

from cognu.kernel.state import Table


def link(heads: Table, after: Table, before: Table, owner: int, item: int) -> None:
    """Put `item`, whose links are 0, first in `owner`'s list."""
    old = heads[owner]
    after[item] = old
    if old:
        before[old] = item
    heads[owner] = item


def unlink(heads: Table, after: Table, before: Table, owner: int, item: int) -> None:
    """Take `item` out of `owner`'s list, wherever in it."""
    behind, ahead = after[item], before[item]
    if behind:
        before[behind] = ahead
    if ahead:
        after[ahead] = behind
    else:
        heads[owner] = behind
    after[item] = 0
    before[item] = 0


def push(heads: Table, tails: Table, after: Table, before: Table, owner: int, item: int) -> None:
    """`link` in a list whose oldest item is known too."""
    if not heads[owner]:
        tails[owner] = item
    link(heads, after, before, owner, item)


def pull(heads: Table, tails: Table, after: Table, before: Table, owner: int, item: int) -> None:
    """`unlink` in a list whose oldest item is known too."""
    if tails[owner] == item:
        tails[owner] = before[item]
    unlink(heads, after, before, owner, item)
