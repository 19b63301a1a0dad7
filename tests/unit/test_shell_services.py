"""services: which lines of the registry it prints."""

from __future__ import annotations

import json

import pytest

from cognu.devices.registry import Service
from cognu.errors import E, FileError
from cognu.shell.commands.services import INDEX, about_of
from shell_fake import Bench

LINES = "notes kind notes size '3 or 4'\nsongs kind music\nnotes!pi kind notes node pi state away\n"


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.system.make(INDEX, LINES.encode())
    return bench


async def said(bench: Bench, words: str) -> tuple[str, int]:
    result = await bench.run(f"services {words}")
    return result.out, result.status


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", ["notes", "songs", "notes!pi"]),
        ("kind notes", ["notes", "notes!pi"]),
        ("kind notes node '*'", ["notes!pi"]),
        ("size '3 or 4'", ["notes"]),
        ("name songs", ["songs"]),
        ("kind notes kind music", []),
    ],
)
async def test_those_with_all_attributes_are_listed(bench: Bench, words: str, names: list[str]) -> None:
    output, status = await said(bench, words)
    assert [line.split()[0] for line in output.splitlines()] == names
    assert status == (0 if names else 1)


async def test_none_at_all_is_no_failure() -> None:
    bench = Bench()
    bench.system.make(INDEX, b"")
    assert await said(bench, "") == ("", 0)


async def test_json_has_every_attribute_and_the_name(bench: Bench) -> None:
    output, _ = await said(bench, "--json size '*'")
    assert json.loads(output) == [{"name": "notes", "kind": "notes", "size": "3 or 4"}]


async def test_an_attribute_without_a_value_is_wrong_usage(bench: Bench) -> None:
    output, status = await said(bench, "kind")
    assert (output, status) == ("", 2)


def test_a_line_is_what_the_registry_writes_or_is_refused() -> None:
    assert about_of(Service("a", (("kind", "it's"),)).line) == {"name": "a", "kind": "it's"}
    for line in ("", "a kind"):
        with pytest.raises(FileError) as caught:
            about_of(line)
        assert caught.value.error is E.BADMESSAGE
