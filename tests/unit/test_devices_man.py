"""The manual as a device, and how its pages are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.man import man_server
from cognu.errors import E, FileError
from cognu.man import SECTIONS, choose, directory, pages, read, summary
from cognu.world.real import real_world
from serving import Client


@pytest.fixture
def manual(tmp_path: Path) -> Client:
    for section in SECTIONS:
        (tmp_path / section).mkdir()
    (tmp_path / "1" / "ls.md").write_text("# ls(1)\n")
    (tmp_path / "1" / "no page").write_text("")
    world = real_world()
    return Client(man_server(world, str(tmp_path)))


async def test_pages_are_files_by_section_without_their_ending(manual: Client) -> None:
    assert await manual.names("") == list(SECTIONS)
    assert await manual.names("1") == ["ls"]
    assert await manual.names("7") == []
    assert await manual.read("1/ls") == b"# ls(1)\n"


async def test_a_page_that_is_gone_is_refused_and_nothing_else(manual: Client, tmp_path: Path) -> None:
    (tmp_path / "1" / "ls.md").unlink()
    with pytest.raises(FileError) as refused:
        await manual.read("1/ls")
    assert refused.value.error is E.NOENT
    assert await manual.names("1") == ["ls"]


def test_the_packages_own_pages_can_be_read() -> None:
    assert Path(directory()).is_dir()
    assert {section for section, _ in pages()} == set(SECTIONS)
    assert all(summary(read(section, name)) for section, name in pages())
    with pytest.raises(FileError) as refused:
        read("1", "none")
    assert refused.value.error is E.NOENT


@given(st.lists(st.text(), min_size=1, max_size=2))
def test_any_words_choose_a_page_or_are_refused(words: list[str]) -> None:
    known = [("1", "ls"), ("3", "log"), ("5", "log")]
    try:
        chosen = choose(known, words)
    except FileError as refused:
        if refused.error is not E.NOPAGE:
            raise
    else:
        assert chosen in known


@given(st.text())
def test_any_text_has_a_summary_of_one_line(text: str) -> None:
    assert "\n" not in summary(text)
