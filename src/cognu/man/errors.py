"""errors(7), made of the one error table: `python -m cognu.man.errors > src/cognu/man/7/errors.md`."""

from __future__ import annotations

from cognu.errors import E

_HEAD = """\
# errors(7)

## NAME

errors - every error: symbol, number, text, and what to do

## SYNOPSIS

    SUBJECT: TEXT: DETAIL

## DESCRIPTION

A message says what was refused, why, and by whom or in which point. Between machines and to programs go the text and
the number, which is Linux's errno; what to do is for people alone: `cognu VERB` says it in a second line, and a shell's
commands do where their errors go to a terminal. This page is made of the table in the source.

"""
_TAIL = """
## EXAMPLES

    cognu% cat /none
    cat: /none: file does not exist
    $ cognu drop nobody
    cognu: nobody: no such peer
      cognu peers lists the machines you joined

## FILES

None.

## ERRORS

All of the above.

## SEE ALSO

intro(7), rpc(5)

## SOURCE

`src/cognu/errors.py`
"""


def page() -> str:
    """The page's text: a line for each row of the table, in its order."""
    rows = "".join(f"- {row.text} ({row.name}, {row.errno}): {row.hint}\n" for row in E)
    return _HEAD + rows + _TAIL


if __name__ == "__main__":
    print(page(), end="")
