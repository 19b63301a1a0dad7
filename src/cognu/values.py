"""Dataclasses whose values never change, at the price of a plain class; and what the compiled build is to know.

`dataclass(frozen=True)` has every field set by `object.__setattr__` when an object is made, which takes three times as
long as the class without it; of an attribute record with 19 fields, which each request for attributes makes, 3 us. That
nobody changes one is the type checker's to see to, and it does: for it this is `dataclasses.dataclass` itself.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass

    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def dataclass(*, frozen, slots=False):
        """As `dataclasses.dataclass(frozen=True)`: equal and hashed by its fields."""
        assert frozen

        def made(cls):
            return dataclasses.dataclass(slots=slots, unsafe_hash=True)(cls)

        return made

    def mypyc_attr(**_):
        """Tells `scripts/compile` something of a class: what mypyc's native classes have not unless asked for."""
        return lambda cls: cls
