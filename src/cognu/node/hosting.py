"""What of the host a node's owner lends as files: `commands` and `sensors` of settings(5), read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from cognu.devices.cmd import ARGS, CommandLimits, HostCommand
from cognu.devices.sensor import Source
from cognu.errors import E, FileError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
MOST_NAMES = 256
LONGEST_EVERY = 24 * 3600
MOST_OF_LIMIT = 1 << 50
ANYTHING = "any"
"""As a command: whatever the caller says."""


def parse_commands(raw: object, subject: str) -> dict[str, HostCommand]:
    """By name, what may be run. Raises DAMAGED about `subject`, saying which name is wrong, and how it should be."""
    return {name: _command(entry, f"{subject}: commands: {name}") for name, entry in _named(raw, subject, "commands")}


def parse_sensors(raw: object, subject: str) -> dict[str, Source]:
    """By name, what is measured. Raises DAMAGED as `parse_commands` does."""
    return {name: _sensor(entry, f"{subject}: sensors: {name}") for name, entry in _named(raw, subject, "sensors")}


def _sensor(entry: Any, subject: str) -> Source:
    if not isinstance(entry, Mapping) or not entry.keys() <= {"file", "command", "every"}:
        raise FileError(E.DAMAGED, subject, "an object with file, or command, and every")
    every = entry.get("every", Source.every)
    if type(every) is not int or not 1 <= every <= LONGEST_EVERY:
        raise FileError(E.DAMAGED, subject, f"every is seconds, from 1 to {LONGEST_EVERY}")
    if ("file" in entry) == ("command" in entry):
        raise FileError(E.DAMAGED, subject, "one of file and command")
    if "command" in entry:
        return Source(command=argv_of(entry["command"], subject, args=False), every=every)
    if not _is_path(entry["file"]):
        raise FileError(E.DAMAGED, subject, "file is an absolute path")
    return Source(file=entry["file"], every=every)


def _named(raw: object, subject: str, what: str) -> list[tuple[str, Any]]:
    if not isinstance(raw, Mapping) or len(raw) > MOST_NAMES or not all(NAME.fullmatch(name) for name in raw):
        detail = f"{what} is an object, of names of a-z, 0-9, - and _, at most 32, for at most {MOST_NAMES}"
        raise FileError(E.DAMAGED, subject, detail)
    return list(raw.items())


def _command(entry: Any, subject: str) -> HostCommand:
    parts = entry if isinstance(entry, Mapping) else {"run": entry}
    if not parts.keys() <= {"run", "dir", "env", "limits"}:
        raise FileError(E.DAMAGED, subject, 'a list, "any", or an object with run, dir, env and limits')
    run, directory, environment = parts.get("run"), parts.get("dir", "/"), parts.get("env", {})
    if not _is_path(directory):
        raise FileError(E.DAMAGED, subject, "dir is an absolute path")
    if not isinstance(environment, Mapping) or not all(map(_is_variable, environment.items())):
        raise FileError(E.DAMAGED, subject, "env is an object of texts")
    argv = () if run == ANYTHING else argv_of(run, subject)
    return HostCommand(argv, directory, tuple(environment.items()), _limits(parts.get("limits", {}), subject))


def _limits(raw: Any, subject: str) -> CommandLimits:
    names = [each.name for each in fields(CommandLimits)]
    if not isinstance(raw, Mapping) or not set(raw) <= {*names}:
        raise FileError(E.DAMAGED, subject, f"limits is an object with {', '.join(names)}")
    for name, value in raw.items():
        if type(value) is not int or not 1 <= value <= MOST_OF_LIMIT:
            raise FileError(E.DAMAGED, subject, f"limits: {name} is a number, from 1 to {MOST_OF_LIMIT}")
    return CommandLimits(**raw)


def argv_of(run: Any, subject: str, args: bool = True) -> tuple[str, ...]:
    """A program of the host with its arguments, one of which may be `ARGS`. Raises DAMAGED."""
    if not isinstance(run, list) or not run or not all(_is_text(word) for word in run) or not _is_path(run[0]):
        raise FileError(E.DAMAGED, subject, "a list of texts, the first the absolute path of a program")
    if run.count(ARGS) > args:
        raise FileError(E.DAMAGED, subject, f"{ARGS} is there once" if args else f"there is nobody to give {ARGS}")
    return tuple(run)


def _is_text(word: object) -> bool:
    return isinstance(word, str) and "\0" not in word


def _is_path(word: object) -> bool:
    return isinstance(word, str) and word.startswith("/") and "\0" not in word


def _is_variable(pair: tuple[object, object]) -> bool:
    key, value = pair
    return _is_text(key) and _is_text(value) and key != "" and "=" not in str(key)
