"""The manual: complete, exact, and its examples carried out, all on one pair of nodes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from cognu.cli.main import VERBS, verbs
from cognu.devices.cons import DRIVERS
from cognu.devices.root import ROOT_DIRECTORIES
from cognu.errors import E, FileError
from cognu.man import ALIASES, SECTIONS, choose, pages, read, summary
from cognu.man.errors import page as errors_page
from cognu.ninep.types import ORDWR, OREAD
from cognu.node.base import MORE_DIRECTORIES, NAMESPACE
from cognu.node.settings import Home
from cognu.shell.commands import COMMANDS, testing
from e2e.harness import Client, File, Me, far
from programs.build import build

ROOT = Path(__file__).parents[2]
PAGES = pages()
IDS = [f"{name}({section})" for section, name in PAGES]
PARTS = ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "FILES", "ERRORS", "SEE ALSO", "SOURCE"]
HOME = "/home/me"
"""What the pages call the directory in which their examples are carried out."""
END = "== end of the example =="
EVERYWHERE = {"--help", "--home", "--json", "-h"}
"""Options of every verb."""


class Example(NamedTuple):
    prompt: str
    command: str
    prints: str


def parts(text: str) -> dict[str, str]:
    """A page's sections by their headings."""
    pieces = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return {heading: body.strip("\n") for heading, body in zip(pieces[1::2], pieces[2::2], strict=True)}


def code(section: str) -> list[str]:
    return [line.removeprefix("    ") for line in section.split("\n") if line.startswith("    ")]


def examples(text: str) -> list[Example]:
    found: list[Example] = []
    for line in code(parts(text)["EXAMPLES"]):
        prompt, blank, command = line.partition(" ")
        if blank and prompt in ("cognu%", "$"):
            found.append(Example(prompt, command, ""))
        else:
            found[-1] = found[-1]._replace(prints=f"{found[-1].prints}{line}\n")
    return found


def usage_of(name: str) -> list[str]:
    """What `--help` says of it: as a command of the shell, as a verb of `cognu`."""
    found = [COMMANDS[known].usage for known in COMMANDS if ALIASES.get(known, known) == name]
    found.sort(reverse=True)
    if name in VERBS:
        above = click.Context(verbs, info_name="cognu")
        verb = verbs.get_command(above, name)
        assert verb is not None
        own = verb.get_usage(click.Context(verb, info_name=name, parent=above)).removeprefix("Usage: ")
        of_shell = verb.add_help_option is False
        found.append(f"cognu {COMMANDS[name].usage}" if of_shell else " ".join(own.split()))
    return found


def options_of(name: str) -> set[str]:
    """The options that `cognu NAME` takes itself, and the conditions of `test`."""
    verb = verbs.get_command(click.Context(verbs), name) if name in VERBS else None
    below = verb.commands.values() if isinstance(verb, click.Group) else ()
    parameters = [] if verb is None else [parameter for each in (verb, *below) for parameter in each.params]
    if name == "test":
        return {word for word in (*testing._UNARY, *testing._BINARY) if word.startswith("-")}
    return {text for parameter in parameters for text in (*parameter.opts, *parameter.secondary_opts)
            if text.startswith("-")}  # fmt: skip


def names_file(line: str) -> str:
    """The path in a line of FILES."""
    found = re.match(r"- `([^`]+)`: .", line)
    assert found is not None, line
    return found[1]


def files(text: str) -> list[str]:
    section = parts(text)["FILES"]
    return [] if section == "None." else [names_file(line) for line in section.split("\n")]


# -- what is there, and what is said of it ----------------------------------------------------------------------------


def test_every_command_verb_and_device_has_a_page_and_nothing_else_has() -> None:
    named = {section: {name for at, name in PAGES if at == section} for section in SECTIONS}
    assert named["1"] == {ALIASES.get(name, name) for name in (*COMMANDS, *VERBS, "cognu")}
    assert named["3"] == set(DRIVERS.values())
    for letter, name in DRIVERS.items():
        assert f"'#{letter}" in parts(read("3", name))["SYNOPSIS"], name


def test_the_synopsis_of_a_device_is_its_line_in_the_base_namespace() -> None:
    lines = {line for name in DRIVERS.values() for line in code(parts(read("3", name))["SYNOPSIS"])}
    assert {line for line in lines if not line.startswith("attach ")} == set(NAMESPACE.splitlines())


@pytest.mark.parametrize(("section", "name"), PAGES, ids=IDS)
def test_a_page_has_its_parts_and_names_only_what_exists(section: str, name: str) -> None:
    text = read(section, name)
    found = parts(text)
    assert text.startswith(f"# {name}({section})\n")
    assert list(found) == PARTS
    assert all(found.values())
    assert found["NAME"].startswith(f"{name} - ")
    prose = text.replace(found["SYNOPSIS"], "")
    assert max(map(len, prose.splitlines())) <= 120
    for line in found["ERRORS"].splitlines():
        row = re.match(r"- (.*) \(([A-Z0-9]+)\): .", line)
        assert row is None or E[row[2]].text == row[1], line
    also = re.findall(r"([a-z0-9]+)\(([0-9])\)", text.replace("cons(3) of Plan 9", ""))
    foreign = {("rc", "1"), ("ramfs", "4"), ("pipe", "3"), ("flock", "2"), ("env", "3"), ("dup", "3"), ("proc", "3")}
    assert {(at, page) for page, at in also} - {(at, page) for page, at in foreign} <= set(PAGES)
    sources = re.findall(r"`(.*)`", found["SOURCE"])
    assert sources
    assert all((ROOT / source).is_file() for source in sources), sources


@pytest.mark.parametrize("name", [name for section, name in PAGES if section == "1" and name != "cognu"])
def test_the_synopsis_is_what_help_says_and_the_options_are_those_that_exist(name: str) -> None:
    text = read("1", name)
    found = parts(text)
    assert code(found["SYNOPSIS"]) == usage_of(name)
    of_table = [COMMANDS[known].summary for known in COMMANDS if ALIASES.get(known, known) == name]
    assert summary(text) in (of_table or [VERBS[name][1]])
    own = options_of(name) - EVERYWHERE
    said = set(re.findall(r"(?<![\w`-])`?(--?[a-zA-Z]+)", found["DESCRIPTION"]))
    assert own <= said
    of_shell = " ".join(usage_of(name))
    letters = {f"{sign}{letter}" for sign, group in re.findall(r"\[([-+])([a-zA-Z0-9]+)", of_shell) for letter in group}
    known = own | EVERYWHERE | letters | set(re.findall(r"--?[a-zA-Z]+", of_shell))
    pointed = {"--on", "--name", "--grant", "--serve"}  # of commands that a page points to
    assert said - known <= pointed, said - known


def test_the_page_of_errors_is_the_table() -> None:
    assert read("7", "errors") == errors_page(), "python -m cognu.man.errors > src/cognu/man/7/errors.md"


def test_a_page_is_chosen_by_name_and_by_section() -> None:
    known = [("1", "mount"), ("4", "mount"), ("5", "log")]
    assert choose(known, ["mount"]) == ("1", "mount")
    assert choose(known, ["4", "mount"]) == choose(known, ["mount(4)"]) == ("4", "mount")
    for words in (["none"], ["3", "mount"], ["mount(3)"], ["("], [")"]):
        with pytest.raises(FileError) as refused:
            choose(known, words)
        assert refused.value.error is E.NOPAGE
    assert refused.value.detail == ""


# -- on two nodes -----------------------------------------------------------------------------------------------------


class Place:
    """A directory with the files of the examples, and the homes of desk and pi, which is granted to desk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        programs = Path(sys.executable).parent
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COGNU")}
        self.env = {**kept, "HOME": str(path), "COGNU_HOME": str(path / "desk"), "TERM": "dumb",
                    "PATH": f"{programs}:{os.environ['PATH']}"}  # fmt: skip
        (path / "notes.txt").write_text("near and far\nlook alike\n")
        (path / "letters").mkdir()
        (path / "letters" / "first").write_text("Dear desk,\n")
        (path / "pi").mkdir(0o700)
        (path / "pi" / "settings.json").write_text('{"commands": {"upper": ["/usr/bin/tr", "a-z", "A-Z"]}}')
        for program in ("wc", "show", "memfs"):
            (path / f"{program}.wasm").write_bytes(build(program))

    def run(self, *argv: str) -> str:
        ended = subprocess.run(
            argv, cwd=self.path, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return ended.stdout

    def begin(self) -> None:
        for name in ("desk", "pi"):
            self.run("cognu", "--home", name, "up", "--name", name, "--listen", "127.0.0.1:0", "--host", "127.0.0.1")
        said = self.run("cognu", "--home", "pi", "invite", "--grant", f"read:{self.path}/letters,net,run,cmd:upper")
        joined = self.run("cognu", "join", said.split()[-1])
        assert joined.startswith("joined pi "), joined

    def carry_out(self, prompt: str, commands: list[str]) -> list[str]:
        """What each prints. Those of one page that follow each other at one prompt share a shell."""
        script = "".join(f"{command}\necho '{END}'\n" for command in commands).replace(HOME, str(self.path))
        shell = ("cognu", "sh", "-c") if prompt == "cognu%" else ("bash", "-c")
        return self.run(*shell, script).replace(str(self.path), HOME).split(f"{END}\n")


@pytest.fixture(scope="module")
def place_of_examples() -> Iterator[Place]:
    path = Path(tempfile.mkdtemp(prefix="cognu-", dir="/var/tmp")).resolve()
    made = Place(path)
    try:
        made.begin()
        yield made
    finally:
        for name in ("desk", "pi"):
            made.run("cognu", "--home", name, "down")
        shutil.rmtree(path)


def matches(wanted: str, got: str) -> bool:
    """`…` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, wanted.split("…"))), got, re.DOTALL) is not None


@pytest.mark.parametrize(("section", "name"), PAGES, ids=IDS)
def test_the_examples_do_what_they_say(place_of_examples: Place, section: str, name: str) -> None:
    found = examples(read(section, name))
    assert found
    for prompt, together in groupby(found, lambda example: example.prompt):
        group = list(together)
        *printed, rest = place_of_examples.carry_out(prompt, [example.command for example in group])
        assert rest == ""
        for example, got in zip(group, printed, strict=True):
            assert matches(example.prints, got), f"{example.command} prints\n{got}, and the page has\n{example.prints}"


async def test_every_file_that_a_device_serves_is_on_its_page(place_of_examples: Place) -> None:
    client = await Client.connect(str(place_of_examples.path / "desk" / "node.sock"))
    try:
        for letter in "Rc|pqIiVnkgh":
            page = read("3", DRIVERS[letter])
            said = {path.rpartition("/")[2] for path in files(page)}
            served = await served_by(client, letter)
            if letter == "R":
                served &= {path.split("/")[1] for path in (*ROOT_DIRECTORIES, *MORE_DIRECTORIES)}
            if letter == "h":
                assert served == set(SECTIONS)
                continue
            assert served <= said, DRIVERS[letter]
    finally:
        await client.close()


async def served_by(client: Client, letter: str) -> set[str]:
    """Names in a device, of one process and one conversation too."""
    root = far(await client.mount.attach(Me(), f"#{letter}"))
    opened = await client.mount.open(far((await client.mount.walk(root, [], Me())).fid), OREAD, Me())
    entries = await client.mount.readdir(far(opened), 0, 256)
    client.mount.clunk(opened)
    client.mount.clunk(root)
    names = {entry.name for entry in entries if not entry.name.isdigit() or letter == "h"}
    if letter == "g":  # what examples serve; services are attributes of no file that is always there
        names = {name for name in names if ":" not in name}
    if letter == "p":
        names |= set(await client.list("/proc/1"))
    if letter == "I":
        for protocol in ("tcp", "udp"):
            names |= await conversation(client, protocol)
    return names


async def conversation(client: Client, protocol: str) -> set[str]:
    ctl: File = await client.open(f"/net/{protocol}/clone", ORDWR)
    try:
        return set(await client.list(f"/net/{protocol}/{(await ctl.read()).decode().strip()}"))
    finally:
        ctl.close()


def test_every_file_of_dev_is_on_a_page(place_of_examples: Place) -> None:
    said = {path for section, name in PAGES if section in "34" for path in files(read(section, name))}
    listed = place_of_examples.run("cognu", "sh", "-c", "ls /dev").split()
    assert {f"/dev/{name}" for name in listed} <= said


def test_the_list_of_pages_and_a_page_that_is_none(place_of_examples: Place) -> None:
    run = place_of_examples.run
    rows = run("cognu", "man").splitlines()
    assert [row.split()[0] for row in rows] == IDS
    assert all(len(row.split()) > 1 for row in rows)
    assert [row.split()[0] for row in run("cognu", "man", "7").splitlines()] == [name for name in IDS if "(7)" in name]
    said = f"dog: {E.NOPAGE.text}\n"
    assert run("cognu", "man", "dog") == f"cognu: {said}  {E.NOPAGE.hint}\n"
    assert run("cognu", "sh", "-c", "man dog") == f"man: {said}"
    assert run("cognu", "sh", "-c", "man 7").startswith("7 overviews: capabilities errors ")
    assert run("cognu", "sh", "-c", "man [") == run("cognu", "man", "test") == read("1", "test")
    assert E.ACCES.text in run("cognu", "sh", "-c", "echo no > /man/1/ls")


def test_the_errors_point_to_verbs_that_exist() -> None:
    pointed = {verb for row in E for verb in re.findall(r"cognu (\w+)", row.hint)}
    assert pointed <= set(VERBS)


def test_every_file_that_a_page_names_is_there(place_of_examples: Place) -> None:
    named = sorted({path for section, name in PAGES for path in files(read(section, name))})
    homes = {getattr(Home("HOME"), name) for name in dir(Home) if isinstance(getattr(Home, name), property)}
    homes |= {f"HOME/{name}" for name in ("identity", "peers.json", "invitations.json", "probed")} | {
        "HOME",
        "~/.cognu",
    }
    inside = [path for path in named if path not in homes and not path.startswith("HOME/store/")]
    assert not [path for path in inside if path.startswith("HOME")]
    # N is a process or a descriptor; of /net/tcp/N the test above knows. Other words in capitals stand for any name.
    known = [path for path in inside if not path.startswith("/net/tcp/N")]
    numbered = [re.sub(r"/N(?=/|$|ctl)", "/1", path) for path in known]
    walkable = [re.sub(r"/[A-Z]{2,}.*", "", path) for path in numbered]
    devices = sorted({path[:2] for path in walkable if path.startswith("#")})
    # A device that is mounted nowhere is bound where its name can be walked to.
    script = "".join(f"mkdir -p '/tmp/{spec}'; bind '{spec}' '/tmp/{spec}'\n" for spec in devices)
    script += "".join(f"ls -d '{'/tmp/' if path.startswith('#') else ''}{path}' > /dev/null\n" for path in walkable)
    assert place_of_examples.run("cognu", "sh", "-c", script) == ""
