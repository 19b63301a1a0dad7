"""Turning what the host's calls raise into the errors of the table, in one place."""

from __future__ import annotations

from types import TracebackType

from cognu.errors import E, FileError, from_oserror


def printable(text: str) -> str:
    """`text` fit for a message: lone surrogates, which no terminal or wire takes, are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


class refusals:  # used like a function, as contextlib's own
    """Raise `FileError` about `subject` where the body raises `OSError`, or `ValueError` over a NUL or a surrogate.

    No generator: contextlib's (3.12) keeps the error in a frame that the error's traceback leads to. Such a ring would
    stay until the garbage collector comes by, and with it whoever called. For the same reason no frame here keeps what
    it raises.
    """

    __slots__ = ("_subject",)

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _at: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise _refusal(error, printable(self._subject)) from error
        if isinstance(error, UnicodeError):
            raise FileError(E.ILSEQ, printable(self._subject)) from error
        if isinstance(error, (ValueError, OverflowError)):
            raise FileError(E.INVAL, printable(self._subject), str(error)) from error


def _refusal(error: OSError, subject: str) -> FileError:
    """What the host refuses says so."""
    refused = from_oserror(error, subject)
    if refused.error in (E.ACCES, E.PERM):
        return FileError(refused.error, refused.subject, "the host refuses it")
    return refused
