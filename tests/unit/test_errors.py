"""The error table, and errors coming back from the wire."""

from __future__ import annotations

import errno
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.cli.main import VERBS
from cognu.errors import THERE, E, FileError, from_errno, from_oserror, from_text

PLAIN = st.text(st.characters(exclude_characters=":'"), max_size=10).map(str.strip)


@pytest.mark.parametrize("row", list(E))
def test_every_row_has_a_number_a_text_of_its_own_and_a_hint(row: E) -> None:
    assert 0 < row.errno < 512
    assert row.hint
    assert [other for other in E if other.text == row.text] == [row]


@pytest.mark.parametrize("row", list(E))
def test_errors_come_back_from_their_text(row: E) -> None:
    for subject, detail in (("", ""), ("/a/b", ""), ("", "by desk"), ("/a/b", "by desk")):
        back = from_text(str(FileError(row, subject, detail)))
        assert (back.error, back.subject, back.detail) == (row, subject, detail)
    assert from_text(f"'/a/b' {row.text}").error is row


@given(PLAIN)
def test_an_unknown_text_is_kept(text: str) -> None:
    back = from_text(text)
    assert back.error is not E.IO or back.detail == text or text == E.IO.text


@given(st.integers())
def test_any_number_is_some_error(number: int) -> None:
    assert from_errno(number).error.errno == number or from_errno(number).error in E


def test_the_hosts_errors_go_by_name() -> None:
    assert from_oserror(OSError(errno.ENOTEMPTY, "x")).error is E.NOTEMPTY
    assert from_oserror(OSError(errno.EOPNOTSUPP, "x")).error is E.NOTSUP
    odd = from_oserror(OSError(errno.EL2HLT, "x"), "/p")
    assert (odd.error, odd.subject, odd.detail) == (E.IO, "/p", "EL2HLT")


def test_the_hint_is_for_people_alone() -> None:
    error = FileError(E.ACCES, "/a", "why")
    assert error.error.hint not in str(error)
    assert error.explain() == f"/a: permission denied: why\n  {E.ACCES.hint.replace('PATH', '/a')}"
    assert FileError(E.ACCES, "a").explain() == f"a: permission denied\n  {E.ACCES.hint}"


def test_a_detail_that_says_what_to_do_stands_in_place_of_the_hint() -> None:
    error = FileError(E.ACCES, "pi", f"it refuses{THERE}grants set desk run")
    assert error.explain() == str(error)


@pytest.mark.parametrize(
    ("path", "grant"),
    [
        ("/n/pi/etc/passwd", "read:/etc/passwd"), ("/n/pi/net", "net"), ("/n/pi/net/tcp/clone", "net"),
        ("/n/pi/cmd/uptime/clone", "cmd:uptime"), ("/n/pi/network", "read:/network"),
    ],
)  # fmt: skip
def test_what_is_not_there_of_another_machine_is_granted_there(path: str, grant: str) -> None:
    lends = "ls /n/pi shows what it lends; to have more; there: cognu grants set WHO"
    assert FileError(E.NOENT, path).explain() == f"{path}: file does not exist\n  {lends} {grant}"


@pytest.mark.parametrize("path", ["/n/pi", "/n/pi/", "/n", "/etc", "n/pi/a", "/x/n/pi/a"])
def test_what_is_not_there_elsewhere_is_looked_for(path: str) -> None:
    assert FileError(E.NOENT, path).explain().endswith(E.NOENT.hint)


@pytest.mark.parametrize("row", list(E))
def test_a_hint_names_only_verbs_that_there_are(row: E) -> None:
    named = set(re.findall(r"\bcognu (\S+?)\b", row.hint))
    assert named <= set(VERBS), row.hint


@given(st.text(), st.text())
def test_no_name_and_no_reason_of_anothers_steers_the_terminal_that_it_is_shown_on(subject: str, detail: str) -> None:
    said = FileError(E.IO, subject, detail).explain()
    assert said.replace("\n", "", 1).isprintable()
    if subject.isprintable() and detail.isprintable():
        assert said.startswith(str(FileError(E.IO, subject, detail)))
