"""The installed command, its daemon, and a person at a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cognu.errors import E
from e2e.typing import Terminal
from programs.build import build

COGNU = str(Path(sys.executable).with_name("cognu"))
PROMPT = "cognu% "
LOOPBACK = ("--listen", "127.0.0.1:0", "--host", "127.0.0.1")


class Machine:
    """A home of a node, a directory with programs, and commands typed there."""

    def __init__(self, place: Path, name: str) -> None:
        self.name = name
        self.home = place / name
        self.work = place / f"{name}-files"
        self.work.mkdir()
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        self.env = {**kept, "COGNU_HOME": str(self.home), "HOME": str(self.work), "USER": "me", "TERM": "dumb"}

    def add(self, *programs: str) -> None:
        for program in programs:
            (self.work / f"{program}.wasm").write_bytes(build(program))

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([COGNU, *words], input=stdin, capture_output=True, env=self.env, cwd=self.work)

    def says(self, *words: str, stdin: bytes = b"") -> str:
        """What a command that must succeed prints."""
        done = self.run(*words, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout.decode()

    def asks(self, *words: str) -> Any:
        return json.loads(self.says("--json", *words))

    def refuses(self, status: int, error: E, *words: str) -> str:
        done = self.run(*words)
        text = done.stderr.decode()
        assert (done.returncode, done.stdout) == (status, b""), done
        assert error.text in text
        assert "Traceback" not in text
        return text

    def begins(self, *words: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen([COGNU, *words], stdin=pipe, stdout=pipe, stderr=pipe, env=self.env, cwd=self.work)

    def terminal(self, *words: str) -> Terminal:
        return Terminal([COGNU, *words], self.env, self.work)

    def stop(self) -> None:
        if (self.home / "node.sock").exists():
            self.run("down")


@pytest.fixture
def desk(place: Path) -> Iterator[Machine]:
    """A machine whose node runs."""
    machine = Machine(place, "desk")
    done = machine.run("up", "--name", "desk", *LOOPBACK)
    assert done.returncode == 0, done
    yield machine
    machine.stop()


@pytest.fixture
def pi(desk: Machine, place: Path) -> Iterator[Machine]:
    """Another one, which desk joined and which lends it everything."""
    machine = Machine(place, "pi")
    assert machine.run("up", "--name", "pi", *LOOPBACK).returncode == 0
    ticket = machine.asks("invite", "--grant", f"read:{machine.work},net", "--grant", "run")["ticket"]
    desk.says("join", ticket)
    yield machine
    machine.stop()


# -- the daemon -------------------------------------------------------------------------------------------------------


def test_up_starts_a_node_once_and_down_ends_it(desk: Machine) -> None:
    status = desk.asks("status")
    assert (status["name"], status["home"]) == ("desk", str(desk.home))
    os.kill(status["pid"], 0)
    assert desk.run("up").returncode == 0
    assert desk.asks("status")["pid"] == status["pid"]
    desk.refuses(1, E.NODERUNS, "up", "--name", "other")
    desk.refuses(1, E.NODERUNS, "up", "-f")
    done = desk.run("up", "--isolate", "all")
    assert f"{E.NODERUNS.text}: --isolate is for its start, so cognu down first\n" in done.stderr.decode()
    done = desk.run("kill", "1")
    assert f"1: {E.NOTSUP.text}: process 1 is this node itself; cognu down stops it" in done.stderr.decode()
    done = desk.run("sh", "-c", "kill $$")
    assert "is a session, which ends with its shell or command" in done.stderr.decode()
    done = desk.run("sh", "-c", "echo x > /dev/time")
    assert done.stderr.decode() == f"echo: /dev/time: {E.ACCES.text}: #c refuses it\n"
    assert "serves" in desk.says("logs")
    assert desk.says("down") == ""
    desk.refuses(3, E.NONODE, "down")
    desk.refuses(3, E.NONODE, "ps")
    assert desk.run("up").returncode == 0
    assert desk.asks("status")["name"] == "desk"


def test_json_is_printed_or_refused(desk: Machine) -> None:
    (desk.work / "notes").write_text("of desk\n")
    assert desk.asks("put", "notes") == {"hash": desk.says("put", "notes").strip(), "name": None}
    assert "bind -c #e /env" in desk.asks("ns")
    assert set(desk.asks("caps", "check")["policy"]) & set(desk.says("caps", "check").splitlines())
    assert 1 in [sample["pid"] for sample in desk.asks("top")]
    for words in (("get", "x"), ("kill", "1"), ("run", "notes")):
        assert "--json" in desk.refuses(2, E.USAGE, "--json", *words)
    assert "99999" in desk.refuses(1, E.SRCH, "caps", "show", "99999")
    # Without a terminal it ends by itself; and no client that goes away leaves a line in the log.
    assert desk.says("top").startswith("PID")
    assert E.CONNRESET.text not in desk.says("logs", "-n", "1000")


def test_q_leaves_top_and_the_terminal_as_it_was(desk: Machine) -> None:
    with desk.terminal("top") as user:
        user.shows("PID")
        user.type("q")
        assert user.ends() == 0
        assert user.as_before()
    with desk.terminal("up") as user:
        user.shows(PROMPT)
        user.type("top -d 1000; echo $?\n")
        user.shows("PID")
        user.type("\x03")
        user.shows("130\n", PROMPT)
        user.type("top\n")
        user.shows("PID")
        user.type("q")
        user.shows(PROMPT)
        user.type("echo still here\n")
        user.shows("still here\n", PROMPT)
        user.type("exit\n")
        assert user.ends() == 0


def test_a_page_of_the_manual_is_plain_text_at_a_terminal_and_as_it_is_elsewhere(desk: Machine) -> None:
    for words in (("man", "put"), ("sh", "-c", "man put")):
        with desk.terminal(*words) as user:
            user.shows("put(1)\n", "\nNAME\n", "    put - store a file", "\nSYNOPSIS\n")
            assert user.ends() == 0
        assert desk.says(*words).startswith("# put(1)\n\n## NAME\n")


def test_sh_and_run_start_a_node_if_there_is_none(place: Path) -> None:
    machine = Machine(place, "solo")
    try:
        done = machine.run("sh", "-c", "echo here")
        assert (done.returncode, done.stdout) == (0, b"here\n")
        assert b"starting the node" in done.stderr
        assert machine.says("sh", "-c", "echo here") == "here\n"
    finally:
        machine.stop()


def test_a_node_in_front_ends_with_a_signal(place: Path) -> None:
    machine = Machine(place, "front")
    node = machine.begins("up", "-f", *LOOPBACK)
    assert node.stderr is not None
    while b"serves" not in node.stderr.readline():
        assert node.poll() is None
    assert machine.asks("status")["pid"] == node.pid
    node.send_signal(signal.SIGINT)
    node.communicate()
    assert node.returncode == 0


def test_a_killed_node_ends_what_waits_for_it(desk: Machine) -> None:
    desk.add("spin")
    waiting = desk.begins("run", "spin.wasm")
    pid = desk.asks("status")["pid"]
    while not any("spin" in " ".join(row["argv"]) for row in desk.asks("ps")):
        assert waiting.poll() is None
    os.kill(pid, signal.SIGKILL)
    _, err = waiting.communicate()
    assert waiting.returncode == 1
    assert E.NONODE.text.encode() in err
    desk.refuses(3, E.NONODE, "status")
    assert desk.run("up").returncode == 0
    assert desk.says("sh", "-c", "echo again") == "again\n"


# -- programs and files -----------------------------------------------------------------------------------------------


def test_programs_have_the_hosts_streams_byte_for_byte(desk: Machine) -> None:
    desk.add("cat", "wc")
    data = os.urandom(400_000)
    done = desk.run("run", "cat.wasm", stdin=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
    done = desk.run("run", "cat.wasm", "none")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"none" in done.stderr
    (desk.work / "in").write_bytes(data)
    with (desk.work / "in").open("rb") as source, (desk.work / "out").open("wb") as target:
        subprocess.run([COGNU, "run", "cat.wasm"], stdin=source, stdout=target, env=desk.env, cwd=desk.work, check=True)
    assert (desk.work / "out").read_bytes() == data
    assert desk.says("sh", "-c", "./cat.wasm < in | ./cat.wasm | wc -c").strip() == "400000"
    assert desk.says("sh", stdin=b"echo a script; echo of two lines | wc -w\n").split() == ["a", "script", "3"]


def test_paths_typed_on_the_host_are_the_hosts(desk: Machine, tmp_path: Path) -> None:
    assert tmp_path.parts[1] == "tmp"
    (tmp_path / "wc.wasm").write_bytes(build("wc"))
    (tmp_path / "notes").write_text("a b\n")
    there = f"{tmp_path}/notes"
    assert desk.says("run", str(tmp_path / "wc.wasm"), there) == f"1 2 4 /mnt/host{there}\n"
    digest = desk.says("put", str(tmp_path / "wc.wasm"), "--name", "wc").strip()
    for word in ("wc", digest, digest[:20]):
        done = subprocess.run([COGNU, "run", word, "notes"], capture_output=True, env=desk.env, cwd=tmp_path)
        assert done.stdout == b"1 2 4 notes\n", done
    assert desk.run("get", digest).stdout == build("wc")


def test_statuses_are_the_programs(desk: Machine) -> None:
    desk.add("crash")
    assert desk.run("sh", "-c", "exit 5").returncode == 5
    assert desk.run("run", "crash.wasm", "exit", "77").returncode == 77
    done = desk.run("run", "crash.wasm", "trap")
    assert done.returncode >= 128
    assert E.TRAP.text.encode() in done.stderr
    assert desk.run("run", "none").returncode == 127
    assert desk.run("run").returncode == 2
    assert desk.run("kill", "999999").returncode == 1
    assert desk.run("ps", "--nonsense").returncode == 2


def test_a_signal_to_run_interrupts_the_program(desk: Machine) -> None:
    desk.add("spin")
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        running = desk.begins("run", "spin.wasm")
        while not any("spin" in " ".join(row["argv"]) for row in desk.asks("ps")):
            assert running.poll() is None
        running.send_signal(number)
        running.communicate()
        assert running.returncode == status
        while any("spin" in " ".join(row["argv"]) for row in desk.asks("ps")):
            pass


def test_who_reads_the_output_may_stop(desk: Machine) -> None:
    (desk.work / "big").write_bytes(b"line\n" * 200_000)
    running = desk.begins("sh", "-c", "cat big")
    assert running.stdout is not None
    assert running.stdout.readline() == b"line\n"
    running.stdout.close()
    assert running.wait() == 141
    assert running.stderr is not None
    assert running.stderr.read() == b""
    for stream in (running.stdin, running.stderr):
        assert stream is not None
        stream.close()


def test_the_base_namespace_changes_for_new_shells(desk: Machine) -> None:
    (desk.work / "d").mkdir()
    (desk.work / "d" / "f").write_text("there\n")
    said = desk.says("bind", f"{desk.work}/d", "/mnt/term")
    assert f"bind {desk.work}/d /mnt/term" in said
    assert desk.says("sh", "-c", "cat /mnt/term/f") == "there\n"
    desk.refuses(1, E.NOENT, "bind", "/none", "/mnt/term")
    desk.says("down")
    assert desk.run("up").returncode == 0
    assert desk.says("sh", "-c", "cat /mnt/term/f") == "there\n"
    assert (desk.home / "namespace").read_text().count("\n") == 1
    desk.says("bind", "-a", f"{desk.work}/d", "/srv")
    desk.refuses(1, E.NOTMOUNTED, "unbind", "/none", "/mnt/term")
    desk.refuses(1, E.NOTMOUNTED, "unbind", "/net")
    assert "gone: bind" in desk.says("unbind", f"{desk.work}/d/", "/mnt/term")
    assert desk.says("sh", "-c", "ls /mnt/term") == ""
    assert desk.says("sh", "-c", "cat /srv/f") == "there\n"
    desk.says("down")
    assert desk.asks("unbind", "/srv")["notes"] == []
    assert (desk.home / "namespace").read_text() == ""
    assert desk.run("up").returncode == 0
    desk.refuses(1, E.NOENT, "sh", "-c", "cat /srv/f")


# -- another machine --------------------------------------------------------------------------------------------------


def test_machines_are_joined_lend_and_part(desk: Machine, pi: Machine) -> None:
    [peer] = desk.asks("peers")
    assert (peer["name"], peer["connected"], peer["granted"]) == ("pi", True, [])
    assert peer["received"] == [f"read:{pi.work}", "net", "run"]
    assert "pi" in desk.says("peers")
    assert pi.asks("grants", "list")["peers"] == {"desk": [f"read:{pi.work}", "net", "run"]}
    (pi.work / "hello").write_text("hello from pi\n")
    assert desk.says("import", "pi", str(pi.work)).startswith(f"/n/pi{pi.work}: there already")
    assert desk.says("sh", "-c", f"cat /n/pi{pi.work}/hello") == "hello from pi\n"
    assert f"bind /n/pi{pi.work} /n/photos" in desk.says("import", "pi", str(pi.work), "/n/photos")
    assert desk.says("sh", "-c", "cat /n/photos/hello; ls /n") == "hello from pi\nphotos\npi\n"
    desk.says("unbind", "/n/photos")
    assert desk.says("sh", "-c", "ls /n") == "pi\n"
    assert "may no longer" in pi.says("grants", "revoke", "desk", f"read:{pi.work}")
    desk.refuses(1, E.NOENT, "sh", "-c", f"cat /n/pi{pi.work}/hello")
    assert desk.says("export", str(desk.work), "pi", ":rw") == f"pi may: write:{desk.work}\n"
    assert desk.asks("grants", "list")["peers"] == {"pi": [f"write:{desk.work}"]}
    (desk.work / "kept").write_text("of desk\n")
    assert f"bind -r /n/desk{desk.work} /n/seen" in pi.says("import", "-r", "desk", str(desk.work), "/n/seen")
    assert pi.says("sh", "-c", "cat /n/seen/kept") == "of desk\n"
    pi.refuses(1, E.ACCES, "sh", "-c", "echo changed > /n/seen/kept")
    assert pi.says("sh", "-c", f"echo changed > /n/desk{desk.work}/kept; cat /n/seen/kept") == "changed\n"
    pi.says("unbind", "/n/seen")
    desk.refuses(1, E.NOPEER, "export", str(desk.work), "nobody")
    desk.refuses(1, E.BADTICKET, "join", "nonsense")
    assert desk.says("drop", "pi") == "parted with pi\n"
    assert desk.asks("peers") == []


def test_a_command_on_the_other_machine(desk: Machine, pi: Machine) -> None:
    (desk.work / "notes").write_text("of desk\n")
    assert desk.says("cpu", "pi", "cat", "notes") == "of desk\n"
    assert desk.says("cpu", "pi", "echo", "it's", "$HOME", "a  b") == "it's $HOME a  b\n"
    assert desk.says("cpu", "pi", "cat", stdin=b"typed on desk") == "typed on desk"
    assert desk.run("cpu", "pi", "cat", "none").returncode == 1
    assert desk.run("cpu", "nobody").returncode == 126


def test_an_input_that_is_no_terminal_is_a_script_for_the_far_shell(desk: Machine, pi: Machine) -> None:
    script = b"cat /dev/sysname; echo\nfor x in a b; do\n  echo $x\ndone\nnosuch\nexit 7\n"
    done = desk.run("cpu", "pi", stdin=script)
    assert (done.stdout, done.stderr) == (b"pi\na\nb\n", f"nosuch: {E.NOTFOUND.text}\n".encode())
    assert done.returncode == 7
    assert desk.run("cpu", "pi", stdin=b"if true\n").returncode == 2


# -- a person at a terminal -------------------------------------------------------------------------------------------


def test_a_shell_on_a_terminal(desk: Machine) -> None:
    desk.add("cat", "spin")
    with desk.terminal("up") as user:
        user.shows(PROMPT)
        user.type("pwd\n")
        user.shows(f"{desk.work}\n", PROMPT)
        user.type("./cat.wasm\n")
        user.shows("cat.wasm\n")
        user.type("typed\n")
        user.shows("typed\n", "typed\n")
        user.type("\x04")
        user.shows(PROMPT)
        user.type("echo begun; ./spin.wasm\n")
        user.shows("begun\n")
        while not any("spin" in " ".join(row["argv"]) for row in desk.asks("ps")):
            pass
        user.interrupt()
        user.shows(PROMPT)
        user.type("echo $?\n")
        user.shows("130\n", PROMPT)
        user.type("cat none\n")
        user.shows(E.NOENT.hint, PROMPT)
        user.type("\x04")
        assert user.ends() == 1  # the last command's
        assert user.as_before()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminal_is_as_before_after_a_signal_in_raw_mode(desk: Machine, number: signal.Signals) -> None:
    with desk.terminal("sh") as user:
        user.shows(PROMPT)
        user.type("cat > /dev/consctl\n")
        user.shows("consctl\n")
        user.type("rawon\n")
        user.shows("rawon")
        while user.as_before():
            pass
        user.signal(number)
        assert user.ends() == 128 + number
        assert user.as_before()


def test_a_far_shell_on_a_terminal(desk: Machine, pi: Machine) -> None:
    with desk.terminal("cpu", "pi") as user:
        user.shows("pi% ")
        user.type("pwd; echo $HOME\n")
        user.shows(f"/mnt/term{desk.work}\n", f"/mnt/term{desk.work}\n", "pi% ")
        for _ in range(3):
            user.type("echo begun; sleep 1000\n")
            user.shows("begun\n")
            user.interrupt()
            user.shows("pi% ")
        user.type("exit 7\n")
        assert user.ends() == 7
        assert user.as_before()
