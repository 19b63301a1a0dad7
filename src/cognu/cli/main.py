"""The `cognu` command: a table of verbs, each in a module that is imported when it is used.

Exit status: the program's own; 128 + n for signal n; 1 refused; 2 wrong usage; 3 the node is not running.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from cognu import __version__, compiled
from cognu.cli.setting import Setting, home_option, status_of
from cognu.errors import CognuError, E

VERBS: dict[str, tuple[str, str]] = {
    "up": ("daemon", "start this machine's node, and a shell"),
    "down": ("daemon", "stop the node"),
    "status": ("daemon", "what the node says of itself"),
    "logs": ("daemon", "the node's log"),
    "doctor": ("doctor", "what is wrong, what that means, and what to do"),
    "verify": ("verify", "prove the kernel, here and now"),
    "man": ("man", "a page of the manual"),
    "sh": ("shells", "a shell, or one command line of it"),
    "run": ("shells", "run a program in a sandbox"),
    "cpu": ("shells", "a shell or a command on another machine"),
    "ps": ("shells", "list processes"),
    "top": ("shells", "what processes use, live"),
    "kill": ("shells", "end processes"),
    "wait": ("shells", "wait for processes"),
    "put": ("shells", "store a file; prints its hash"),
    "get": ("shells", "print what has a hash"),
    "fetch": ("shells", "print a web page, through /net"),
    "dial": ("shells", "call an address, through /net"),
    "listen1": ("shells", "take calls, and run a command for each"),
    "csquery": ("shells", "ask what to dial for an address"),
    "dnsquery": ("shells", "ask for addresses and names"),
    "os": ("shells", "run a command of a host, which its owner named for that"),
    "ns": ("shells", "print a namespace"),
    "caps": ("shells", "who holds what, and why"),
    "export": ("shells", "let other machines use a tree"),
    "bind": ("base", "change what every shell's namespace starts with"),
    "unbind": ("base", "undo what `bind` or `import` keeps"),
    "import": ("base", "have another machine's tree in every namespace"),
    "invite": ("peers", "make a ticket for another machine"),
    "join": ("peers", "join the machine that made a ticket"),
    "pair": ("pairing", "make two machines peers by a short code"),
    "peers": ("shells", "list the machines that were joined, and those near"),
    "services": ("shells", "services of this machine and of others, by attribute"),
    "drop": ("peers", "part with a machine"),
    "grants": ("shells", "what other machines may do here, and programs use"),
    "listen": ("peers", "serve ordinary 9P clients of this host"),
    "9p": ("ninep", "use, watch or serve any 9P server"),
}
"""Each verb's module, in which it has its own name (with `_verb` behind it), and what it does."""
_CODE = "" if compiled.STATE == compiled.NOT_COMPILED else f" ({compiled.STATE.said})"
_SPELLED = {"9p": "nine"}
"""Verbs whose names Python does not take."""


class _Verbs(click.Group):
    """Imports a verb's module when it is called, so that `--help` and the shell's completion are quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            commands: dict[str, object] = import_module("cognu.shell.commands").COMMANDS
            if cmd_name in commands:
                words = " ".join([cmd_name, "..."])
                raise click.UsageError(f"{cmd_name} is a command of the shell: cognu sh -c '{words}'", ctx)
            return None
        module = import_module(f"cognu.cli.{VERBS[cmd_name][0]}")
        command = getattr(module, f"{_SPELLED.get(cmd_name, cmd_name)}_verb")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]}, epilog="Example: cognu up")
@click.version_option(__version__, prog_name="cognu", message=f"%(prog)s %(version)s{_CODE}")
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON where there is something to print.")
@click.pass_context
def verbs(context: click.Context, home: str | None, as_json: bool) -> None:
    """The machines you have, as one computer. COMMAND --help tells more of each."""
    context.obj = Setting.of(home, as_json)


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit status. Whatever is refused is told on the standard error."""
    try:
        result = verbs.main(list(arguments), prog_name="cognu", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as nothing:
        click.echo(nothing.ctx.get_help() if nothing.ctx else "")
        return 2
    except click.ClickException as error:
        return _usage(error)
    except click.Abort:
        return 130
    except CognuError as error:
        click.echo(f"cognu: {error.explain()}", err=True)
        return status_of(error)
    except BrokenPipeError:
        # Who read our output went away. The interpreter would complain once more when it flushes.
        sys.stdout = None
        return 141
    return result if isinstance(result, int) else 0


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    where = f"{context.command_path}: " if context is not None else "cognu: "
    said = error.format_message()
    if isinstance(error, click.MissingParameter) and context is not None:
        said = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
    click.echo(f"{where}{E.USAGE.text}: {said}\n  {E.USAGE.hint}", err=True)
    return 2


def main() -> None:
    """The entry point of the installed command."""
    sys.exit(run(sys.argv[1:]))
