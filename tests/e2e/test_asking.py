"""Programs that ask each other, by an interface that one of them was started to handle."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from cognu.errors import E
from e2e.harness import daemon, pair, refused
from programs.build import build

ROOT = Path(__file__).parents[2]
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


async def test_the_example_of_the_page_on_calls_does_what_it_says(place: Path) -> None:
    page = (ROOT / "docs" / "native.md").read_text().partition("## To try it\n")[2].partition("\n# ")[0]
    [example] = re.findall(r"(?:^    .*\n)+", page, re.MULTILINE)
    typed = re.findall(r"^    cognu% (.*)$", example, re.MULTILINE)
    printed = [line[4:] for line in example.splitlines() if not re.match(r"    (\$|cognu%) ", line)]
    name = sha256((ROOT / "examples/upper/upper.txt").read_bytes()).hexdigest()
    assert printed.pop(0) == f"{name}  -"
    assert typed[0] == f"name={name}"
    [handler] = [index for index, line in enumerate(typed) if line.endswith(" &")]
    # Who types is slower than a program that starts.
    typed.insert(handler + 1, "until run upper.wasm $name ask begun; do true; done")
    (place / "upper.wasm").write_bytes(build("upper"))
    with daemon(place) as node:
        ended = await node.command("sh", "-c", "\n".join([*typed, "kill %1; wait"]), cwd=place)
        assert ended.output.decode().splitlines() == ["BEGUN", *printed], ended
        refusals = set(ended.errors.splitlines()) - {b"upper: begun: error %d" % E.NOHANDLER.errno}
        assert refusals == set(), ended
        elsewhere = await node.command("sh", "-c", f"run upper.wasm {name} ask near", cwd=place)
        assert (elsewhere.status, elsewhere.output) == (1, b"")
        assert f"error {E.NOHANDLER.errno}".encode() in elsewhere.errors
    assert f"error {E.NOHANDLER.errno}`, NOHANDLER" in page
