"""Any history of namespace operations gives what a naive model gives that was written apart from it."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from naive_namespace import Naive, Refused
from script import Result, Runner

DATA = json.loads((pathlib.Path(__file__).parents[1] / "data" / "namespace" / "vectors.json").read_text())
SETUP = DATA["setup"]
NOT_PLAN9 = ("twice", "dotdot", "mtpt", "statname")


def naive_start() -> Naive:
    """The model with the trees that the recorded scripts start with."""
    model = Naive()
    roots = {1: model.add(1, None, "", None), 2: model.add(2, None, "", None)}
    for server, entries, prefix in ((1, SETUP["tree"], ""), (2, SETUP["mount"]["tree"], SETUP["mount"]["at"])):
        for path, *text in entries:
            *above, name = path.removeprefix(prefix).strip("/").split("/")
            directory = roots[server]
            for step in above:
                directory = model.member(directory, step)
            model.add(server, directory, name, text[0] if text else None)
    model.cwd = model.root()
    model.table[model.walk(SETUP["mount"]["at"])[-1].file] = [(roots[2], True)]
    return model


def ask(model: Naive, operation: list[str]) -> Result:
    name, *arguments = operation
    try:
        value = getattr(model, name)(*arguments)
    except Refused as refused:
        return {"err": str(refused)}
    return {"ok": "" if value is None else value}


@pytest.mark.parametrize("vector", DATA["vectors"][::4], ids=[vector["name"] for vector in DATA["vectors"][::4]])
def test_the_model_agrees_with_what_was_recorded(vector: dict[str, Any]) -> None:
    """So it is no mere echo of the implementation."""
    model = naive_start()
    tags = vector.get("tags", {})
    end = min([tags[tag] for tag in NOT_PLAN9 if tag in tags], default=len(vector["ops"]))
    for index, (operation, recorded) in enumerate(zip(vector["ops"][:end], vector["results"], strict=False)):
        expected = {"ok": recorded["ok"]} if "ok" in recorded else {"err": recorded["err"]}
        if recorded.get("text", "").startswith("(runner)"):
            expected = {"err": {"read": "NOTSUP", "ls": "notdir"}[operation[0]]}
        assert ask(model, operation) == expected, f"operation {index}: {operation}"


DIRECTORIES = ["a", "b", "c", "d", "s", "t", "n"]
FILES = ["x", "y", "z", "q"]
ELEMENT = st.sampled_from([*DIRECTORIES, *FILES, "..", "."])
KNOWN = ["/", "/w", "/m", "/w/a", "/w/b", "/w/c", "/w/d", "/w/a/s", "/w/b/t", "/w/c/t", "/m/s"]
KNOWN += ["/w/a/x", "/m/z", ".", ".."]
PATH = st.one_of(
    st.sampled_from(KNOWN),
    st.builds("{}/{}".format, st.sampled_from(KNOWN), ELEMENT),
    st.builds("{}/{}/{}".format, st.sampled_from(KNOWN), ELEMENT, ELEMENT),
    st.builds("{}/{}/{}/{}".format, st.sampled_from(KNOWN), ELEMENT, ELEMENT, ELEMENT),
).map(lambda path: path.replace("//", "/"))
FLAGS = st.builds("{}{}".format, st.sampled_from(["MREPL", "MBEFORE", "MAFTER"]), st.sampled_from(["", "", "|MCREATE"]))
TEXT = st.sampled_from(["one", "two", "three"])


class NamespaceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = Runner(SETUP)
        self.model = naive_start()

    def both(self, *operation: str) -> None:
        expected = ask(self.model, list(operation))
        assert self.runner.run(list(operation)) == expected, operation

    @rule(source=PATH, place=PATH, flags=FLAGS)
    def bind(self, source: str, place: str, flags: str) -> None:
        self.both("bind", source, place, flags)
        self.both("ls", place)

    @rule(source=st.one_of(st.just("-"), PATH), place=PATH)
    def unmount(self, source: str, place: str) -> None:
        self.both("unmount", source, place)

    @rule(data=st.data())
    def unmount_what_is_mounted(self, data: st.DataObject) -> None:
        """Paths chosen at random seldom meet a mount point."""
        places = [str(head.place.path) for head in self.runner.namespace.heads.values()]
        if places:
            place = data.draw(st.sampled_from(places))
            self.both("unmount", data.draw(st.one_of(st.just("-"), PATH)), place)

    @rule(path=PATH, text=TEXT)
    def create(self, path: str, text: str) -> None:
        self.both("create", path, text)

    @rule(path=PATH)
    def mkdir(self, path: str) -> None:
        self.both("mkdir", path)

    @rule(path=PATH, text=TEXT)
    def write(self, path: str, text: str) -> None:
        self.both("write", path, text)

    @rule(path=PATH)
    def remove(self, path: str) -> None:
        self.both("remove", path)

    @rule(path=PATH, name=st.sampled_from([*DIRECTORIES, *FILES]))
    def rename(self, path: str, name: str) -> None:
        self.both("rename", path, name)

    @rule(path=PATH)
    def look(self, path: str) -> None:
        self.both("read", path)
        self.both("stat", path)
        self.both("ls", path)

    @rule(path=PATH)
    def chdir(self, path: str) -> None:
        self.both("chdir", path)

    @rule()
    def fork(self) -> None:
        if len(self.model.saved) < 3:
            self.both("push")

    @precondition(lambda self: bool(self.model.saved))
    @rule()
    def return_to_the_parent(self) -> None:
        self.both("pop")

    @invariant()
    def the_tables_are_equal(self) -> None:
        self.both("pwd")
        self.both("ls", "/w")
        ours = self.model.table
        theirs = self.runner.namespace.heads
        assert sorted(map(len, ours.values())) == sorted(len(head.members) for head in theirs.values())

    def teardown(self) -> None:
        while self.model.saved:
            self.both("pop")
        self.runner.namespace.release()


TestNamespace = NamespaceMachine.TestCase
TestNamespace.settings = settings(max_examples=60, stateful_step_count=40)
