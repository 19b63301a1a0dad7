"""The manual: a Markdown page for each command, device, service and format, in directories by section.

`man` on the host reads them here; in a namespace they are the files /man/SECTION/NAME (`devices/man.py`).
"""

from __future__ import annotations

import os

from cognu.errors import E, FileError, from_oserror

SECTIONS = {
    "1": "commands",
    "3": "devices",
    "4": "services",
    "5": "formats",
    "7": "overviews",
}
ENDING = ".md"
ALIASES = {".": "dot", ":": "colon", "[": "test"}
"""Commands that are no names of files, and the pages that have them."""


def directory() -> str:
    """Where the pages are on this host: `SECTION/NAME.md`."""
    return os.path.dirname(os.path.abspath(__file__))


def pages() -> list[tuple[str, str]]:
    """Section and name of every page, sorted."""
    return [
        (section, file.removesuffix(ENDING))
        for section in SECTIONS
        for file in sorted(os.listdir(f"{directory()}/{section}"))
        if file.endswith(ENDING)
    ]


def read(section: str, name: str) -> str:
    """The page's text. Raises what the host says."""
    path = f"{directory()}/{section}/{name}{ENDING}"
    try:
        with open(path, encoding="utf-8") as page:
            return page.read()
    except OSError as error:
        raise from_oserror(error, path) from None


def choose(known: list[tuple[str, str]], words: list[str]) -> tuple[str, str]:
    """The page that `[SECTION] NAME` or `NAME(SECTION)` means: of several sections the first.

    Raises NOPAGE, and names the sections that have it if it is not in the one that was asked for.
    """
    name, section = words[-1], words[0] if len(words) == 2 else ""
    if not section and name.endswith(")"):
        name, _, section = name[:-1].rpartition("(")
    found = [page for page in known if page[1] == ALIASES.get(name, name)]
    for page in found:
        if section in ("", page[0]):
            return page
    there = f"it is in section {', '.join(page[0] for page in found)}" if found else ""
    raise FileError(E.NOPAGE, f"{name}({section})" if section else name, there)


def part(text: str, title: str) -> str:
    """A section of a page, without its title; empty if there is none."""
    _, found, rest = text.partition(f"## {title}\n")
    return rest.partition("\n## ")[0].strip("\n") if found else ""


def explanation(name: str) -> str:
    """What `--help` says of a command beyond its usage: the description of its page, and the page's examples."""
    text = read("1", ALIASES.get(name, name))
    return f"{part(text, 'DESCRIPTION')}\n\nExamples:\n\n{part(text, 'EXAMPLES')}"


def summary(text: str) -> str:
    """What the page's NAME section says behind the dash, empty if there is none."""
    _, _, rest = text.partition("## NAME\n")
    line = rest.strip().partition("\n")[0]
    return line.partition(" - ")[2]


def rendered(text: str) -> str:
    """A page for a terminal: without the marks of Markdown, the text indented as in man(1), and examples more so."""
    lines = []
    for line in text.rstrip("\n").split("\n"):
        if line.startswith("#"):
            lines.append(line.lstrip("#").strip())
        elif line.startswith("    "):
            lines.append(f"    {line}")  # what is typed or printed stays as it is
        else:
            lines.append(f"    {line.replace('`', '')}".rstrip())
    return "\n".join(lines)
