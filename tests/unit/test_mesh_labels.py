"""Labels: what is one, and what becomes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.mesh.labels import LABEL_RULE, MOST_LABELS, changed_labels, name_of, valid_label, valid_labels

MANY = tuple(f"a{number:02}" for number in range(MOST_LABELS))


@pytest.mark.parametrize(
    ("before", "words", "after"),
    [
        ((), ["gpu", "room=the kitchen"], ("gpu", "room=the kitchen")),
        (("room=a",), ["gpu", "room=b"], ("gpu", "room=b")),
        (("gpu=yes",), ["gpu"], ("gpu",)),
        (("gpu=yes", "ram"), ["-gpu"], ("ram",)),
        (("ram",), ["-gpu"], ("ram",)),
        ((), ["gpu", "-gpu", "a=", "a.b_c-d=K\xfcche"], ("a", "a.b_c-d=K\xfcche")),
        (MANY, ["-a00", "b"], (*MANY[1:], "b")),
    ],
)
def test_words_give_labels_and_take_them_away_in_turn(
    before: tuple[str, ...], words: list[str], after: tuple[str, ...]
) -> None:
    assert changed_labels(before, words) == after


@pytest.mark.parametrize(
    "word",
    ["", "-", "=x", "Gpu", "a b", "a" * 64, "-gpu=yes", "--json", "a=\x1b[2J", "a=b\nc", "a=\u2028", "a=\u202e",
     "a=\ud800", "a=" + "\xfc" * 101, "\u0663"],
)  # fmt: skip
def test_what_is_no_label_is_refused_with_the_rule(word: str) -> None:
    with pytest.raises(FileError) as caught:
        changed_labels((), ["ok", word])
    assert (caught.value.error, caught.value.detail) == (E.INVAL, LABEL_RULE)


def test_one_more_than_a_machine_may_have_is_refused() -> None:
    with pytest.raises(FileError, match="65 labels"):
        changed_labels(MANY, ["b"])
    assert not valid_labels([*MANY, "b"])
    assert not valid_labels(["a=1", "a=2"])


@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from(["a", "-a", "a=1", "b=\xfc x", "-b", "--", "a="]))))
def test_whatever_is_said_there_are_labels_or_a_refusal_then(words: list[str]) -> None:
    try:
        after = changed_labels(("a=0",), words)
    except FileError:
        assert not all(valid_label(word.removeprefix("-")) and not ("=" in word and word[0] == "-") for word in words)
        return
    assert valid_labels(after)
    assert list(after) == sorted(after, key=name_of)
    assert changed_labels(after, after) == after
