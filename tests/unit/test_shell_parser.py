"""The shell's lexer and parser: what text becomes which tree, and where a fault is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E
from cognu.shell.parser import parse, show_word
from cognu.shell.syntax import (
    Assignment,
    Literal,
    Parameter,
    Part,
    Redirect,
    Script,
    Simple,
    Substitution,
    SyntaxFault,
    Tilde,
    Word,
)


def plain(text: str) -> Word:
    return Word((Literal(text, quoted=False),))


def quoted(text: str) -> Literal:
    return Literal(text, quoted=True)


def simple(text: str) -> Simple:
    """The one command that `text` is."""
    (item,) = parse(text).items
    assert not item.background
    assert not item.body.rest
    (command,) = item.body.first.commands
    assert isinstance(command, Simple)
    return command


def outline(script: Script) -> list[object]:
    """A script's shape: words as text, operators in between."""
    shape: list[object] = []
    for item in script.items:
        entry: list[object] = []
        for operator, pipeline in (("", item.body.first), *item.body.rest):
            commands = [
                " ".join(show_word(word) for word in command.words) if isinstance(command, Simple) else "..."
                for command in pipeline.commands
            ]
            entry.extend([operator] if operator else [])
            entry.append(("! " if pipeline.negated else "") + " | ".join(commands))
        if item.background:
            entry.append("&")
        shape.append(entry[0] if len(entry) == 1 else entry)
    return shape


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("", []),
        ("  \t\n\n", []),
        ("# nothing", []),
        ("a", ["a"]),
        ("a b\n", ["a b"]),
        ("a;b", ["a", "b"]),
        ("a;b;", ["a", "b"]),
        ("a\n\n\nb", ["a", "b"]),
        ("a # comment; b\nc", ["a", "c"]),
        ("a#b", ["a#b"]),
        ("a | b|c", ["a | b | c"]),
        ("a |\n\n b", ["a | b"]),
        ("a && b || c", [["a", "&&", "b", "||", "c"]]),
        ("a &&\n b", [["a", "&&", "b"]]),
        ("! a | b", ["! a | b"]),
        ("! ! a", ["a"]),
        ("echo !", ["echo !"]),
        ("'!' a", ["! a"]),
        ("a & b", [["a", "&"], "b"]),
        ("a &\nb&", [["a", "&"], ["b", "&"]]),
        ("a && b & c", [["a", "&&", "b", "&"], "c"]),
        ("a \\\n b", ["a b"]),
        ("a\\\nb", ["ab"]),
        ("echo if", ["echo if"]),
        ("'if'", ["if"]),
    ],
)
def test_lists_and_pipelines(text: str, shape: list[object]) -> None:
    assert outline(parse(text)) == shape


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("'a b'", (quoted("a b"),)),
        ("''", (quoted(""),)),
        ('""', (quoted(""),)),
        ("a''b", (Literal("a", False), quoted(""), Literal("b", False))),
        ("'a\\'", (quoted("a\\"),)),
        ("a\\ b", (Literal("a", False), quoted(" "), Literal("b", False))),
        ("\\\\", (quoted("\\"),)),
        ('"a\\"b"', (quoted('a"b'),)),
        ('"a\\nb"', (quoted("a\\nb"),)),
        ('"\\$x"', (quoted("$x"),)),
        ('"a\\\nb"', (quoted("ab"),)),
        ('"it\'s"', (quoted("it's"),)),
        ("$x", (Parameter("x", False),)),
        ("$x_1y", (Parameter("x_1y", False),)),
        ("${x}y", (Parameter("x", False), Literal("y", False))),
        ("$12", (Parameter("1", False), Literal("2", False))),
        ("${12}", (Parameter("12", False),)),
        ('"$x$y"', (Parameter("x", True), Parameter("y", True))),
        ("$?$$$#$@$*", tuple(Parameter(name, False) for name in "?$#@*")),
        ("$", (Literal("$", False),)),
        ("a$.", (Literal("a$.", False),)),
        ('"$"', (quoted("$"),)),
        ("~", (Tilde(),)),
        ("~/x", (Tilde(), Literal("/x", False))),
        ("~me", (Literal("~me", False),)),
        ("a~", (Literal("a~", False),)),
        ("'~'", (quoted("~"),)),
        ("a=b", None),
    ],
)
def test_word_parts(text: str, parts: tuple[Part, ...] | None) -> None:
    command = simple(f"x {text}")
    assert command.words[1].parts == (parts or (Literal(text, False),))


def test_assignments_stand_before_the_command_only() -> None:
    command = simple("x=1 y= z=~/a c=$d cmd e=2")
    assert command.assignments == (
        Assignment("x", plain("1")),
        Assignment("y", Word(())),
        Assignment("z", Word((Tilde(), Literal("/a", False)))),
        Assignment("c", Word((Parameter("d", False),))),
    )
    assert command.words == (plain("cmd"), plain("e=2"))


@pytest.mark.parametrize("text", ["1x=2", "=2", "'x'=2", "x-y=1", '"x=1"'])
def test_what_only_looks_like_an_assignment_is_a_word(text: str) -> None:
    assert simple(text).assignments == ()


@pytest.mark.parametrize(
    ("text", "redirect"),
    [
        ("a <f", Redirect(0, "<", plain("f"))),
        ("a > f", Redirect(1, ">", plain("f"))),
        ("a >>f", Redirect(1, ">>", plain("f"))),
        ("a 2>f", Redirect(2, ">", plain("f"))),
        ("a 2>&1", Redirect(2, ">&", plain("1"))),
        ("a >&2", Redirect(1, ">&", plain("2"))),
        ("a 0<&1", Redirect(0, ">&", plain("1"))),
        ("a &>f", Redirect(1, "&>", plain("f"))),
        (">f a", Redirect(1, ">", plain("f"))),
        ("a > 'b c'", Redirect(1, ">", Word((quoted("b c"),)))),
    ],
)
def test_redirections(text: str, redirect: Redirect) -> None:
    command = simple(text)
    assert command.redirects == (redirect,)
    assert command.words == (plain("a"),)


def test_a_number_apart_from_the_sign_is_a_word() -> None:
    assert simple("echo 2 > f").words == (plain("echo"), plain("2"))


def substitution(word: Word) -> list[object]:
    (part,) = word.parts
    assert isinstance(part, Substitution)
    return outline(part.script)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("$(a b)", ["a b"]),
        ("$()", []),
        ("$( a; b\n)", ["a", "b"]),
        ("$(a # it)\n)", ["a"]),
        ("$(echo ')')", ["echo )"]),
        ('$(echo ")" "$(x)")', ["echo ) $(...)"]),
        ("`a b`", ["a b"]),
        ("`a \\`b\\``", ["a $(...)"]),
        ('"`a`"', ["a"]),
        ('"$(a "b c")"', ["a b c"]),
        ("`echo \\$x`", ["echo $x"]),
        ("`echo '\\$x'`", ["echo $x"]),
        ("$(a `b`)", ["a $(...)"]),
    ],
)
def test_substitutions(text: str, shape: list[object]) -> None:
    assert substitution(simple(f"x {text}").words[1]) == shape


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a | | b", 1, 5),
        ("a\n&& b", 2, 1),
        ("a ;; b", 1, 3),
        ("; a", 1, 1),
        ("a & ; b", 1, 5),
        (")", 1, 1),
        ("a (b)", 1, 3),
        ("a > ; b", 1, 5),
        ("a >\n", 1, 4),
        ("a << $x\n", 1, 6),
        ("a << 'x\ny'\n", 1, 6),
        ("a <<E\n${}\nE\n", 2, 1),
        ("a <<E\n$(b\nE\n", 2, 1),
        ("a 3>f", 1, 3),
        ("a 2>&x", 1, 6),
        ("echo ${x/y}", 1, 6),
        ("echo ${1a}", 1, 6),
        ("echo ${#x-y}", 1, 6),
        ("echo ${}", 1, 6),
        ("ok\necho 'fine' ${ }", 2, 13),
        ("echo $(a | | b)", 1, 12),
        ("echo $(a\nb ) )", 2, 5),
        ("echo `a | | b`", 1, 11),
        ("echo `a '`", 1, 9),
        ("echo `a |`", 1, 10),
        ("echo `a)`", 1, 8),
        ("! ;", 1, 3),
        ("for 1 in a; do b; done", 1, 5),
        ("for x in a do b; done", 1, 18),
        ("for x do done", 1, 10),
        ("if a; fi", 1, 7),
        ("if; then b; fi", 1, 3),
        ("if a; then fi", 1, 12),
        ("while a; do b; fi", 1, 16),
        ("a; fi", 1, 4),
        ("{ a; ) }", 1, 6),
        ("( a; }", 1, 6),
        ("()", 1, 2),
        ("f() a", 1, 5),
        ("f-g() { a; }", 1, 4),
        ("'f'() { a; }", 1, 4),
        ("case x in a b) c;; esac", 1, 13),
        ("case x of a) b;; esac", 1, 8),
        ("{ a; } b", 1, 8),
        ("a; done", 1, 4),
    ],
)
def test_a_fault_says_where_it_is(text: str, line: int, column: int) -> None:
    with pytest.raises(SyntaxFault) as caught:
        parse(text)
    fault = caught.value
    assert fault.error is E.SYNTAX
    assert (fault.line, fault.column, fault.incomplete) == (line, column, False)
    assert f"line {line}, column {column}" in str(fault)


@pytest.mark.parametrize(
    "text",
    [
        "'a",
        '"a\n',
        "echo $(a",
        "echo $(a;",
        "echo $(echo 'a",
        "echo `a",
        '"`a',
        "echo ${x",
        "a |",
        "a |\n",
        "a &&\n\n",
        "a ||",
        "! ",
        "a \\",
        "a \\\n",
        "a >",
        "a | $(b |",
        "a <<EOF",
        "a <<EOF\nb\n",
        "a << 'E F'\nE\n",
        "if",
        "if a",
        "if a; then b",
        "if a; then b; else c",
        "while a; do",
        "until a; do b; done |",
        "for",
        "for x",
        "for x in",
        "for x in a b; do",
        "case x",
        "case x in",
        "case x in a) b",
        "{ a",
        "( a",
        "f()",
        "f() {",
        "echo $((1",
        "echo $((1)",
        "echo ${x:-",
        "echo ${x:-'}",
    ],
)
def test_incomplete_text_is_told_apart(text: str) -> None:
    with pytest.raises(SyntaxFault) as caught:
        parse(text)
    assert caught.value.incomplete


def test_substitutions_nest_to_a_limit() -> None:
    parse("$(" * 40 + "a" + ")" * 40)
    for text in ("$(" * 41 + "a" + ")" * 41, "$(" * 100_000):
        with pytest.raises(SyntaxFault) as caught:
            parse(text)
        assert not caught.value.incomplete


def test_an_item_keeps_its_text() -> None:
    assert [item.text for item in parse("sleep 1 | cat  & b").items] == ["sleep 1 | cat", "b"]


@given(st.text())
def test_any_text_parses_or_is_a_syntax_fault(text: str) -> None:
    fault = None
    try:
        parse(text)
    except SyntaxFault as caught:
        fault = caught
    assert fault is None or (1 <= fault.line <= text.count("\n") + 1 and fault.column >= 1)


WORDS = [
    *("if ", "then ", "elif ", "else ", "fi ", "while ", "do ", "done ", "for ", "in ", "case ", "esac ", ";; ", "{ "),
    *("} ", "( ", ") ", "f() ", "; ", "a ", "\n", "<<E", "\nE\n", "$((", "))", "${x:-", "}", '"', "1 ", "| ", "&& "),
]


@given(st.lists(st.sampled_from(WORDS)))
def test_any_mix_of_compound_commands_parses_or_is_a_syntax_fault(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        parse(text)
    except SyntaxFault as fault:
        if not fault.incomplete:
            with pytest.raises(SyntaxFault):
                parse(f"{text}\n")


@pytest.mark.parametrize("text", ["$((", "$((a) ", "$( (", "{ ", "( ", "if a; then ", "${x:-", "f() { ", "((", "$((`"])
def test_whatever_nests_is_refused_in_time(text: str) -> None:
    with pytest.raises(SyntaxFault):
        parse(text * 5000)
    with pytest.raises(SyntaxFault):
        parse(text * 30 + ";;")


@given(st.lists(st.sampled_from(list("ab$(){}`'\"\\|&;<>!#~=*[ \n12") + ["$(", "&&", "||", ">>", "2>&1", "x="])))
def test_any_mix_of_the_language_parses_or_is_a_syntax_fault(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        parse(text)
    except SyntaxFault as fault:
        # Text that is wrong already stays wrong, whatever follows on a new line.
        if not fault.incomplete:
            with pytest.raises(SyntaxFault):
                parse(f"{text}\n")


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_single_quotes_keep_every_character(text: str) -> None:
    without = text.replace("'", "")
    assert simple(f"x '{without}'").words[1].parts == (quoted(without),)


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_backslashes_keep_every_character(text: str) -> None:
    one_line = text.replace("\n", "")
    word = simple("x ''" + "".join(f"\\{char}" for char in one_line)).words[1]
    assert show_word(word) == one_line
