"""The demo: two nodes on this computer, each an OS process with a home of its own, and ten things done with them.

Everything goes through the installed `cognu` command. Each step compares what came with what must come; the last line
says how many of how many checked out, and the exit status is 0 only if all did. It leaves nothing behind, however it
ends.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import shutil
import signal
import socketserver
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from blake3 import blake3

from cognu.errors import E
from machines import Failed, Machine, Ran, found, need, same, show

# The C programs and what compiles them are the tests' own.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from programs.build import build

PAGE = "Only pi's side can reach this page.\n"


@dataclass
class Demo:
    """The two machines, and what later steps know from earlier ones."""

    desk: Machine
    pi: Machine
    page: str  # the Unix socket of a web server that only pi may dial
    notes: Path
    hash: str = ""


def name_of(data: bytes) -> str:
    """The hash that a store must give these bytes: a CIDv1 (raw, BLAKE3-256) in base32."""
    cid = bytes([0x01, 0x55, 0x1E, 0x20]) + blake3(data).digest()
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def count(data: bytes) -> str:
    """What wc must print for `data`."""
    return f"{data.count(10)} {len(data.split())} {len(data)}"


def says(ran: Ran, error: E) -> None:
    need(error.text in ran.err, f"the message should say {error.text!r}: {ran.err.strip()!r}")


# -- the ten steps ----------------------------------------------------------------------------------------------------


def two_nodes(demo: Demo) -> None:
    """Two nodes, two processes, two homes"""
    pids = set()
    for machine, options in ((demo.desk, []), (demo.pi, ["--unix", demo.page])):
        started = machine.start("--listen", "127.0.0.1:0", "--host", "127.0.0.1", *options)
        status = machine.asks("status")
        same(status["name"], machine.name, "the node's name")
        same(os.path.realpath(status["home"]), os.path.realpath(machine.home), "the node's home")
        os.kill(status["pid"], 0)  # raises if there is no such process
        pids.add(status["pid"])
        found(f"{machine.name} is process {status['pid']} and answered after {started.seconds:.2f} s")
    same(len(pids), 2, "different processes")


def join(demo: Demo) -> None:
    """Join by ticket; a ticket works once"""
    lent = f"read:{demo.pi.work},net,run"
    invited = demo.pi.types("invite", "--grant", lent)
    [ticket] = set(re.findall(r"cognu-[a-z2-7]{40,}", invited.out))
    demo.desk.types("join", ticket)
    [peer] = demo.desk.asks("peers")
    same((peer["name"], peer["connected"]), ("pi", True), "desk's peer")
    same(",".join(peer["received"]), lent, "what pi lends")
    same(peer["granted"], [], "what desk lends")
    found(f"pi lends {', '.join(peer['received'])}; desk lends nothing")
    says(demo.desk.refused("join", ticket), E.BADTICKET)
    found("the same ticket again is refused")


def list_files(demo: Demo) -> None:
    """pi's files, from desk"""
    there = f"/n/pi{demo.pi.work}"
    listed = demo.desk.types("sh", "-c", f"ls {there}")
    same(listed.out.split(), sorted(os.listdir(demo.pi.work)), "the directory's names")
    read = demo.desk.types("sh", "-c", f"cat {there}/hello.txt")
    same(read.out, (demo.pi.work / "hello.txt").read_text(), "the file's text")
    above = demo.desk.refused("sh", "-c", f"ls /n/pi{demo.notes}")
    says(above, E.NOENT)
    found("pi's names and bytes are the same from desk; what was not granted is not there")


def put_program(demo: Demo) -> None:
    """A program compiled from C, put on pi"""
    wasm = build("wc")
    (demo.pi.work / "wc.wasm").write_bytes(wasm)
    demo.hash = demo.pi.types("put", "wc.wasm", "--name", "wc").out.strip()
    same(demo.hash, name_of(wasm), "the hash of the program")
    found(f"{len(wasm)} bytes of WebAssembly; the hash is the BLAKE3 of the file, counted here too")


def run_here(demo: Demo) -> None:
    """Run it by its hash on desk, which doesn't have it yet"""
    fetched = f"fetched {demo.hash}"
    need(fetched not in demo.desk.log_tail(10_000), "desk has the program already")
    ran = demo.desk.types("run", demo.hash, demo.notes.name)
    same(ran.out.split()[:3], count(demo.notes.read_bytes()).split(), "the count of lines, words, bytes")
    lines = [line for line in demo.desk.log_tail(10_000).splitlines() if fetched in line]
    need(len(lines) == 1 and "from pi" in lines[0], "desk's log doesn't say that the program came from pi")
    show("desk's log: " + json.loads(lines[0])["message"].replace(demo.hash, f"{demo.hash[:16]}…"))
    same(name_of(build("wc")), demo.hash, "the hash of what was run")
    found("fetched from pi, checked against its hash, run here; Python counts the same")


def run_there(demo: Demo) -> None:
    """Run it on pi, over desk's file"""
    data = demo.notes.read_bytes()
    ran = demo.desk.types("run", "--on", "pi", demo.hash, demo.notes.name)
    same(ran.out.split()[:3], count(data).split(), "the count of lines, words, bytes")
    need(not (demo.pi.work / demo.notes.name).exists(), "the file should be desk's alone")
    waiting = demo.desk.begins("run", "--on", "pi", demo.hash)
    row = demo.pi.process(demo.hash, waiting)
    show(f"pi's ps: {row['pid']} {row['user']} {row['state']} {' '.join(row['argv'])}")
    out, err = waiting.communicate(data.decode(), timeout=30)
    show(out)
    same((out.split(), err, waiting.returncode), (count(data).split(), "", 0), "the count of what was typed on desk")
    found("pi's processor, desk's file and desk's keyboard; pi's ps shows it while it waits for input")


def fetch_page(demo: Demo) -> None:
    """A page that only pi's side can reach"""
    url = f"http+unix://{quote(demo.page, safe='')}/"
    refused = demo.desk.refused("sh", "-c", f"fetch {url}")
    says(refused, E.NETUNREACH)
    came = demo.desk.types("sh", "-c", f"bind -b /n/pi/net /net; fetch {url}")
    same(came.out, PAGE, "the page")
    found("first no route; with pi's network bound before desk's, the page comes through pi")


def show_namespace(demo: Demo) -> None:
    """The namespace shows the bind"""
    bind = "bind -b /n/pi/net /net"
    shown = demo.desk.quietly("sh", "-c", f"{bind}; ns")
    demo.desk.shows(["sh", "-c", f"{bind}; ns"])
    lines = [line for line in shown.out.splitlines() if line.split()[-1:] == ["/net"]]
    show("\n".join(lines))
    # #I is desk's own network.
    same(lines, ["bind #I /net", "bind -b /n/pi/net /net"], "what ns says of /net")
    other = [line for line in demo.desk.quietly("sh", "-c", "ns").out.splitlines() if line.split()[-1:] == ["/net"]]
    same(other, ["bind #I /net"], "what ns says of /net in another shell")
    found("pi's network comes first in that shell's namespace, and is in no other's")


def kill_loop(demo: Demo) -> None:
    """A program in an endless loop"""
    (demo.desk.work / "spin.wasm").write_bytes(build("spin"))
    spinning = demo.desk.begins("run", "spin.wasm")
    row = demo.desk.process("spin.wasm", spinning)
    listed = demo.desk.types("sh", "-c", "ls /n")
    same(listed.out.split(), ["pi"], "what ls says")
    found(f"ls answered in {listed.seconds:.2f} s, the start of its OS process included")
    began = time.monotonic()
    demo.desk.types("kill", str(row["pid"]))
    spinning.communicate(timeout=30)
    seconds = time.monotonic() - began
    same(spinning.returncode, 128 + signal.SIGKILL, "the exit status of what was killed")
    same([row for row in demo.desk.asks("ps") if "spin.wasm" in " ".join(row["argv"])], [], "what is left of it")
    found(f"killed, with the exit status 137, {seconds:.2f} s after the command was typed")


def need_a_grant(demo: Demo) -> None:
    """A file without a grant, and with it"""
    (demo.desk.work / "show.wasm").write_bytes(build("show"))
    typed = ("show.wasm", "--file=/etc/passwd")
    refused = demo.desk.refused("run", *typed, status=1)
    same(refused.out, "", "what a program without the grant reads")
    need("No such file or directory" in refused.err, f"the program should say ENOENT: {refused.err!r}")
    demo.desk.shows(["run", "--grant", "/etc/passwd", *typed])
    granted = demo.desk.quietly("run", "--grant", "/etc/passwd", *typed)
    show("\n".join(granted.out.splitlines()[:1]) + "\n" + granted.err)
    same((granted.status, granted.out), (0, Path("/etc/passwd").read_text()), "the file with the grant")
    found(f"for a program without the grant the file does not exist; with it, all {len(granted.out)} bytes came")


STEPS: tuple[Callable[[Demo], None], ...] = (
    two_nodes, join, list_files, put_program, run_here, run_there, fetch_page, show_namespace, kill_loop, need_a_grant,
)  # fmt: skip


# -- around them ------------------------------------------------------------------------------------------------------


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it)
        """Nothing: what is asked for shows in the step."""

    def address_string(self) -> str:
        return "unix"


def serve_page(path: str) -> Callable[[], None]:
    """A web server with one page on a Unix socket; returns what stops it."""
    server = socketserver.ThreadingUnixStreamServer(path, _Page)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def prepare(stack: ExitStack) -> Demo:
    """Directories, files, the page; all of it goes when `stack` is closed."""
    # Sockets need short paths, which the temporary directory of some systems is not; and /tmp is each node's own.
    top = Path(os.path.realpath(tempfile.mkdtemp(prefix="cognu-demo-", dir="/var/tmp")))
    stack.callback(shutil.rmtree, top)
    machines = []
    for name in ("desk", "pi"):
        work = top / f"{name}-files"
        work.mkdir()
        machine = Machine(name, top / name, work)
        stack.callback(machine.stop)
        machines.append(machine)
    desk, pi = machines
    notes = desk.work / "notes.txt"
    notes.write_text("".join(f"{n}. Near and far look alike;\n\tnames say which.\n" for n in range(1, 5001)))
    (pi.work / "hello.txt").write_text("Hello from pi.\n")
    page = str(top / "page")
    stack.callback(serve_page(page))
    # The first to be called in the end: who is impatient then must not keep us from stopping the nodes.
    stack.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
    return Demo(desk, pi, page, notes)


def run(demo: Demo) -> int:
    """The steps in order, until one fails; each needs what those before it did. Returns how many checked out."""
    for number, step in enumerate(STEPS, 1):
        print(f"\n{number}. {step.__doc__}", flush=True)
        began = time.monotonic()
        try:
            step(demo)
        except Exception as failure:
            print(f"  FAILED: {failure or type(failure).__name__}")
            if not isinstance(failure, Failed):
                traceback.print_exc(file=sys.stdout)
            for machine in (demo.desk, demo.pi):
                print(f"\nThe end of {machine.name}'s log:\n{machine.log_tail()}")
            return number - 1
        print(f"  checked out in {time.monotonic() - began:.2f} s", flush=True)
    return len(STEPS)


def interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    signal.signal(signal.SIGTERM, interrupted)
    done = 0
    try:
        with ExitStack() as stack:
            done = run(prepare(stack))
    except KeyboardInterrupt:
        print("\nInterrupted; everything that was started is stopped.")
        return 130
    print(f"\n{done} of {len(STEPS)} steps checked out")
    return 0 if done == len(STEPS) else 1


if __name__ == "__main__":
    sys.exit(main())
