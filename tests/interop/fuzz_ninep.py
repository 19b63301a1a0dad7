"""fuzz_ninep.py TARGET [LIBFUZZER-OPTIONS] CORPUS: looks with atheris for bytes that break one end of 9P.

Targets: `server` and `client` hear conversations that were recorded, with bytes changed; `caller` and `called` play a
client's and a server's part by choices that the bytes are (tests/hostile.py). CORPUS is a directory, which gets the
examples to begin with. The first that breaks something ends it, and is kept in the working directory.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["cognu"]):
    import cognu.files.export
    import cognu.files.mount
    import cognu.ninep.client
    import cognu.ninep.server  # noqa: F401

import hostile
from cognu.ninep.messages import Dialect

Target = Callable[[bytes], Coroutine[Any, Any, object]]


def either(play: Callable[[bytes, bool], Coroutine[Any, Any, object]]) -> Target:
    """Over sockets or in memory, as the first bit says."""
    return lambda data: play(data[1:], bool(data[:1]) and data[0] % 2 == 1)


TARGETS: dict[str, Target] = {
    "server": hostile.say_to_server,
    "client": hostile.say_to_client,
    "caller": either(hostile.serve_hostile_client),
    "called": either(hostile.use_hostile_server),
}
EXAMPLES = 40
"""Strings of choices to begin with, always the same."""
SECONDS = 20
"""An example that takes longer hangs."""


async def examples(target: str) -> list[bytes]:
    if target in ("server", "client"):
        told = [await hostile.recorded(dialect) for dialect in Dialect]
        return [bytes([at]) * (target == "client") + pair[target == "client"] for at, pair in enumerate(told)]
    chance = random.Random(0)
    return [chance.randbytes(chance.randrange(20, 400)) for _ in range(EXAMPLES)]


async def alone(call: Coroutine[Any, Any, object]) -> None:
    """Raises `AssertionError` too if a task is left behind."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(SECONDS):
        await call
    for _ in range(20):
        if asyncio.all_tasks() == before:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"left behind: {asyncio.all_tasks() - before}")


def main() -> None:
    target = sys.argv.pop(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("error")
    loop = asyncio.new_event_loop()
    unheard: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unheard.append(context))
    for at, data in enumerate(loop.run_until_complete(examples(target))):
        (Path(sys.argv[-1]) / f"example-{at:02}").write_bytes(data)

    def one(data: bytes) -> None:
        loop.run_until_complete(alone(TARGETS[target](data)))
        assert not unheard, unheard

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
