"""What every verb is given: the node's home, and how to print."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

from cognu.errors import CognuError, E
from cognu.man import pages, part, read

REFUSED, USAGE, NOT_RUNNING = 1, 2, 3
_STATUS = {E.USAGE: USAGE, E.SYNTAX: USAGE, E.NONODE: NOT_RUNNING}

VERB_STATUS = "0; 1 if it was refused; 2 if it was used wrongly; 3 if no node runs"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Setting:
    """`home` is the absolute path of the node's home directory."""

    home: str
    json: bool

    @classmethod
    def of(cls, home: str | None, as_json: bool) -> Setting:
        """The home that was typed, or COGNU_HOME, or ~/.cognu."""
        chosen = home or os.environ.get("COGNU_HOME") or "~/.cognu"
        return cls(os.path.abspath(os.path.expanduser(chosen)), as_json)

    def with_options(self, home: str | None, as_json: bool) -> Setting:
        """What was typed after the verb counts as if typed before it."""
        there = self if home is None else Setting.of(home, self.json)
        return replace(there, json=there.json or as_json)

    @property
    def socket(self) -> str:
        return f"{self.home}/node.sock"

    @property
    def log(self) -> str:
        return f"{self.home}/log"

    @property
    def namespace(self) -> str:
        """The script of changes to the node's base namespace."""
        return f"{self.home}/namespace"

    def show(self, value: object, *lines: str) -> None:
        """Print `value` as JSON if that was asked for, else the lines."""
        if self.json:
            click.echo(json.dumps(value, ensure_ascii=False))
        else:
            for line in lines:
                click.echo(line)


def home_option(function: F) -> F:
    return click.option("--home", metavar="DIR", help="The node's home directory: COGNU_HOME, or ~/.cognu.")(function)


def filter_options(function: F) -> F:
    """What of a tree is shown to those it is exported to: the parameters `hide` and `show`."""
    show = click.option("--show", multiple=True, metavar="PATTERN", help="Show only what matches, and the way there.")
    hide = click.option("--hide", multiple=True, metavar="PATTERN", help="Hide what matches, and all below it.")
    return hide(show(function))


class Verb(click.Command):
    """Its help is what its page of the manual says, if it has one, with the page's examples, and the exit status."""

    status = VERB_STATUS
    part = False
    """Whether it is part of another verb, and has no page of its own."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        described = part(self._page(), "DESCRIPTION")
        if not described:
            super().format_help_text(ctx, formatter)
        for paragraph in described.split("\n\n") if described else ():
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(paragraph)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if examples := part(self._page(), "EXAMPLES"):
            formatter.write(f"\nExamples:\n\n{examples}\n")
        formatter.write(f"\nExit status: {self.status}.\n")

    def _page(self) -> str:
        """Empty for what is part of another verb."""
        name = self.name or ""
        return read("1", name) if not self.part and ("1", name) in pages() else ""


class VerbGroup(Verb, click.Group):
    """A verb with verbs of its own."""


def verb(name: str, example: str, kind: type[Verb] = Verb) -> Callable[[Callable[..., Any]], click.Command]:
    """A verb with an example in its help and --home and --json; its function gets a `Setting` first."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        def call(home: str | None, as_json: bool, **values: Any) -> Any:
            setting = click.get_current_context().find_object(Setting)
            assert setting is not None
            return function(setting.with_options(home, as_json), **values)

        call.__doc__ = function.__doc__
        # click keeps the options of decorators below this one here.
        call.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(call)
        return click.command(
            name, cls=kind, epilog=f"Example: {example}", context_settings={"help_option_names": ["-h", "--help"]}
        )(home_option(with_json))

    return decorate


def status_of(error: CognuError) -> int:
    """The exit status that goes with a refusal."""
    return _STATUS.get(error.error, REFUSED)


def table(rows: list[list[str]]) -> list[str]:
    """Rows in columns, two blanks between."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
