from __future__ import annotations

import ast
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cognu.runtime
from cognu.errors import E, FileError, Misuse
from cognu.runtime import capi, host, probe, shim
from cognu.runtime.engine import MAX_TABLE_ELEMENTS, Engine, Import, Module, Settings, _split
from cognu.runtime.fiber import PENDING, Bounds, Fiber, GuestFault, Slot, Step
from cognu.runtime.shim import FunctionType
from guests import command, wat

BOUNDS = Bounds(1 << 26, 1000)
WAITS = '(import "h" "f" (func $f (result i32)))'
SMALL = Settings(memory_reservation=65536, memory_growth=65536, memory_guard=65536)
POOLED = Settings(max_guests=16, pooled=True)
ALL_SETTINGS = pytest.mark.parametrize("settings", [Settings(), SMALL, POOLED], ids=["full", "small", "pooled"])


@pytest.fixture(params=[Settings(), POOLED], ids=["full", "pooled"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine(request.param)
    yield engine
    assert engine.counts.fibers == 0
    engine.close()


def run(fiber: Fiber) -> Step:
    while (step := fiber.poll()) is Step.SLICE:
        pass
    return step


def outcome_of(module: Module, handler: Any = None, slots: Any = (), bounds: Bounds = BOUNDS) -> Any:
    fiber = Fiber(module, list(slots), bounds, handler)
    try:
        assert run(fiber) is Step.ENDED
        return fiber.outcome
    finally:
        fiber.delete()


# Modules


@pytest.mark.parametrize("data", [b"", b"\0as", b"#!/bin/sh\n", b"\x7fELF"])
def test_what_is_not_webassembly_is_not_a_program(engine: Engine, data: bytes) -> None:
    with pytest.raises(FileError) as caught:
        engine.compile(data)
    assert caught.value.error is E.NOEXEC


@pytest.mark.parametrize(
    "data",
    [
        b"\0asm",
        b"\0asm\1\0\0\0\1",
        wat("(component)"),
        wat("(module (memory i64 1))"),
        wat("(module (memory 1 1 shared))"),
        wat("(module (memory 1) (memory 1))"),
        b"\0asm\1\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x05\x01\x03\0\x6a\x0b",  # i32.add on an empty stack
    ],
)
def test_an_invalid_or_unwanted_module_says_why(engine: Engine, data: bytes) -> None:
    with pytest.raises(FileError) as caught:
        engine.compile(data)
    assert caught.value.error is E.BADPROGRAM
    assert caught.value.detail
    assert engine.counts.modules == 0


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_refused_as_a_file_error(data: bytes) -> None:
    engine = Engine()
    try:
        with pytest.raises(FileError):
            engine.compile(b"\0asm\1\0\0\0\x0b" + data)
    finally:
        engine.close()


def test_a_module_shows_its_imports_exports_and_memory(engine: Engine) -> None:
    module = engine.compile(
        wat(
            '(module (import "a" "f" (func (param i32 i64 f32 f64) (result f64)))'
            ' (import "a" "r" (func (param externref)))'
            '(import "b" "g" (global i32)) (memory (export "memory") 2 10) (func (export "_start")))'
        )
    )
    assert module.imports == (
        Import("a", "f", "func", FunctionType("iqfd", "d")),
        Import("a", "r", "func", FunctionType("?", "")),
        Import("b", "g", "global", None),
    )
    assert [(e.name, e.kind) for e in module.exports] == [("memory", "memory"), ("_start", "func")]
    assert (module.memory_minimum, module.memory_maximum) == (2 * 65536, 10 * 65536)


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('(module (memory (export "memory") 1))', E.NOSTART),
        ('(module (memory (export "memory") 1) (func (export "_start") (param i32)))', E.NOSTART),
        ('(module (memory (export "memory") 1) (global (export "_start") i32 (i32.const 0)))', E.NOSTART),
        ('(module (func (export "_start")))', E.NOMEMORY),
        ('(module (memory 1) (func (export "_start")))', E.NOMEMORY),
        (
            '(module (import "e" "t" (table 1 funcref)) (memory (export "memory") 1) (func (export "_start")))',
            E.NOIMPORT,
        ),
    ],
)
def test_what_is_not_a_command_is_refused(engine: Engine, text: str, row: E) -> None:
    with pytest.raises(FileError) as caught:
        engine.compile(wat(text)).check_command()
    assert caught.value.error is row


def test_serialized_code_runs_again_in_a_like_engine_only(engine: Engine) -> None:
    module = engine.compile(command("unreachable"))
    data = module.serialize()
    again = engine.load(data)
    assert again.exports == module.exports
    assert "unreachable" in outcome_of(again).trap
    other = Engine(Settings(memory_reservation=65536))
    try:
        with pytest.raises(FileError) as caught:
            other.load(data)
        assert caught.value.error is E.BADPROGRAM
        assert other.configuration != engine.configuration
    finally:
        other.close()


def test_serialized_code_runs_in_an_engine_for_another_number_of_guests_pooled_or_not(engine: Engine) -> None:
    data = engine.compile(command("unreachable")).serialize()
    settings = replace(engine.settings, max_guests=7, tick=0.01, pooled=not engine.settings.pooled)
    other = Engine(settings)
    assert other.configuration == engine.configuration
    assert "unreachable" in outcome_of(other.load(data)).trap
    other.close()


def test_serialized_code_brings_its_shims(engine: Engine) -> None:
    module = engine.compile(command("(drop (call $f)) (call $g)", WAITS + '(import "k" "g" (func $g))'))
    calls: list[int] = []
    again = engine.load(module.serialize())

    def handler(place: int, _arguments: tuple[Any, ...]) -> Any:
        calls.append(place)
        return 1 if place == 0 else None

    assert again.imports == module.imports
    assert outcome_of(again, handler, [Slot("", "i"), Slot("", "")]).trap == ""
    assert calls == [0, 1]
    with pytest.raises(FileError):
        engine.load(engine.compile(command()).serialize() * 2)


@given(st.binary(max_size=100))
@settings(max_examples=50, deadline=None)
def test_any_bytes_split_into_parts_or_are_refused(data: bytes) -> None:
    framed = len(data).to_bytes(8, "little") + data
    assert _split(framed * 2) == [data, data]
    with pytest.raises(FileError):
        _split(framed + b"\1")
    with contextlib.suppress(FileError):
        assert b"".join(len(part).to_bytes(8, "little") + part for part in _split(data)) == data


def test_an_engine_with_fibers_does_not_close(engine: Engine) -> None:
    module = engine.compile(command())
    fiber = Fiber(module, [], BOUNDS, lambda _p, _a: None)
    with pytest.raises(Misuse):
        engine.close()
    with pytest.raises(Misuse):
        module.close()
    fiber.delete()
    fiber.delete()
    module.close()
    module.close()
    with pytest.raises(Misuse):
        Fiber(module, [], BOUNDS, lambda _p, _a: None)


# Host calls


def test_values_of_all_types_pass_both_ways(engine: Engine) -> None:
    cases: list[tuple[str, str, list[int | float]]] = [
        ("i", "i32", [0, 1, -1, -(1 << 31), (1 << 31) - 1]),
        ("I", "i32", [0, (1 << 32) - 1]),
        ("q", "i64", [-1, -(1 << 63), (1 << 63) - 1]),
        ("Q", "i64", [0, (1 << 64) - 1]),
        ("f", "f32", [0.5, -1e10, float("inf")]),
        ("d", "f64", [0.1, -1e300]),
    ]
    for letter, name, values in cases:
        module = engine.compile(
            command(
                "(call $put (call $get))",
                f'(import "h" "get" (func $get (result {name}))) (import "h" "put" (func $put (param {name})))',
            )
        )
        for value in values:
            got: list[Any] = []

            def handler(place: int, arguments: tuple[Any, ...], value: Any = value, got: Any = got) -> Any:
                if place == 0:
                    return value
                got.extend(arguments)
                return None

            assert outcome_of(module, handler, [Slot("", letter), Slot(letter, "")]).trap == ""
            assert got == [pytest.approx(value)]


@pytest.mark.parametrize(
    ("result", "letter"),
    [(1 << 32, "I"), (-1, "I"), (1 << 31, "i"), ("x", "i"), (None, "i"), (1.5, "i"), (1e300, "f"), (5, "")],
)
def test_a_result_that_does_not_fit_ends_the_guest(engine: Engine, result: Any, letter: str) -> None:
    kind = {"": "", "f": "(result f32)"}.get(letter, "(result i32)")
    drop = "drop" if letter else ""
    module = engine.compile(command(f"call $f {drop}", f'(import "h" "f" (func $f {kind}))'))
    fiber = Fiber(module, [Slot("", letter)], BOUNDS, lambda _p, _a: result)
    assert run(fiber) is Step.ENDED
    assert fiber.fault is not None
    assert fiber.outcome is not None
    assert fiber.outcome.trap
    fiber.delete()


def test_a_pending_call_suspends_at_once_and_its_answer_comes_out(engine: Engine) -> None:
    module = engine.compile(
        command("(call $g (i32.add (call $f) (call $f)))", WAITS + '(import "h" "g" (func $g (param i32)))')
    )
    calls: list[Any] = []

    def handler(place: int, arguments: tuple[Any, ...]) -> Any:
        calls.append((place, arguments))
        return PENDING if place == 0 else None

    fiber = Fiber(module, [Slot("", "i"), Slot("i", "")], BOUNDS, handler)
    assert run(fiber) is Step.CALL
    assert calls == [(0, ())]
    assert run(fiber) is Step.CALL, "a poll without an answer changes nothing"
    assert calls == [(0, ())]
    fiber.answer(40)
    with pytest.raises(Misuse):
        fiber.answer(41)
    assert run(fiber) is Step.CALL
    fiber.answer(2)
    assert run(fiber) is Step.ENDED
    assert calls == [(0, ()), (0, ()), (1, (42,))]
    with pytest.raises(Misuse):
        fiber.poll()
    fiber.delete()


def test_a_slice_that_ends_before_the_answer_is_fetched_is_no_new_call(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = engine.compile(command("(drop (call $f))", WAITS))
    fiber = Fiber(module, [Slot("", "i")], BOUNDS, lambda _p, _a: PENDING)
    assert run(fiber) is Step.CALL
    fiber.answer(1)
    with monkeypatch.context() as patch:
        # A tick between the fiber's going on and the shim's next question: seldom, so it is played here.
        patch.setattr(capi.lib, "wasmtime_call_future_poll", lambda _future: False)
        assert fiber.poll() is Step.SLICE
    assert run(fiber) is Step.ENDED
    fiber.delete()


def test_a_suspended_fiber_can_be_deleted(engine: Engine) -> None:
    module = engine.compile(command("(drop (call $f))", WAITS))
    fiber = Fiber(module, [Slot("", "i")], BOUNDS, lambda _p, _a: PENDING)
    assert run(fiber) is Step.CALL
    fiber.delete()
    with pytest.raises(GuestFault):
        fiber.read(0, 1)


def test_no_fiber_is_polled_or_deleted_from_inside_a_host_call(engine: Engine) -> None:
    module = engine.compile(command("(drop (call $f))", WAITS))
    other = Fiber(module, [Slot("", "i")], BOUNDS, lambda _p, _a: PENDING)
    assert run(other) is Step.CALL
    refused: list[str] = []

    def handler(_place: int, _arguments: tuple[Any, ...]) -> int:
        for act in (other.delete, other.poll, fiber.delete, fiber.poll):
            with pytest.raises(Misuse):
                act()
            refused.append(act.__name__)
        return 0

    fiber = Fiber(module, [Slot("", "i")], BOUNDS, handler)
    assert run(fiber) is Step.ENDED
    assert fiber.fault is None
    assert len(refused) == 4
    fiber.delete()
    other.delete()


# Memory


def test_memory_is_checked_at_each_access(engine: Engine) -> None:
    module = engine.compile(command("(drop (call $f))", WAITS))
    fiber = Fiber(module, [Slot("", "i")], BOUNDS, lambda _p, _a: PENDING)
    with pytest.raises(GuestFault):
        fiber.read(0, 0)
    assert run(fiber) is Step.CALL
    fiber.write(65533, b"abc")
    fiber.write(0, memoryview(b"xyz"))
    fiber.write(3, bytearray(b"w"))
    assert fiber.read(0, 4) + fiber.read(65533, 3) == b"xyzwabc"
    with fiber.view(0, 4) as view:
        view[0] = 65
        assert bytes(view) == b"Ayzw"
    assert fiber.read(65536, 0) == b""
    wild = [(65536, 1), (65534, 3), (-1, 1), (0, -1), (1 << 32, 1), (0xFFFFFFFF, 2), (0, 1 << 63), (65537, 0)]
    for pointer, count in wild:
        for act in (fiber.read, fiber.view):
            with pytest.raises(GuestFault) as caught:
                act(pointer, count)
            assert caught.value.error is E.FAULT
    with pytest.raises(GuestFault):
        fiber.write(65535, b"ab")
    assert fiber.read(65535, 1) == b"c", "nothing is written in part"
    fiber.delete()


@given(st.integers(-(1 << 33), 1 << 33), st.integers(-(1 << 33), 1 << 33))
@settings(max_examples=200, deadline=None)
def test_any_pointer_reads_what_is_there_or_faults(pointer: int, count: int) -> None:
    fiber = _waiting()
    if pointer >= 0 and count >= 0 and pointer + count <= 65536:
        assert fiber.read(pointer, count) == bytes(count)
    else:
        with pytest.raises(GuestFault):
            fiber.read(pointer, count)


_waiting_fiber: list[Fiber] = []


def _waiting() -> Fiber:
    if not _waiting_fiber:
        module = Engine().compile(command("(drop (call $f))", WAITS))
        _waiting_fiber.append(Fiber(module, [Slot("", "i")], BOUNDS, lambda _p, _a: PENDING))
        assert run(_waiting_fiber[0]) is Step.CALL
    return _waiting_fiber[0]


@pytest.fixture(autouse=True, scope="module")
def _clean() -> Iterator[None]:
    yield
    for fiber in _waiting_fiber:
        engine = fiber.module.engine
        fiber.delete()
        engine.close()


@ALL_SETTINGS
def test_memory_that_grows_is_found_where_it_is(settings: Settings) -> None:
    engine = Engine(settings)
    module = engine.compile(
        command(
            "(loop $l (drop (memory.grow (i32.const 16))) (drop (call $f))"
            "(br_if $l (i32.lt_u (memory.size) (i32.const 500))))",
            WAITS,
        )
    )
    sizes: list[int] = []

    def handler(_place: int, _arguments: tuple[Any, ...]) -> int:
        size = fiber.memory_size
        assert fiber.read(0, 8 * len(sizes)) == b"".join(size.to_bytes(8, "little") for size in sizes)
        fiber.write(8 * len(sizes), size.to_bytes(8, "little"))
        sizes.append(size)
        return 0

    fiber = Fiber(module, [Slot("", "i")], BOUNDS, handler)
    assert run(fiber) is Step.ENDED
    assert fiber.fault is None
    assert sizes[0] == 17 * 65536
    assert len(sizes) == 32
    fiber.delete()
    engine.close()


def test_an_imported_memory_is_made_and_used(engine: Engine) -> None:
    module = engine.compile(
        wat(
            '(module (import "env" "memory" (memory 1)) (import "h" "f" (func $f)) (data (i32.const 4) "data")'
            '(func (export "_start") (call $f)))'
        )
    )
    module.check_command()
    seen: list[bytes] = []
    fiber = Fiber(module, [None, Slot("", "")], BOUNDS, lambda _p, _a: seen.append(fiber.read(4, 4)))
    assert run(fiber) is Step.ENDED
    assert fiber.fault is None
    assert seen == [b"data"]
    fiber.delete()
    assert outcome_of(module, None, [None, Slot("", "")], Bounds(0, 0)).refused


# Ends


@ALL_SETTINGS
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("unreachable", "unreachable"),
        ("(drop (i32.load (i32.const 65536)))", "out of bounds memory"),
        ("(drop (i32.load (i32.const 0x7fffffff)))", "out of bounds memory"),
        ("(memory.fill (i32.const 65000) (i32.const 1) (i32.const 1000))", "out of bounds memory"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "divide by zero"),
        ("(call 0)", "stack"),
        ("(call_indirect (i32.const 0))", "uninitialized element"),
        ("(call_indirect (i32.const 5))", "undefined element"),
    ],
)
def test_a_trap_names_its_reason(settings: Settings, body: str, words: str) -> None:
    engine = Engine(settings)
    outcome = outcome_of(engine.compile(command(body, more="(table 2 funcref)")))
    assert words in outcome.trap
    assert "\n" not in outcome.trap
    assert not outcome.refused
    engine.close()


def test_limits_hold_from_the_start_and_at_growth(engine: Engine) -> None:
    assert outcome_of(engine.compile(command(memory="100")), bounds=Bounds(65536, 10)).refused
    assert outcome_of(engine.compile(command(more="(table 11 funcref)")), bounds=Bounds(65536, 10)).refused
    tables = command(more="(table 1 funcref)" * 5)
    if engine.settings.pooled:  # no place of the pool fits it, which is known when it is compiled
        with pytest.raises(FileError, match="tables"):
            engine.compile(tables)
    else:
        assert outcome_of(engine.compile(tables), bounds=Bounds(65536, 10)).refused
    grows = command(
        "(if (i32.ne (table.grow 0 (ref.null func) (i32.const 9)) (i32.const 1)) (then unreachable))"
        "(if (i32.ne (table.grow 0 (ref.null func) (i32.const 1)) (i32.const -1)) (then unreachable))"
        "(if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))",
        more="(table 1 funcref)",
    )
    assert outcome_of(engine.compile(grows), bounds=Bounds(65536, 10)).trap == ""


def test_nans_are_canonical(engine: Engine) -> None:
    module = engine.compile(
        command(
            "(call $f (i64.reinterpret_f64 (f64.div (call $z) (call $z))))"
            "(call $f (i64.reinterpret_f64 (f64.add (f64.reinterpret_i64 (i64.const 0xfff8000000000123)) (call $z))))",
            '(import "h" "f" (func $f (param i64))) (import "h" "z" (func $z (result f64)))',
        )
    )
    seen: list[Any] = []

    def handler(place: int, arguments: tuple[Any, ...]) -> Any:
        if place == 1:
            return 0.0
        seen.extend(arguments)
        return None

    assert outcome_of(module, handler, [Slot("Q", ""), Slot("", "d")]).trap == ""
    assert seen == [0x7FF8000000000000] * 2


# The shim, the library, the host


@given(st.lists(st.tuples(st.text("iqfd", max_size=6), st.text("iqfd", max_size=1)), max_size=40))
@settings(max_examples=30, deadline=None)
def test_the_shim_is_valid_for_all_types(types: list[tuple[str, str]]) -> None:
    functions = [shim.ShimFunction(f"ü{n}", FunctionType(*kind)) for n, kind in enumerate(types)]
    engine = Engine()
    try:
        module = engine.compile(shim.build(functions))
        assert [(e.name, e.type) for e in module.exports] == [(f.name, f.type) for f in functions]
        assert [(i.name, i.type) for i in module.imports] == [
            (str(n), FunctionType("i" + params, "i" + results)) for n, (params, results) in enumerate(types)
        ]
    finally:
        engine.close()


def test_only_the_engine_sees_ctypes() -> None:
    folder = Path(cognu.runtime.__file__).parent
    users = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in ("ctypes", "wasmtime") for name in names):
                users.add(path.name)
    assert users == {"engine.py", "fiber.py", "capi.py"}


def test_another_version_of_wasmtime_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "51.0.0")
    with pytest.raises(FileError) as caught:
        capi._Library()
    assert caught.value.error is E.ENGINE


def test_a_missing_function_is_found_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(capi._SHORT, "wasmtime_not_there", (None,))
    with pytest.raises(FileError, match="wasmtime_not_there"):
        capi._Library()


def test_what_a_guest_left_the_next_in_its_place_does_not_find() -> None:
    """A pool uses memories, tables and stacks again: memory that was written and grew, a table, a global."""
    looks = (
        "(if (i32.ne (memory.size) (i32.const 2)) (then unreachable))"
        "(if (i32.load (i32.const 100)) (then unreachable))"
        "(if (i32.load (i32.const 131064)) (then unreachable))"
        "(if (i32.ne (i32.load (i32.const 8)) (i32.const 0x61746164)) (then unreachable))"
        "(if (i32.eqz (ref.is_null (table.get 0 (i32.const 3)))) (then unreachable))"
        "(if (global.get $g) (then unreachable))"
    )
    leaves = (
        "(i32.store (i32.const 100) (i32.const 7)) (i32.store (i32.const 131064) (i32.const 7))"
        "(i32.store (i32.const 8) (i32.const 7)) (table.set 0 (i32.const 3) (ref.func 0)) (global.set $g (i32.const 7))"
        "(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))"
        "(i32.store (i32.const 2000000) (i32.const 7)) (drop (call $f))"
        "(if (i32.load (i32.const 1999996)) (then unreachable))"
    )
    more = '(table 10 funcref) (elem declare func 0) (global $g (mut i32) (i32.const 0)) (data (i32.const 8) "data")'
    engine = Engine(Settings(max_guests=1, pooled=True))
    module = engine.compile(command(looks + leaves, WAITS, memory="2", more=more))
    for _ in range(3):
        assert outcome_of(module, lambda _p, _a: 0, [Slot("", "i")]).trap == ""
    held = Fiber(module, [Slot("", "i")], BOUNDS, lambda _p, _a: PENDING)
    assert run(held) is Step.CALL
    full = outcome_of(module, lambda _p, _a: 0, [Slot("", "i")])
    assert full.refused
    assert "limit" in full.trap
    held.delete()
    assert outcome_of(module, lambda _p, _a: 0, [Slot("", "i")]).trap == ""
    engine.close()


def test_a_pool_takes_every_program_that_its_limits_allow() -> None:
    engine = Engine(POOLED)
    elements = MAX_TABLE_ELEMENTS
    tables = f"(table {elements} funcref)" * 4
    bounds = Bounds(65536, elements)
    assert outcome_of(engine.compile(command(more=tables)), bounds=bounds).trap == ""
    many = "".join(f"(func $f{n}) (elem declare func $f{n})" for n in range(40_000))
    assert outcome_of(engine.compile(command(more=many)), bounds=bounds).trap == ""
    grows = "(if (i32.ne (memory.grow (i32.const 65535)) (i32.const 1)) (then unreachable))"
    assert outcome_of(engine.compile(command(grows)), bounds=Bounds(1 << 32, 0)).trap == ""
    engine.close()


def test_settings_fit_the_machine() -> None:
    roomy = host.settings(host.Host(1 << 46, 65530, 500))
    assert roomy.memory_reservation == 4 << 30
    assert 4000 < roomy.max_guests < 65530 // 5
    assert roomy.pooled
    counted = host.settings(host.Host(1 << 46, 65530, 500, overcommits=False))
    assert counted == replace(roomy, pooled=False)
    tight = host.settings(host.Host(1 << 39, 65530, 500))
    assert tight.memory_reservation == 65536
    assert tight.max_guests > 4000
    assert not tight.pooled
    assert host.settings(host.Host(1 << 30, None, 0)).max_guests < 300
    assert host.settings(host.Host(1 << 46, 100, 99)).max_guests == 1
    here = host.measure()
    assert here.address_space >= 1 << 30


def test_the_probe_passes_here_and_a_crash_has_a_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cognu.runtime.probe"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(Path(cognu.runtime.__file__).parents[2])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "programs at once" in done.stdout
    assert "all at once" in done.stdout or "one by one" in done.stdout
    assert probe.diagnose(0, "") is None
    error = probe.diagnose(-6, "Fatal Python error: stack\n")
    assert error is not None
    assert error.error is E.FIBERS
    assert "Fatal Python error" in str(error)
