"""A node that gives its peers wrong bytes for every object they ask for."""

from __future__ import annotations

import sys

from cognu.node.__main__ import main
from cognu.store.objects import Store

if __name__ == "__main__":
    honest = Store.get_local

    async def lie(store: Store, name: str) -> bytes:
        data = await honest(store, name)
        return data[:-1] + bytes([data[-1] ^ 1])

    Store.get_local = lie  # type: ignore[assignment,method-assign]
    sys.exit(main())
