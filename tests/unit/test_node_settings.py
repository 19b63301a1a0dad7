"""What a node may be called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.node.settings import (
    LONGEST_RETENTION,
    Home,
    KeepLimits,
    Settings,
    check_name,
    load_settings,
    parse_keep,
    save_settings,
)
from cognu.world.real import real_world

UP = (sys.executable, "-c", "from cognu.cli.main import main; main()", "up")


@pytest.mark.parametrize("name", ["", "a/b", "x y\nz", "Desk", "-a", "a_", "a.b", "x" * 33, "é"])
def test_a_name_that_others_would_have_to_change_is_refused(name: str) -> None:
    with pytest.raises(FileError) as caught:
        check_name(name)
    assert caught.value.error is E.USAGE
    assert str(caught.value).startswith(f"--name {name!r}: ")


@pytest.mark.parametrize("name", ["a", "desk-2", "my_pi", "x" * 32])
def test_a_name_as_others_will_say_it_is_taken(name: str) -> None:
    check_name(name)


def test_an_empty_name_is_refused_as_any_other_and_nothing_is_kept(tmp_path: Path) -> None:
    done = subprocess.run(
        [*UP, "--name", ""], env={**os.environ, "COGNU_HOME": str(tmp_path)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "--name '': " in done.stderr
    assert not (tmp_path / "settings.json").exists()


def test_how_long_a_session_is_kept_is_what_was_set_or_ten_minutes(tmp_path: Path) -> None:
    disk, home = real_world().disk, Home(str(tmp_path))
    assert load_settings(disk, home, "desk").retention == 600
    save_settings(disk, home, Settings("desk", retention=20))
    assert load_settings(disk, home, "other") == Settings("desk", retention=20)


@pytest.mark.parametrize("wrong", ["0", "-1", "true", "1.5", '"9"', str(LONGEST_RETENTION + 1)])
def test_a_time_that_no_session_can_be_kept_is_refused(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "settings.json").write_text(f'{{"retention": {wrong}}}')
    with pytest.raises(FileError) as caught:
        load_settings(real_world().disk, Home(str(tmp_path)), "desk")
    assert caught.value.error is E.DAMAGED
    assert "retention is seconds, from 1 to" in str(caught.value)


def test_what_bounds_kept_shells_is_read_and_written(tmp_path: Path) -> None:
    disk, home = real_world().disk, Home(str(tmp_path))
    save_settings(disk, home, Settings("desk", keep=KeepLimits(60, 2, 3)))
    assert load_settings(disk, home, "other").keep == KeepLimits(60, 2, 3)
    (tmp_path / "settings.json").write_text('{"keep": {"each": 0}}')
    assert load_settings(disk, home, "desk").keep == KeepLimits(each=0)


_NUMBERS = st.integers() | st.booleans() | st.none() | st.floats()
_BOUNDS = st.dictionaries(st.sampled_from(["seconds", "each", "all", "x"]), _NUMBERS)


@given(_BOUNDS | _NUMBERS | st.text())
def test_any_bounds_of_kept_shells_are_some_or_refused(raw: object) -> None:
    try:
        found = parse_keep(raw, "settings.json")
    except FileError as error:
        refused = error
        assert (refused.error, refused.subject) == (E.DAMAGED, "settings.json")
    else:
        assert isinstance(raw, dict)
        assert {name: getattr(found, name) for name in raw} == raw
        assert all(type(value) is int and value >= 0 for value in raw.values())


@pytest.mark.parametrize("name", ["", "Desk", "a b"])
def test_a_name_in_a_file_is_one_that_others_can_say(tmp_path: Path, name: str) -> None:
    (tmp_path / "settings.json").write_text(f'{{"name": "{name}"}}')
    with pytest.raises(FileError) as caught:
        load_settings(real_world().disk, Home(str(tmp_path)), "desk")
    assert caught.value.error is E.DAMAGED
    assert f"name {name!r}: a name is of a-z" in str(caught.value)


def kept(tmp_path: Path, text: str) -> Settings:
    home = Home(str(tmp_path))
    (tmp_path / "settings.json").write_text(text)
    return load_settings(real_world().disk, home, "desk")


def test_discovery_and_labels_are_read_and_written(tmp_path: Path) -> None:
    text = '{"discovery": "pairing", "labels": ["room=the kitchen", "gpu=", "arm"]}'
    found = kept(tmp_path, text)
    assert (found.discovery, found.labels) == ("pairing", ("room=the kitchen", "gpu=", "arm"))
    save_settings(real_world().disk, Home(str(tmp_path)), found)
    assert load_settings(real_world().disk, Home(str(tmp_path)), "desk") == found
    assert kept(tmp_path, "{}").discovery == "on"


@pytest.mark.parametrize(
    "text",
    [
        '{"discovery": "sometimes"}',
        '{"discovery": 1}',
        '{"labels": "room=x"}',
        '{"labels": ["room", "room"]}',
        '{"labels": ["a=\\ud800"]}',
        '{"labels": ["=x"]}',
        '{"labels": ["Room=x"]}',
        '{"labels": ["a=1", "a=2"]}',
        '{"labels": ["a=b\\nc=d"]}',
        '{"labels": [' + ", ".join(f'"a{number}=1"' for number in range(65)) + "]}",
    ],
)
def test_what_is_neither_discovery_nor_labels_is_damaged(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileError) as caught:
        kept(tmp_path, text)
    assert caught.value.error is E.DAMAGED
