"""The command line: verbs, options, exit statuses, and what is done to words before they go on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu import __version__
from cognu.cli import peers, shells
from cognu.cli.daemon import NodeRefused, answers, log_line, make_home, start
from cognu.cli.main import VERBS, run, verbs
from cognu.cli.peers import host_grants
from cognu.cli.setting import Setting, table
from cognu.cli.shells import called_otherwise, host_run
from cognu.errors import E, FileError
from cognu.shell.commands import COMMANDS
from sessions import short_place

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def home() -> Iterator[Path]:
    with short_place() as path:
        yield path


@pytest.mark.parametrize(
    ("typed", "there"),
    [("tcp!127.0.0.1!5641", "127.0.0.1:5641"), ("127.0.0.1:5641", "127.0.0.1:5641"), ("tcp![::1]!9fs", ""),
     ("unix!/tmp/a.sock", "/tmp/a.sock"), ("/tmp/a.sock", "/tmp/a.sock"), ("exec!cat", ""), ("-", ""), ("here", "")],
)  # fmt: skip
def test_listen_takes_addresses_as_9p_does_and_says_which(
    typed: str, there: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    asked: list[str] = []

    def ask(setting: Setting, verb: str, **arguments: str) -> dict[str, str]:
        asked.append(arguments["address"])
        return {"address": arguments["address"], "token": ""}

    monkeypatch.setattr(peers, "ask", ask)
    assert run(["listen", typed]) == (0 if there else 2)
    assert asked == ([there] if there else [])
    assert there or "HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [[name] for name in VERBS] + [[]])
def test_every_verb_has_help_with_an_example(verb: list[str], capsys: Captured) -> None:
    assert run([*verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: cognu" in out
    assert "Example: cognu" in out
    if verb and (verb[0] in COMMANDS or len(verb) == 1):
        assert "\nExamples:\n\n    " in out
    if verb:
        assert "\nExit status: " in out


@pytest.mark.parametrize("words", [["watch", "x"], ["tail", "-f", "x"]])
def test_a_command_of_the_shell_is_said_to_be_one(words: list[str], capsys: Captured) -> None:
    assert run(words) == 2
    assert f"{words[0]} is a command of the shell: cognu sh -c '{words[0]} ...'" in capsys.readouterr().err


def test_the_table_names_every_verb_as_its_command_does() -> None:
    context = click.Context(verbs)
    for name in VERBS:
        command = verbs.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_the_version_is_the_packages(capsys: Captured) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"cognu {__version__}\n"


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys; from cognu.cli.main import run; run(['--help']); run(['--version']);"
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'asyncio', 'wasmtime', 'cryptography', 'uvloop', 'blake3', 'ssl', 'json'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] in ("[]", "['json']")


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["up", "--nonsense"],
        ["drop"],
        ["logs", "-n", "x"],
        ["listen", "--stop", "--path", "/x", "/y"],
        [],
    ],
)
def test_wrong_usage_is_2_and_says_so(words: list[str], capsys: Captured) -> None:
    assert run(words) == 2
    captured = capsys.readouterr()
    assert not words or (E.USAGE.text in captured.err and E.USAGE.hint in captured.err)
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    "words",
    [["status"], ["down"], ["ps"], ["kill", "3"], ["put", "x"], ["peers"], ["invite"], ["join", "x"],
     ["import", "a", "b"], ["grants", "list"], ["cpu", "pi"], ["listen", "/x"], ["ns"]],
)  # fmt: skip
def test_without_a_node_it_is_3_with_what_to_do(words: list[str], home: Path, capsys: Captured) -> None:
    assert run(["--home", str(home), *words]) == 3
    assert capsys.readouterr().err == f"cognu: {home}: {E.NONODE.text}\n  {E.NONODE.hint}\n"


def test_the_home_is_the_option_the_variable_or_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("COGNU_HOME", raising=False)
    assert Setting.of(None, False).home == "/home/me/.cognu"
    monkeypatch.setenv("COGNU_HOME", "/x")
    assert Setting.of(None, False).socket == "/x/node.sock"
    assert Setting.of("~/y", False).home == "/home/me/y"
    assert Setting.of("/z", True).with_options("/w", False) == Setting("/w", True)
    assert Setting.of("/z", False).with_options(None, True) == Setting("/z", True)


# -- words that go on to the shell ------------------------------------------------------------------------------------


def test_words_of_the_host_are_translated_for_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_text("")
    (tmp_path / "odd:r").write_text("")
    f, there = f"{tmp_path}/f", f"/mnt/host{tmp_path}/f"
    assert tmp_path.parts[1] == "tmp"
    assert host_run([f, f, "x", "--grant", "-"]) == ["--", there, there, "x", "--grant", "-"]
    assert host_run(["--grant", f"{f}:rw", "p"]) == [f"--grant={there}:rw", "--", "p"]
    assert host_run(["--grant=/n/x:r", "p"]) == ["--grant=/n/x:r", "--", "p"]
    assert host_run(["--grant", f"{tmp_path}/odd:r", "p"]) == [f"--grant=/mnt/host{tmp_path}/odd:r:r", "--", "p"]
    assert host_run(["--grant", f, "p"]) == [f"--grant={there}:r", "--", "p"]
    assert host_run(["--dir", str(tmp_path), "p"]) == [f"--dir=/mnt/host{tmp_path}::{tmp_path}", "--", "p"]
    assert host_run(["--dir", f"{tmp_path}::/data", "p"]) == [f"--dir=/mnt/host{tmp_path}::/data", "--", "p"]
    assert host_run(["--dir", "here::/data", "--on=pi", "p"]) == ["--dir=here::/data", "--on=pi", "--", "p"]
    with pytest.raises(FileError) as caught:
        host_run(["--nonsense", "p"])
    assert caught.value.error is E.USAGE


def test_a_grant_that_a_program_has_by_another_name_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    words = [
        "--grant",
        "/",
        "--grant",
        f"{tmp_path}:rw",
        "--grant",
        f"{tmp_path}/f",
        "--grant=/usr:r",
        "--grant",
        "net",
        "p",
    ]
    whole, directory, file = called_otherwise([*words, "--grant", "/bin"])
    own = "; the node's own {} is granted in its shell, cognu sh"
    assert whole == f"--grant /: this host's / is /mnt/host to a program{own.format('/')}"
    there, there_too = f"/mnt/host{tmp_path} to a program", f"; --dir {tmp_path} gives it that as {tmp_path}"
    assert directory == f"--grant {tmp_path}:rw: this host's {tmp_path} is {there}{there_too}{own.format(tmp_path)}"
    assert "--dir" not in file
    assert called_otherwise(["--grant", "/n/pi", "--grant", "notes:r", "p"]) == []


def test_grants_of_the_host_are_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    typed = (f"read:{tmp_path},net", "run", "write:etc/hosts", "read:/n/x")
    assert host_grants(typed) == [f"read:/mnt/host{tmp_path}", "net", "run", "write:/etc/hosts", "read:/n/x"]
    assert host_grants(()) == []
    for nothing in ("", " , "):
        with pytest.raises(FileError) as caught:
            host_grants(("net", nothing))
        assert caught.value.error is E.USAGE
    assert host_grants(("read:'my files, mine',net:listen", "cmd:backup")) == [
        "read:'/my files, mine'", "net:listen", "cmd:backup"
    ]  # fmt: skip


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_words_of_run_are_taken_or_refused(words: list[str]) -> None:
    try:
        made = host_run([word.replace("\0", "") for word in words])
    except FileError as error:
        assert error.error is E.USAGE  # noqa: PT017  # both outcomes are right
    else:
        assert "--" in made


def test_only_the_shells_own_verbs_come_from_there() -> None:
    with pytest.raises(AttributeError):
        shells.__getattr__("cat_verb")


# -- starting ---------------------------------------------------------------------------------------------------------


def test_a_home_must_leave_room_for_a_sockets_name(home: Path) -> None:
    with pytest.raises(FileError) as caught:
        make_home(Setting(f"{home}/{'x' * 100}", False))
    assert caught.value.error is E.NAMETOOLONG
    (home / "file").write_text("")
    with pytest.raises(FileError) as caught:
        make_home(Setting(f"{home}/file/home", False))
    assert caught.value.error is E.NOTDIR
    make_home(Setting(f"{home}/a/b", False))
    assert (home / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_what_the_node_says_when_it_can_not_start_is_told(home: Path) -> None:
    (home / "settings.json").write_text("not json")
    with pytest.raises(NodeRefused) as caught:
        start(Setting(str(home), False), [])
    assert E.DAMAGED.text in str(caught.value)
    assert caught.value.error is E.DAMAGED
    assert caught.value.explain().endswith(E.DAMAGED.hint)


def test_a_node_that_dies_before_it_is_ready_is_noticed(home: Path) -> None:
    with pytest.raises(FileError) as caught:
        start(Setting(str(home), False), ["--nonsense"])
    assert "status 2" in str(caught.value)
    assert "--nonsense" in (home / "log").read_text()


def test_a_socket_that_nobody_serves_is_no_node(home: Path) -> None:
    setting = Setting(str(home), False)
    assert not answers(setting)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(setting.socket)
        assert not answers(setting)
        listener.listen()
        assert answers(setting)
    assert not answers(setting)


# -- printing ---------------------------------------------------------------------------------------------------------


def test_a_line_of_the_log_is_for_people() -> None:
    row = {"time": 10**18, "level": "error", "logger": "cognu.node", "message": "it broke", "trace": "T\n  r"}
    line = log_line(json.dumps(row))
    assert line.startswith("2001-09-")
    assert line.endswith("error   cognu.node: it broke\nT\n  r")
    assert log_line("Traceback (most recent call last):") == "Traceback (most recent call last):"


@given(
    st.one_of(
        st.text(max_size=60),
        st.dictionaries(
            st.sampled_from(["time", "level", "logger", "message", "trace"]),
            st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.none(), max_size=2)),
        ).map(json.dumps),
    )
)
def test_any_line_of_a_log_can_be_shown(line: str) -> None:
    assert isinstance(log_line(line), str)


def test_the_log_is_shown_from_its_end(home: Path, capsys: Captured) -> None:
    assert run(["--home", str(home), "logs"]) == 1
    assert E.NOENT.text in capsys.readouterr().err
    (home / "log").write_text("".join(f"line {number}\n" for number in range(50)))
    assert run(["--home", str(home), "logs", "-n", "2"]) == 0
    assert capsys.readouterr().out == "line 48\nline 49\n"
    assert run(["logs", "--home", str(home), "-n", "0"]) == 0
    assert capsys.readouterr().out == ""


@given(st.lists(st.lists(st.text("abc", max_size=4), min_size=3, max_size=3), min_size=1, max_size=5))
def test_columns_line_up(rows: list[list[str]]) -> None:
    lines = table(rows)
    assert len(lines) == len(rows)
    assert [line.split() for line in lines] == [[cell for cell in row if cell] for row in rows]


# -- the base namespace -----------------------------------------------------------------------------------------------


def test_changes_of_the_base_namespace_are_lines_of_a_script(home: Path, capsys: Captured) -> None:
    at = ["--home", str(home)]
    assert run([*at, "bind", "-b", "-c", "/n/pi/it's", "/net"]) == 0
    assert run([*at, "import", "pi", "home/me", "/mnt/x"]) == 0
    script = "bind -bc '/n/pi/it''s' /net\nbind /n/pi/home/me /mnt/x\n"
    assert (home / "namespace").read_text() == script
    assert "at the next start" in capsys.readouterr().out
    assert run([*at, "bind", "-a", "-b", "x", "y"]) == 2
    assert run([*at, "bind", "a\nb", "y"]) == 1
    assert (home / "namespace").read_text() == script
    assert os.listdir(home) == ["namespace"]


@pytest.mark.parametrize(("verb", "usage"), [("drop", "[OPTIONS] PEER"), ("join", "[OPTIONS] TICKET")])
def test_a_verb_without_its_word_says_how_it_is_used(verb: str, usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb]) == 2
    assert capsys.readouterr().err == f"cognu {verb}: {E.USAGE.text}: cognu {verb} {usage}\n  {E.USAGE.hint}\n"
