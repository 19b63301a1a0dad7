"""`cpu`: which variables go along, what is kept, and what is said of a use that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.files.nstext import quote
from cognu.shell.commands.cpu import KeptShell, parse_kept
from cognu.shell.state import goes_along
from shell_fake import Bench, Running


async def sent(line: str, **variables: str) -> dict[str, str]:
    """The variables that `cpu` gives a machine, of a shell that has these."""
    bench = Bench()
    found: dict[str, str] = {}

    async def there(running: Running) -> int:
        found.update(running.env)
        return 0

    bench.world.programs["cpu"] = there
    bench.shell.variables = {"HOME": "/home/me", **variables}
    result = await bench.run(line)
    assert (result.status, result.err) == (0, ""), result
    return found


async def test_only_what_says_what_terminal_language_and_user_it_is_goes_along() -> None:
    along = {"TERM": "xterm", "LANG": "C.UTF-8", "LC_TIME": "C", "TZ": "UTC", "USER": "me", "COLORTERM": "truecolor"}
    stays = {"TOKEN": "secret", "COLUMNS": "80", "LINES": "24", "PATH": "/bin", "SSH_AUTH_SOCK": "/tmp/x", "LC": "x"}
    assert await sent("cpu pi ls", **along, **stays) == {"HOME": "/home/me", **along}
    assert all(map(goes_along, along))


async def test_more_goes_along_by_name_and_what_stands_before_the_command_does() -> None:
    assert await sent("cpu -e TOKEN pi ls", TOKEN="secret") == {"HOME": "/home/me", "TOKEN": "secret"}
    assert await sent("cpu -e TOKEN=other -e X= pi ls", TOKEN="secret") == {
        "HOME": "/home/me",
        "TOKEN": "other",
        "X": "",
    }
    assert await sent("x=1 TERM=dumb cpu pi ls", TERM="xterm") == {"HOME": "/home/me", "x": "1", "TERM": "dumb"}


@pytest.mark.parametrize(
    "words",
    [
        "", "-e", "-e NOTSET pi", "-e 1x=2 pi", "--keep pi", "--for 3 pi", "-a 3 pi", "-a x pi", "-d pi",
        "--end 3 pi x", "--end 3 -d pi", "-a 3 --grant /tmp pi", "--json pi", "-l pi lap", "-l -d pi", "--end -1 pi",
        "--here pi", "-l --here pi",
    ],
)  # fmt: skip
async def test_a_use_that_is_none_is_refused_and_nothing_is_asked_for(words: str) -> None:
    bench = Bench()
    result = await bench.run(f"cpu {words}")
    assert result.status == 2, result
    assert E.USAGE.text in result.err
    assert [call for call in bench.world.calls if call[0] == "cpu"] == []


def line_of(kept: KeptShell) -> str:
    state = "shown" if kept.shown else "away"
    words = [kept.id, kept.user, kept.started, state, kept.since, kept.seconds, *kept.argv]
    return " ".join(quote(str(word)) for word in words) + "\n"


NUMBERS = st.integers(0, 2**63)
SHELLS = st.builds(
    KeptShell, st.just("pi"), NUMBERS, st.text(), NUMBERS, st.booleans(), NUMBERS, NUMBERS,
    st.lists(st.text(st.characters(blacklist_characters="\0"))).map(tuple),
)  # fmt: skip


@given(st.lists(SHELLS))
def test_what_a_machine_keeps_is_read_as_it_is_written(shells: list[KeptShell]) -> None:
    assert parse_kept("pi", "".join(map(line_of, shells))) == shells


@given(st.text() | st.builds(lambda *words: " ".join(words), *[st.sampled_from(["1", "x", "shown", "away", "'"])] * 7))
def test_any_other_text_is_refused_or_means_something(text: str) -> None:
    try:
        found = parse_kept("pi", text)
    except FileError as error:
        found, refused = [], error
        assert refused.error is E.BADMESSAGE  # or it is some
    assert all(kept.node == "pi" for kept in found)
