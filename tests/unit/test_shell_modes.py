"""chmod: what a mode says, and what is changed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.shell.commands.modes import new_mode
from shell_fake import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("640", 0o777, 0o640),
        ("0", 0o777, 0),
        ("0755", 0, 0o755),
        ("u+x", 0o644, 0o744),
        ("+x", 0o644, 0o755),
        ("a-w", 0o666, 0o444),
        ("go=", 0o755, 0o700),
        ("u=rw,go=r", 0o777, 0o644),
        ("ug+rw-x", 0o711, 0o661),
        ("o=rwx", 0o770, 0o777),
        ("a+X", 0o644, 0o644),
        ("a+X", 0o744, 0o755),
        ("a+rX", 0o000, 0o444),
        ("=", 0o777, 0),
        ("u+rwxX", 0o000, 0o700),
    ],
)
def test_what_a_mode_says(text: str, before: int, after: int) -> None:
    assert new_mode(text, before, False) == after


def test_of_a_directory_and_of_what_becomes_a_program_a_large_x_is_x() -> None:
    assert new_mode("a+X", 0o640, True) == 0o751
    assert new_mode("u+x,go+X", 0o600, False) == 0o711


@pytest.mark.parametrize("text", ["", "8", "888", "10000", "1777", "u", "x", "u+s", "u+x,", "b+x", "u x", "+t", "٧"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(FileError) as caught:
        new_mode(text, 0o644, False)
    assert caught.value.error is E.USAGE


@given(st.text("ugoa+-=rwxX,07 ") | st.text(), st.integers(0, 0o777), st.booleans())
def test_any_text_is_a_mode_or_refused(text: str, mode: int, is_directory: bool) -> None:
    with suppress(FileError):
        made = new_mode(text, mode, is_directory)
        assert 0 <= made <= 0o777
        assert "=" in text or "X" in text or new_mode(text, made, is_directory) == made  # once more changes nothing


async def test_chmod_changes_files_and_goes_on_after_what_is_missing(bench: Bench) -> None:
    one, two = bench.system.make("one", b""), bench.system.make("two", b"")
    result = await bench.run("chmod go=,u+x one none two")
    assert result.status == 1
    assert "none" in result.err
    assert (one.mode, two.mode) == (0o700, 0o700)
    assert (await bench.run("chmod 640 one")).status == 0
    assert one.mode == 0o640


async def test_chmod_by_a_wrong_mode_changes_nothing_and_says_so_once(bench: Bench) -> None:
    one = bench.system.make("one", b"")
    result = await bench.run("chmod 999 one one")
    assert (result.status, one.mode) == (2, None)
    assert result.err.count("a mode is three octal digits") == 1
