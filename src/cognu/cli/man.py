"""`man`: the manual, without a node."""

from __future__ import annotations

import sys

import click

from cognu.cli.setting import Setting, table, verb
from cognu.errors import E, FileError
from cognu.man import choose, pages, read, rendered, summary


@verb("man", "cognu man 3 proc")
@click.argument("words", nargs=-1, metavar="[SECTION] [NAME]")
def man_verb(setting: Setting, words: tuple[str, ...]) -> None:
    """Print a page of the manual; without NAME, list the pages.

    Sections: 1 commands, 3 devices, 4 services, 5 formats, 7 overviews. In a namespace the pages are files in /man.
    """
    if len(words) > 2:
        raise FileError(E.USAGE, "man", "man [SECTION] [NAME]")
    known = pages()
    listed = [page for page in known if page[0] == words[0]] if len(words) == 1 else known
    if not words or (len(words) == 1 and listed):
        rows = [[f"{name}({section})", summary(read(section, name))] for section, name in listed]
        setting.show([{"name": row[0], "summary": row[1]} for row in rows], *table(rows))
        return
    section, name = choose(known, list(words))
    text = read(section, name)
    if sys.stdout.isatty() and not setting.json:
        click.echo_via_pager(rendered(text) + "\n")  # $PAGER, or less
    else:
        setting.show({"name": name, "section": section, "text": text}, text.rstrip("\n"))
