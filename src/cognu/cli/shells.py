"""Verbs that are commands of the shell too: each runs the shell's own, in this process, in a session with the node."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import click

from cognu.cli.daemon import answers, start
from cognu.cli.setting import Setting, verb
from cognu.errors import E, FileError
from cognu.files.granttext import OF_TREES, with_path
from cognu.man import explanation
from cognu.shell.commands import COMMANDS
from cognu.shell.hostpaths import translate, translate_all
from cognu.shell.options import parse_options
from cognu.shell.program import Start, host_cwd, host_variables, shell
from cognu.shell.wants import NET


def need_node(setting: Setting) -> None:
    """Start the node if it does not run."""
    if not answers(setting):
        sys.stderr.write(f"cognu: starting the node of {setting.home}\n")
        start(setting, [])


def own_shell(setting: Setting, command: str | None = None) -> int:
    """A shell with this process's terminal or streams."""
    kept = os.path.join(os.path.dirname(setting.socket), "history")
    begin = Start(setting.socket, cwd=host_cwd(), variables=host_variables(), history=kept, typed=command is None)
    return asyncio.run(shell(begin, command))


@verb("sh", "cognu sh -c 'ls /n'")
@click.option("-c", "command", metavar="TEXT", help="Run a text instead of asking for lines.")
def sh_verb(setting: Setting, command: str | None) -> int:
    """A shell in a namespace of its own. Starts the node if it does not run.

    If the input is no terminal, it is a script.
    """
    need_node(setting)
    return own_shell(setting, command)


class ShellVerb(click.Command):
    """A command of the shell. Its words go to the shell as they are, but for paths of the host."""

    def __init__(self, name: str) -> None:
        super().__init__(name, help=COMMANDS[name].summary, add_help_option=False, callback=self._carry_out)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["words"] = args
        return []

    def _carry_out(self, words: list[str]) -> int:
        setting = click.get_current_context().find_object(Setting)
        assert setting is not None
        name = self.name or ""
        command = COMMANDS[name]
        if words in (["--help"], ["-h"]):
            usage = command.usage.removeprefix(name).strip()
            head = f"Usage: cognu {name} {usage}\n\n  {command.summary}\n\nExample: cognu {command.example}"
            tail = f"Exit status: {command.status}; 3 if no node runs."
            click.echo(f"{head}\n\n{explanation(name)}\n\n{tail}")
            return 0
        if setting.json:
            if "json" not in (command.options or ()):
                raise FileError(E.USAGE, "--json", f"{name} prints none")
            words = ["--json", *words]
        runs = name in ("run", "cpu", "top", "peers")  # what uses the terminal, or looks at its size
        if name == "run":
            need_node(setting)
            sys.stderr.writelines(f"cognu: {line}\n" for line in called_otherwise(words))
            words = host_run(words)
        elif name == "cpu":
            words = host_cpu(words)
        elif name == "grants":
            words = [_host_word(word) for word in words]
        elif name in ("put", "export", "caps"):
            words = translate_all(words)
        # A shell over there is this user's; a program gets the variables that are typed, and no others.
        variables = host_variables() if name == "cpu" else {}
        begin = Start(setting.socket, publish=runs, cwd=host_cwd(), variables=variables, typed=name == "cpu")
        return asyncio.run(shell(begin, argv=(name, *words)))


def host_run(words: list[str]) -> list[str]:
    """The words of `run` with the host's paths by their names in the namespace. Raises USAGE."""
    command = COMMANDS["run"]
    options = parse_options(words, ("help", *command.options), mixed=False)  # type: ignore[misc]  # it has options
    translated: list[str] = []
    for name, value in options.given:
        if name == "grant":
            value = _host_grant(value)
        elif name == "grants":
            value = translate(value)
        elif name == "dir":
            value = _host_directory(value)
        translated.append(f"--{name}={value}" if f"{name}=" in (command.options or ()) else f"--{name}")
    return [*translated, "--", *translate_all(options.operands)]


def called_otherwise(words: list[str]) -> list[str]:
    """What to say of the grants of `run` that a program has by another name than was typed. Raises USAGE."""
    command = COMMANDS["run"]
    options = parse_options(words, ("help", *command.options), mixed=False)  # type: ignore[misc]  # it has options
    told = []
    for text in options.values("grant"):
        path = text if os.path.lexists(text) else text.rpartition(":")[0]
        there = translate(path)
        if there != path:
            same = f"; --dir {path} gives it that as {path}" if path != "/" and os.path.isdir(path) else ""
            own = f"; the node's own {path} is granted in its shell, cognu sh"
            told.append(f"--grant {text}: this host's {path} is {there} to a program{same}{own}")
    return told


def host_cpu(words: list[str]) -> list[str]:
    """The words of `cpu` with the paths of its grants by their names in the namespace, and the variables that it is to
    have by their values here. Raises USAGE.
    """
    command = COMMANDS["cpu"]
    takes = command.options or ()
    options = parse_options(words, ("help", *takes), mixed=False)
    given: list[str] = []
    for name, value in options.given:
        if name == "grant":
            value = _host_grant(value)
        elif name == "e" and value in os.environ:
            value = f"{value}={os.environ[value]}"
        dash = "-" if len(name) == 1 else "--"
        given += [f"{dash}{name}", value] if f"{name}=" in takes else [f"{dash}{name}"]
    return [*given, "--", *options.operands]


def _host_grant(text: str) -> str:
    """`PATH[:RIGHTS]` or `net`; a path that exists with a colon in it is meant as a whole, to be read."""
    if text == NET:
        return text
    if os.path.lexists(text):
        return f"{translate(text)}:r"
    path, colon, rights = text.rpartition(":")
    return f"{translate(path)}:{rights}" if colon else text


def _host_word(word: str) -> str:
    """A word of `grants`: a path of the host, alone, after `read:` or `write:`, or before `:RIGHTS`."""
    if word.partition(":")[0].partition("+")[0] in OF_TREES and ":" in word:
        return with_path(word, translate)
    if os.path.lexists(word):
        return translate(word)
    path, colon, rights = word.rpartition(":")
    return f"{translate(path)}:{rights}" if colon else word


def _host_directory(text: str) -> str:
    """`HOST[::GUEST]`; a guest knows the directory by the host's name unless another is given."""
    host, separator, guest = text.partition("::")
    there = translate(host)
    return text if there == host else f"{there}::{guest if separator else host}"


_NAMES = (
    "run", "cpu", "ps", "top", "kill", "wait", "put", "get", "fetch", "ns", "caps", "grants", "export", "peers",
    "services", "dial", "listen1", "csquery", "dnsquery", "os",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """`ps_verb` and the like, for the table of verbs."""
    verb_name = name.removesuffix("_verb")
    if verb_name == name or verb_name not in _NAMES:
        raise AttributeError(name)
    return ShellVerb(verb_name)
