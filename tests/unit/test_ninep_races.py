"""Client and server session joined in memory over a toy tree, in every order of events that Hypothesis thinks of."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.ninep import messages as m
from cognu.ninep.client import Agreed, Answered, ClientSession, Declined, Failed, Flushed
from cognu.ninep.messages import Dialect, Reply, Request
from cognu.ninep.server import Called, Cancel, Limits, Release, Send, ServerSession
from cognu.ninep.types import NOFID, QTDIR, Extent, Qid

TREE: dict[str, bytes | None] = {"": None, "d": None, "d/f": b"hello", "log": b""}
PATHS = sorted(TREE)


def qid(path: str) -> Qid:
    return Qid(QTDIR if TREE[path] is None else 0, 0, PATHS.index(path))


@dataclass
class Handle:
    path: str


@dataclass
class Toy:
    """The embedding of a server: everything is done late, when `step` says so. Writes to `log` leave a mark there."""

    session: ServerSession
    out: bytearray = field(default_factory=bytearray)
    running: dict[int, Called] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)
    handles: list[Handle] = field(default_factory=list)
    log: list[bytes] = field(default_factory=list)

    def pump(self) -> None:
        for event in iter(self.session.next_event, None):
            match event:
                case Called(tag=tag):
                    self.running[tag] = event
                case Cancel(tag=tag):
                    self.cancelled.add(tag)
                case Release(targets=targets):
                    for target in targets:
                        self.drop(target)
                case Send(buffers=buffers):
                    for buffer in buffers:
                        assert not isinstance(buffer, Extent)
                        self.out += buffer

    def drop(self, target: object) -> None:
        assert isinstance(target, Handle)
        assert any(handle is target for handle in self.handles)
        self.handles = [handle for handle in self.handles if handle is not target]

    def made(self, path: str) -> Handle:
        handle = Handle(path)
        self.handles.append(handle)
        return handle

    def step(self, tag: int, stop: bool) -> None:
        """End one request: stopped if that was asked for and `stop`, else carried out."""
        called = self.running.pop(tag)
        if tag in self.cancelled and stop:
            self.cancelled.discard(tag)
            self.session.cancelled(tag)
        else:
            self.cancelled.discard(tag)
            self.carry_out(called)
        self.pump()

    def carry_out(self, called: Called) -> None:
        tag, target = called.tag, called.target
        match called.message:
            case m.Tattach():
                self.session.reply(tag, m.Rattach(qid("")), self.made(""))
            case m.Twalk(names=names):
                assert isinstance(target, Handle)
                path = "/".join(filter(None, [target.path, *names]))
                if path in TREE:
                    steps = [qid("/".join(path.split("/")[: at + 1])) for at in range(len(names))]
                    self.session.reply(tag, m.Rwalk(tuple(steps)), self.made(path))
                else:
                    self.session.error(tag, FileError(E.NOENT, path))
            case m.Tlopen():
                assert isinstance(target, Handle)
                self.session.reply(tag, m.Rlopen(qid(target.path), 0))
            case m.Topen():
                assert isinstance(target, Handle)
                self.session.reply(tag, m.Ropen(qid(target.path), 0))
            case m.Tread(offset=offset, count=count):
                assert isinstance(target, Handle)
                self.session.reply(tag, m.Rread((TREE[target.path] or b"")[offset : offset + count]))
            case m.Twrite(data=data):
                self.log.append(bytes(data))
                self.session.reply(tag, m.Rwrite(len(data)))
            case m.Tclunk():
                self.drop(target)
                self.session.reply(tag, m.Rclunk())
            case _:
                self.session.error(tag, FileError(E.NOSYS))


class Joined:
    """Both ends and the two byte streams between them, moved on only when told."""

    def __init__(self, dialect: Dialect) -> None:
        self.client = ClientSession(dialect, 8192)
        self.server = Toy(ServerSession(Limits(8192)))
        self.up = bytearray()
        self.results: dict[int, Reply | FileError | None] = {}
        self.sent: dict[int, Request] = {}
        self.by_tag: dict[int, int] = {}  # tag to the number of the request that has it
        self.up += b"".join(self.client.version())
        self.run()

    def request(self, message: Request) -> int:
        tag, buffers = self.client.request(message)
        number = len(self.sent)
        self.sent[number] = message
        self.by_tag[tag] = number
        self.up += b"".join(buffers)
        return number

    def flush(self, number: int) -> None:
        for tag, other in self.by_tag.items():
            if other == number and number not in self.results:
                self.up += b"".join(self.client.flush(tag))

    def move_up(self, count: int) -> None:
        chunk, self.up = bytes(self.up[:count]), self.up[count:]
        self.server.session.feed(chunk)
        self.server.pump()

    def move_down(self, count: int) -> None:
        chunk, self.server.out = bytes(self.server.out[:count]), self.server.out[count:]
        for event in self.client.feed(chunk):
            if isinstance(event, Agreed | Declined):
                continue
            number = self.by_tag.pop(event.tag)
            assert number not in self.results
            match event:
                case Answered(message=message):
                    self.results[number] = message
                case Failed(error=error):
                    self.results[number] = error
                case Flushed():
                    self.results[number] = None

    def run(self) -> None:
        """Everything to its end, in order."""
        while self.up or self.server.running or self.server.out:
            self.move_up(len(self.up))
            while self.server.running:
                self.server.step(min(self.server.running), stop=True)
            self.move_down(len(self.server.out))

    def do(self, message: Request) -> Reply:
        number = self.request(message)
        self.run()
        answer = self.results[number]
        assert isinstance(answer, Reply)
        return answer


def opened(dialect: Dialect, path: tuple[str, ...]) -> tuple[Joined, int]:
    joined = Joined(dialect)
    root, fid = joined.client.new_fid(), joined.client.new_fid()
    joined.do(m.Tattach(root, NOFID, "u", ""))
    joined.do(m.Twalk(root, fid, path))
    joined.do(m.Topen(fid, 2) if dialect in m.OLD_STYLE else m.Tlopen(fid, 2))
    return joined, fid


@pytest.mark.parametrize("dialect", Dialect)
def test_a_file_is_read_end_to_end(dialect: Dialect) -> None:
    joined, fid = opened(dialect, ("d", "f"))
    assert joined.client.dialect is dialect
    assert joined.do(m.Tread(fid, 1, 3)) == m.Rread(b"ell")
    assert joined.do(m.Tclunk(fid)) == m.Rclunk()
    assert [handle.path for handle in joined.server.handles] == [""]


def test_walk_open_read_clunk_in_one_go() -> None:
    joined = Joined(Dialect.L)
    joined.do(m.Tattach(0, NOFID, "u", ""))
    walk = joined.request(m.Twalk(0, 1, ("d", "f")))
    opening = joined.request(m.Tlopen(1, 0))
    read = joined.request(m.Tread(1, 0, 9))
    joined.move_up(len(joined.up))
    joined.run()
    assert joined.results[walk] == m.Rwalk((qid("d"), qid("d/f")))
    assert joined.results[opening] == m.Rlopen(qid("d/f"), 0)
    assert joined.results[read] == m.Rread(b"hello")


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_flushes_race_with_answers_and_both_sides_agree_on_what_happened(data: st.DataObject) -> None:
    joined, fid = opened(Dialect.L, ("log",))
    marks: dict[int, bytes] = {}
    clones: dict[int, int] = {}
    for step in range(data.draw(st.integers(1, 40))):
        match data.draw(st.integers(0, 5)):
            case 0:
                mark = b"%d" % step
                marks[joined.request(m.Twrite(fid, 0, mark))] = mark
            case 1:
                clone = joined.client.new_fid()
                clones[joined.request(m.Twalk(fid, clone, ()))] = clone
            case 2 if joined.sent:
                joined.flush(data.draw(st.sampled_from(sorted(joined.sent))))
            case 3:
                joined.move_up(data.draw(st.integers(0, len(joined.up))))
            case 4:
                joined.move_down(data.draw(st.integers(0, len(joined.server.out))))
            case 5 if joined.server.running:
                tag = data.draw(st.sampled_from(sorted(joined.server.running)))
                joined.server.step(tag, data.draw(st.booleans()))
            case _:
                pass
    joined.run()
    assert set(joined.results) == set(joined.sent)
    assert joined.client.in_flight == []
    # A write that was answered is in the log once; one that was flushed without answer never happened.
    done = [mark for number, mark in marks.items() if joined.results[number] is not None]
    assert sorted(joined.server.log) == sorted(done)
    # A fid exists at the server exactly if the client was told so.
    alive = [fid for number, fid in clones.items() if joined.results[number] is not None]
    assert joined.server.session.fid_count == 2 + len(alive)
    for clone in alive:
        assert joined.do(m.Tclunk(clone)) == m.Rclunk()
    joined.server.session.close()
    joined.server.pump()
    assert joined.server.handles == []


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_clunk_races_with_what_is_parked_on_its_fid(data: st.DataObject) -> None:
    joined, fid = opened(Dialect.L, ("log",))
    for number in range(data.draw(st.integers(0, 5))):
        joined.request(m.Twrite(fid, 0, b"%d" % number))
    clunk = joined.request(m.Tclunk(fid))
    for _ in range(data.draw(st.integers(0, 15))):
        joined.move_up(data.draw(st.integers(0, len(joined.up))))
        if joined.server.running:
            tag = data.draw(st.sampled_from(sorted(joined.server.running)))
            joined.server.step(tag, data.draw(st.booleans()))
        joined.move_down(data.draw(st.integers(0, len(joined.server.out))))
    joined.run()
    assert joined.results[clunk] == m.Rclunk()
    written = sum(isinstance(answer, m.Rwrite) for answer in joined.results.values())
    assert len(joined.server.log) == written
    assert [handle.path for handle in joined.server.handles] == [""]


def test_a_new_version_in_the_middle_ends_everything_and_leaks_nothing() -> None:
    joined, fid = opened(Dialect.L, ("log",))
    joined.request(m.Twrite(fid, 0, b"x"))
    joined.move_up(len(joined.up))
    again = ClientSession(Dialect.LEGACY, 4096)
    joined.up += b"".join(again.version())
    joined.move_up(len(joined.up))
    assert joined.server.out == b""  # not before the write has ended
    joined.server.step(min(joined.server.running), stop=False)
    assert list(again.feed(bytes(joined.server.out))) == [Agreed(Dialect.LEGACY, 4096)]
    assert (joined.server.handles, joined.server.session.fid_count) == ([], 0)
