"""`cpu`: which variables go along, what is kept, and what is said of a use that is none."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.files.nstext import quote
from cognu.shell.commands import cpu
from cognu.shell.commands.cpu import KeptShell, parse_kept
from cognu.shell.interactive import run_once
from cognu.shell.state import Call, goes_along
from shell_fake import Bench, FakeClock, Running


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


def kept_at(bench: Bench, node: str, number: int) -> None:
    line = line_of(KeptShell(node, number, "me", 1, True, 2, 3, ("sh",)))
    bench.system.make(f"/n/{node}/proc/kept", line.encode())


async def test_all_machines_are_asked_what_they_keep_and_those_that_do_not_say_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, names = Bench(), ("pi", "attic", "lap", "nas")
    bench.world.answers["peers"] = [{"name": name, "connected": name == "pi"} for name in names]
    for number, name in enumerate(("pi", "attic"), 7):
        kept_at(bench, name, number)
    bench.system.make("/n/nas", None)
    text, clock = cpu._text, bench.system.clock
    assert isinstance(clock, FakeClock)

    async def asked(call: Call, path: str) -> str:
        if "lap" in path:
            await asyncio.Event().wait()
        try:
            return await text(call, path)
        finally:
            if "attic" in path:
                clock.wake.set()  # the time is up

    monkeypatch.setattr(cpu, "_text", asked)
    listed = await bench.run("cpu -l")
    assert [line.split()[:2] for line in listed.out.splitlines()[1:]] == [["pi", "7"], ["attic", "8"]]
    assert listed.err == f"cpu: lap: {E.TIMEDOUT.text}: what it keeps is not known\n"
    assert (listed.status, clock.asked) == (0, [cpu.ASK_SECONDS] * 4)


@pytest.mark.parametrize(
    ("words", "said"),
    [("--keep pi", "what is kept there: cognu cpu -l pi"), ("-a 7 pi", "cognu cpu -a 7 pi is there again"), ("pi", "")],
)
async def test_a_kept_shell_that_was_given_up_here_is_said_to_go_on_there(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "is_terminal", lambda _: True)
    bench = Bench()

    async def there(running: Running) -> int:
        bench.world.children[-1].message = E.AWAY.text
        return 1

    bench.world.programs["cpu"] = there
    streams, _, err = bench.streams(terminal=True)
    await run_once(bench.shell, f"cpu {words}", streams)
    told = err.text.strip()
    assert told == f"cpu: {E.AWAY.text}{said and '; it goes on there; '}{said}"
    await bench.close(streams)
