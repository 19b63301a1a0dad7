"""Turning what the host's calls raise into the errors of the table, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cognu.errors import E, FileError, from_oserror


def printable(text: str) -> str:
    """`text` fit for a message: lone surrogates, which no terminal or wire takes, are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def refusals(subject: str) -> Iterator[None]:
    """Raise `FileError` about `subject` where the body raises `OSError`, or `ValueError` over a NUL or a
    surrogate.
    """
    try:
        yield
    except OSError as error:
        # In no variable here: its traceback will keep this frame, and that the error, and with it whoever called.
        raise _refusal(error, printable(subject)) from error
    except UnicodeError as error:
        raise FileError(E.ILSEQ, printable(subject)) from error
    except (ValueError, OverflowError) as error:
        raise FileError(E.INVAL, printable(subject), str(error)) from error


def _refusal(error: OSError, subject: str) -> FileError:
    """What the host refuses says so."""
    refused = from_oserror(error, subject)
    if refused.error in (E.ACCES, E.PERM):
        return FileError(refused.error, refused.subject, "the host refuses it")
    return refused
