"""`9p`: any 9P server from the command line, as 9p(1) of Plan 9; watching what goes between two others; serving over
the standard streams. None needs a node but the last.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import click

from cognu.cli.setting import Setting, Verb, VerbGroup, filter_options, home_option, status_of, verb
from cognu.errors import E, FileError
from cognu.ninep.messages import Dialect
from cognu.ninep.types import MAX_MSIZE, MIN_MSIZE

UNREACHABLE = 3
DIALECTS = tuple(dialect.value for dialect in Dialect)
_STATUS = "0; 1 if the server refused it; 2 if it was used wrongly; 3 if there is no server, or it breaks off"


class _Nine(Verb):
    status = _STATUS
    part = True


class _NineGroup(VerbGroup):
    status = _STATUS


def _server(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where the server is and how to attach, which every part but `trace` takes, before what it is to do there."""
    for parameter in (
        click.argument("address"),
        click.option("--aname", default="", metavar="NAME", help="The tree to attach to; empty is the main one."),
        click.option("--user", default="", metavar="NAME", help="Who attaches: this host's user."),
        click.option("--dialect", type=click.Choice(DIALECTS), help="The dialect to offer; else the best there is."),
        click.option("--msize", type=click.IntRange(MIN_MSIZE, MAX_MSIZE), default=1 << 20, show_default=True,
                     metavar="BYTES", help="The largest message to offer."),
    ):  # fmt: skip
        function = parameter(function)
    return function


_PATHS = click.argument("paths", nargs=-1, required=True, metavar="PATH...")


def _part(name: str, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A part of `9p`."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        command = verb(name, example, _Nine)(function)
        nine_verb.add_command(command)
        return command

    return decorate


def _at(address: str, options: dict[str, Any], work: Callable[[Any], Awaitable[int]]) -> int:
    """Attach, do `work` with the `Remote`, and end; the exit status. What is wrong with the server itself is told here,
    for it has a status of its own.
    """
    from cognu.cli.addresses import parse_address
    from cognu.cli.remote import How, Unreachable, attached, tell

    # What a server does wrong is told here, once; without a handler Python would print the library's own log too.
    logger = logging.getLogger("cognu")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())

    async def do() -> int:
        dialect = options["dialect"]
        how = How(options["aname"], options["user"], Dialect(dialect) if dialect else None, options["msize"])
        where = parse_address(address)
        if where.kind == "stdio":
            raise FileError(E.USAGE, address, "what is read and printed goes by the standard streams; trace takes them")
        async with attached(where, how) as remote:
            return await work(remote)

    try:
        return asyncio.run(do())
    except Unreachable as broken:
        tell(broken.error)
        return status_of(broken.error) if broken.error.error is E.USAGE else UNREACHABLE


@click.group("9p", cls=_NineGroup, invoke_without_command=True, subcommand_metavar="PART ...",
             epilog="Example: cognu 9p ls tcp!sources!564 /",
             context_settings={"help_option_names": ["-h", "--help"]})  # fmt: skip
@click.option("--stdio", "path", metavar="PATH", help="Serve the tree at PATH over the standard input and output.")
@click.option("--rw", "write", is_flag=True, help="With --stdio: let it be changed too.")
@filter_options
@home_option
@click.pass_context
def nine_verb(
    context: click.Context, home: str | None, path: str | None, write: bool, hide: tuple[str, ...],
    show: tuple[str, ...],
) -> None:  # fmt: skip
    """Use, watch or serve any 9P server."""
    setting = context.find_object(Setting)
    assert setting is not None
    if home is not None:
        context.obj = setting = setting.with_options(home, False)
    if path is None:
        if write or hide or show:
            raise FileError(E.USAGE, "9p", "--rw, --hide and --show go with --stdio PATH")
        if context.invoked_subcommand is None:
            raise click.exceptions.NoArgsIsHelpError(context)
        return
    if context.invoked_subcommand is not None:
        raise FileError(E.USAGE, "--stdio", f"{context.invoked_subcommand} is another thing to do")
    from cognu.cli.serving import serve_streams
    from cognu.files.shown import Shown
    from cognu.shell.hostpaths import translate

    asyncio.run(serve_streams(setting.socket, Shown(translate(os.path.abspath(path)), write, hide, show)))


@_part("ls", "cognu 9p ls 127.0.0.1:5640 /lib")
@click.option("-l", "long", is_flag=True, help="With mode, owner, size and time.")
@click.option("-d", "itself", is_flag=True, help="A directory itself, not what is in it.")
@_server
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def ls_verb(setting: Setting, address: str, paths: tuple[str, ...], long: bool, itself: bool, **how: Any) -> int:
    """List directories."""
    from cognu.cli.remote import Remote, each
    from cognu.ninep.types import Stat
    from cognu.shell.commands.files import long_lines, printable, record_of

    records: list[dict[str, object]] = []

    def show(found: list[Stat], names: list[str]) -> None:
        # Into a pipe too: a server that nobody knows names its files, and what it goes on to may be a terminal.
        shown = [printable(name) for name in names]
        records.extend(record_of(name, stat) for name, stat in zip(names, found, strict=True))
        if not setting.json:
            for line in long_lines(found, shown) if long else shown:
                click.echo(line)

    async def work(remote: Remote) -> int:
        async def one(path: str) -> None:
            stat = await remote.stat(path, follow=not itself)
            if not stat.is_dir or itself:
                show([stat], [path])
                return
            if len(paths) > 1 and not setting.json:
                click.echo(f"{printable(path)}:")
            found = await remote.list(path)
            show(found, [entry.name for entry in found])

        status = await each(paths or ("/",), one)
        if setting.json:
            setting.show(records)
        return status

    return _at(address, how, work)


@_part("cat", "cognu 9p cat unix!/tmp/ns.me/acme acme/index")
@_server
@_PATHS
def cat_verb(setting: Setting, address: str, paths: tuple[str, ...], **how: Any) -> int:
    """Copy files to the standard output."""
    from cognu.cli.remote import Remote, copy_out, each

    _prints_no_json(setting, "cat")

    async def work(remote: Remote) -> int:
        async def one(path: str) -> None:
            await copy_out(remote, path, _put, sys.stderr.isatty() and not sys.stdout.isatty())

        return await each(paths, one)

    return _at(address, how, work)


@_part("write", "echo hello | cognu 9p write 127.0.0.1:5640 /tmp/greeting")
@click.option("-l", "lines", is_flag=True, help="Each line in a message of its own, as for files that take commands.")
@click.option("-a", "append", is_flag=True, help="At the end, and empty nothing before.")
@_server
@click.argument("path")
def write_verb(setting: Setting, address: str, path: str, lines: bool, append: bool, **how: Any) -> int:
    """Copy the standard input to a file that is there."""
    from cognu.cli.addresses import own_streams
    from cognu.cli.remote import Remote, copy_in, each

    async def work(remote: Remote) -> int:
        async def one(path: str) -> None:
            async with own_streams() as source:
                count = await copy_in(remote, path, source, append, lines, sys.stderr.isatty())
            setting.show({"path": path, "bytes": count})

        return await each([path], one)

    return _at(address, how, work)


@_part("stat", "cognu 9p stat 127.0.0.1:5640 /")
@_server
@_PATHS
def stat_verb(setting: Setting, address: str, paths: tuple[str, ...], **how: Any) -> int:
    """Say what is known of files."""
    from cognu.cli.remote import Remote, each
    from cognu.shell.commands.files import described, printable, record_of

    records: list[dict[str, object]] = []

    async def work(remote: Remote) -> int:
        async def one(path: str) -> None:
            stat = await remote.stat(path)
            qid = {"type": stat.qid.type, "version": stat.qid.version, "path": stat.qid.path}
            records.append({**record_of(path, stat), "qid": qid, "dialect": remote.mount.dialect.value})
            if not setting.json:
                for line in described(printable(path), stat):
                    click.echo(line)

        status = await each(paths, one)
        if setting.json:
            setting.show(records)
        return status

    return _at(address, how, work)


@_part("rm", "cognu 9p rm 127.0.0.1:5640 /tmp/old")
@_server
@_PATHS
def rm_verb(setting: Setting, address: str, paths: tuple[str, ...], **how: Any) -> int:
    """Remove files, and directories that are empty."""
    from cognu.cli.remote import Remote, each

    async def work(remote: Remote) -> int:
        return await each(paths, remote.remove)

    return _at(address, how, work)


@_part("create", "cognu 9p create -m 600 127.0.0.1:5640 /tmp/new")
@click.option("-d", "directory", is_flag=True, help="Make directories.")
@click.option("-m", "mode", metavar="MODE", help="Permissions in octal: 666, or 777 for directories.")
@_server
@_PATHS
def create_verb(
    setting: Setting, address: str, paths: tuple[str, ...], directory: bool, mode: str | None, **how: Any
) -> int:
    """Make empty files, or directories."""
    from cognu.cli.remote import Remote, each
    from cognu.ninep.types import DMDIR

    text = mode or ("777" if directory else "666")
    if len(text) > 4 or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise FileError(E.USAGE, text, "three octal digits")
    perm = int(text, 8) | (DMDIR if directory else 0)

    async def work(remote: Remote) -> int:
        return await each(paths, lambda path: remote.create(path, perm))

    return _at(address, how, work)


@_part("rdwr", "echo 'net!localhost!9fs' | cognu 9p rdwr 127.0.0.1:5640 /net/cs")
@_server
@click.argument("path")
def rdwr_verb(setting: Setting, address: str, path: str, **how: Any) -> int:
    """Write each line of the standard input to a file, and print what can be read of it then."""
    from cognu.cli.addresses import own_streams
    from cognu.cli.remote import Remote, converse, each

    _prints_no_json(setting, "rdwr")

    async def work(remote: Remote) -> int:
        status = 0

        async def one(path: str) -> None:
            nonlocal status
            async with own_streams() as source:
                status = await converse(remote, path, source, _put)

        return max(await each([path], one), status)

    return _at(address, how, work)


def _prints_no_json(setting: Setting, name: str) -> None:
    if setting.json:
        raise FileError(E.USAGE, "--json", f"{name} prints none")


def _put(data: bytes | memoryview) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@_part("trace", "cognu 9p trace /tmp/watched unix!/tmp/ns.me/acme")
@click.option("--data", "shown", type=click.IntRange(0, 4096), default=32, show_default=True, metavar="BYTES",
              help="How much of the data is shown.")  # fmt: skip
@click.argument("listen")
@click.argument("address")
def trace_verb(setting: Setting, listen: str, address: str, shown: int) -> int:
    """Stand between clients, who connect to LISTEN, and the server at ADDRESS; print every message both ways.

    With - as LISTEN the client is at the standard streams, and what is printed goes to the standard error.
    """
    from cognu.cli.addresses import parse_address
    from cognu.cli.trace import Printer, print_line, trace

    at, served = parse_address(listen), parse_address(address)
    if served.kind == "stdio":
        raise FileError(E.USAGE, address, "only the client may be at the standard streams")

    def ready(where: str) -> None:
        sys.stderr.write(f"cognu: listening at {where}, for {served}; Ctrl-C ends it\n")
        sys.stderr.flush()

    printer = Printer(setting.json, print_line(to_errors=at.kind == "stdio"))
    asyncio.run(trace(at, served, printer, shown, ready))
    return 0
