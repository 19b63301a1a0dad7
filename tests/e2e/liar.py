"""A node that gives its peers wrong bytes for every object they ask for."""

from __future__ import annotations

import sys

from cognu.node.__main__ import main
from cognu.store.objects import OpenObject

if __name__ == "__main__":
    honest = OpenObject.read

    async def lie(opened: OpenObject, offset: int, count: int) -> bytes:
        data = await honest(opened, offset, count)
        return data[:-1] + bytes([data[-1] ^ 1]) if data else data

    OpenObject.read = lie  # type: ignore[assignment,method-assign]
    sys.exit(main())
