"""Programs that ask each other, by an interface that one of them was started to handle."""

from __future__ import annotations

from pathlib import Path

from cognu.errors import E
from e2e.harness import pair, refused
from programs.build import build

NAME = b"interface of the test".ljust(32, b"\0").hex()


async def test_a_handler_serves_what_its_maker_starts_later_and_nobody_else(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk, two.desk.client() as other:
        talk = await desk.put(build("talk"), "talk.wasm")
        server = await desk.start(talk, "serve", "2", lines=[f"handle {NAME}"])
        assert (await desk.run(talk, "ask", "one", "two")).output == b"ONE\nTWO\n"
        no_handler = f"emit: {E.NOHANDLER.errno}\n".encode()
        assert (await other.run(talk, "ask", "three")).output == no_handler
        ended = await server.end()
        assert (ended.output, ended.status) == (b"request one from 0 caps 0\nrequest two from 0 caps 0\n", 0)
        assert (await desk.run(talk, "ask", "four")).output == no_handler
        await refused(desk.run(talk, "serve", "1", on="pi", lines=[f"handle {NAME}"]), E.NOTSUP)
        await refused(desk.run(talk, "serve", "1", lines=["isolate", f"handle {NAME}"]), E.NOTSUP)


async def test_a_shell_starts_a_handler_and_then_what_asks_it(place: Path) -> None:
    async with pair(place) as two:
        async with two.desk.client() as desk:
            await desk.put(build("talk"), "talk.wasm")
        script = (
            f"run --handle {NAME} talk.wasm serve 1 >/dev/null &\n"
            "until run talk.wasm ask one | grep ONE; do true; done\nwait\nrun talk.wasm ask two"
        )
        ended = await two.desk.command("sh", "-c", script)
        assert ended.output == f"ONE\nemit: {E.NOHANDLER.errno}\n".encode()
