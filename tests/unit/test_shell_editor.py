"""Editing at a prompt: keys out of bytes, what is drawn, what Tab shows, and that no key is lost when a prompt ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.keys import Keys
from prompt_toolkit.utils import get_cwidth

from cognu.errors import E
from cognu.files.stopping import asked_to_stop
from cognu.shell.completion import Offer, Place
from cognu.shell.editor import CONTROL, MOST_OFFERED, RESIZE, Editor, _goes_on, _Keys, _Recalled, _Screen, _table
from cognu.shell.history import History
from cognu.shell.interactive import Interrupted
from cognu.shell.state import Streams
from shell_fake import Bench, Collector, FakeWorld, Pipe, PipeEnd

TURNS = 60
"""More turns of the loop than a prompt takes to end."""


# -- keys -------------------------------------------------------------------------------------------------------------


def keys_of(*pieces: bytes) -> list[tuple[str, str]]:
    keys = _Keys()
    for piece in pieces:
        keys.feed_bytes(piece)
    return [(str(press.key), press.data) for press in [*keys.read_keys(), *keys.flush_keys()]]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("a日", ["a", "日"]),
        ("\r\x03\x04\x1a\x7f", [Keys.ControlM, Keys.ControlC, Keys.ControlD, Keys.ControlZ, Keys.ControlH]),
        ("\x1b[A\x1b[3~", [Keys.Up, Keys.Delete]),
        ("\x1b[200~one\rtwo\x1b[201~", [Keys.BracketedPaste]),
        ("\x1b", [Keys.Escape]),
    ],
)
def test_keys_are_the_same_in_whatever_pieces_their_bytes_come(typed: str, expected: list[str]) -> None:
    data = typed.encode()
    whole = keys_of(data)
    assert [key for key, _ in whole] == [str(key) for key in expected]
    assert keys_of(*(data[at : at + 1] for at in range(len(data)))) == whole
    for at in range(len(data)):
        assert keys_of(data[:at], data[at:]) == whole


PRINTED = st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"])


@given(st.text(PRINTED), st.integers(1, 4))
def test_text_passes_as_it_is_typed(text: str, size: int) -> None:
    data = text.encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert "".join(shown for _, shown in keys_of(*pieces)) == text


@given(st.binary(), st.integers(1, 4))
def test_any_bytes_are_keys_and_none_is_lost(data: bytes, size: int) -> None:
    data += b"\n"
    keys = keys_of(*(data[at : at + size] for at in range(0, len(data), size)))
    if b"\x1b" not in data and b"\x9b" not in data:
        assert "".join(shown for _, shown in keys) == data.decode("utf-8", "surrogateescape")
    else:
        assert keys


def test_keys_that_come_while_nobody_listens_are_told_to_whoever_listens_next() -> None:
    keys = _Keys()
    seen: list[str] = []

    def ready() -> None:
        seen.extend(press.data for press in keys.read_keys())

    keys.feed_bytes(b"a")
    with keys.attach(ready):
        keys.feed_bytes(b"b")
        assert seen == ["a", "b"]
        with keys.detach():
            keys.feed_bytes(b"c")
            assert seen == ["a", "b"]
        assert seen == ["a", "b", "c"]
    keys.feed_bytes(b"d")
    assert seen == ["a", "b", "c"]
    assert [press.data for press in keys.read_keys()] == ["d"]


# -- what is drawn ----------------------------------------------------------------------------------------------------


async def test_what_is_drawn_goes_out_whole_and_in_order_and_the_end_comes_after_it() -> None:
    screen = _Screen()
    screen.write("one")
    screen.write("ä")
    assert await screen.more()
    assert screen.take() == "oneä".encode()
    more = asyncio.create_task(screen.more())
    await asyncio.sleep(0)
    assert not more.done()
    screen.write("last")
    screen.end()
    assert await more
    assert screen.take() == b"last"
    assert not await screen.more()
    screen.begin()
    more = asyncio.create_task(screen.more())
    await asyncio.sleep(0)
    assert not more.done()
    screen.write("again")
    assert await more


async def test_what_was_drawn_between_two_prompts_goes_out_with_the_next() -> None:
    screen = _Screen()
    screen.end()
    screen.write("between")
    screen.begin()
    assert await screen.more()
    assert screen.take() == b"between"


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("", False), ("echo x", False), ("for x in 1 2", True), ("echo 'a", True), ("echo a |", True),
        ("cat <<E\nx", True), ("cat <<E\nx\nE\n", False), ("if true; then", True), (")", False), ("f() {", True),
        ("echo \\", True),
    ],
)  # fmt: skip
def test_a_line_goes_on_if_another_could_end_the_script(text: str, more: bool) -> None:
    assert _goes_on(text) == more


@given(st.text())
def test_any_text_ends_or_goes_on(text: str) -> None:
    assert _goes_on(text) in (True, False)


def offer(names: list[str]) -> Offer:
    return Offer(Place("path", 0, ""), tuple(names))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1), st.integers(1, 200))
def test_a_table_of_names_is_no_wider_than_the_window_and_has_them_all(names: list[str], columns: int) -> None:
    lines = _table(offer(names), columns).split("\r\n")
    assert lines.pop() == ""
    widest = max(get_cwidth(name) for name in ("".join(c if c.isprintable() else "?" for c in n) for n in names))
    for line in lines:
        assert line.isprintable()
        assert get_cwidth(line) <= max(columns, widest)
    shown = "".join(lines).replace(" ", "")
    assert sorted(shown) == sorted("".join(c if c.isprintable() else "?" for n in names for c in n).replace(" ", ""))


def test_names_stand_in_columns_and_very_many_are_counted() -> None:
    assert _table(offer(["a", "b", "c", "dd", "e"]), 12) == "a   c   e\r\nb   dd\r\n"
    many = _table(offer([f"name{number:04}" for number in range(MOST_OFFERED + 5)]), 80)
    assert many.endswith(f"... {MOST_OFFERED + 5} in all\r\n")
    assert f"name{MOST_OFFERED:04}" not in many


# -- what is recalled -------------------------------------------------------------------------------------------------


def test_lines_are_recalled_newest_first_and_trouble_with_their_file_is_kept(tmp_path: Path) -> None:
    history = History(str(tmp_path / "none" / "history"))
    recalled = _Recalled(history)
    recalled.store_string("one")
    assert recalled.trouble is not None
    assert recalled.trouble.error is E.NOENT
    recalled.store_string("two")
    assert list(recalled.load_history_strings()) == ["two", "one"]


# -- a prompt ---------------------------------------------------------------------------------------------------------


class KeysRead(PipeEnd):
    """Notes how its reads were ended: asked to stop (true) or cancelled at once."""

    def __init__(self, world: FakeWorld, pipe: Pipe) -> None:
        super().__init__(world, pipe, writes=False)
        self.ended: list[bool] = []

    async def read(self, count: int = 65536) -> bytes:
        try:
            return await super().read(count)
        except asyncio.CancelledError:
            self.ended.append(asked_to_stop())
            raise


class Keyboard:
    """An editor on a terminal in memory, whose keyboard others may read too."""

    def __init__(self) -> None:
        self.bench = Bench()
        self._control = self.bench.system.make(CONTROL, b"")
        self.bench.system.make(RESIZE, b"24 80\n")
        self.pipe = Pipe()
        self.typing = PipeEnd(self.bench.world, self.pipe, writes=True)
        self.keys = KeysRead(self.bench.world, self.pipe)
        self.screen = Collector(self.bench.world, "/dev/cons")
        self.bench.shell.variables["TERM"] = "xterm"
        self.editor = Editor(self.bench.shell, Streams(self.keys, self.screen, self.screen))

    async def type(self, data: bytes) -> None:
        await self.typing.write(data)

    async def read(self) -> str | None:
        return await self.editor.read("% ", "> ")

    @property
    def control(self) -> bytes:
        """What was written to consctl since it was opened last."""
        return bytes(self._control.data)

    def left(self) -> bytes:
        """What of the keys nobody has taken."""
        return bytes(self.pipe.data)


@asynccontextmanager
async def keyboard() -> AsyncIterator[Keyboard]:
    at = Keyboard()
    yield at
    for file in (at.typing, at.keys, at.screen):
        await file.close()
    assert not at.bench.world.open_files


async def test_a_prompt_leaves_the_terminal_and_its_keys_to_commands() -> None:
    async with keyboard() as at:
        for _ in range(2):
            await at.type(b"echo hi\r")
            assert await at.read() == "echo hi"
            assert at.control == b"rawonrawoff"
            assert at.keys.ended.pop()  # it has ended everywhere on the way
            await at.type(b"for cat\n")
            assert await at.keys.read() == b"for cat\n"


async def test_what_is_typed_ahead_is_for_the_next_prompts() -> None:
    async with keyboard() as at:
        await at.type(b"one\rtwo\rth")
        assert [await at.read(), await at.read()] == ["one", "two"]
        await at.type(b"ree\r")
        assert await at.read() == "three"


@pytest.mark.parametrize("end", [b"ls\r", b"ls\x03", b"ls\x1a"])
async def test_a_key_typed_at_any_moment_of_a_prompts_end_is_there_for_the_next_or_for_commands(end: bytes) -> None:
    async with keyboard() as at:
        for moment in range(TURNS):
            reading = asyncio.create_task(at.read())
            await at.type(end)
            for _ in range(moment):
                await asyncio.sleep(0)
            await at.type(b"next")
            if not end.endswith(b"\x1a"):
                with suppress(Interrupted):
                    assert await reading == "ls"
                if not at.left():
                    await at.type(b"\r")
                    assert await at.read() == "next", moment
                else:
                    assert await at.keys.read() == b"next", moment
            else:  # it goes on with its line
                await at.type(b"\r")
                assert await reading == "lsnext", moment
        assert b"suspend" in at.control or not end.endswith(b"\x1a")


async def test_ctrl_d_or_what_a_terminal_makes_of_it_ends_on_an_empty_line_only() -> None:
    async with keyboard() as at:
        for end in (b"\x04", b"\x00"):
            await at.type(end)
            assert await at.read() is None
            await at.type(b"xa\x01" + end + b"\r")
            assert await at.read() == ("a" if end == b"\x04" else "xa")


async def test_an_end_typed_right_after_lines_is_for_the_prompt_after_them() -> None:
    async with keyboard() as at:
        pieces = iter([b"one\n", b"two\n", b"", b"three\n"])
        taken = at.keys.read

        async def read(count: int = 65536) -> bytes:
            piece = next(pieces, None)
            return await taken(count) if piece is None else piece

        at.keys.read = read  # type: ignore[method-assign]
        assert [await at.read() for _ in range(4)] == ["one", "two", None, "three"]


async def test_the_end_of_the_keys_ends_the_prompt() -> None:
    async with keyboard() as at:
        reading = asyncio.create_task(at.read())
        await at.screen.until(b"%")
        await at.typing.close()
        assert await reading is None


async def test_a_cancelled_prompt_gives_the_terminal_back() -> None:
    async with keyboard() as at:
        reading = asyncio.create_task(at.read())
        await at.screen.until(b"%")
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        assert at.control == b"rawonrawoff"
        await at.type(b"x")
        assert await at.keys.read() == b"x"
