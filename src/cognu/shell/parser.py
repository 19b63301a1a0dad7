"""From tokens to a `Script`, by recursive descent: one method per rule of the grammar.

    script    : newlines [ item { separator item } ]         separator is `;`, `&` or newlines
    item      : pipeline { ("&&" | "||") newlines pipeline } [ "&" ]
    pipeline  : { "!" } command { "|" newlines command }
    command   : simple | compound | function                 reserved words choose compound commands here
    simple    : { assignment | word | redirect }
    function  : name "(" ")" newlines compound
    compound  : ( group | subshell | if | while | for | case ) { redirect }
    group     : "{" list "}"
    subshell  : "(" list ")"
    if        : "if" list "then" list { "elif" list "then" list } [ "else" list ] "fi"
    while     : ( "while" | "until" ) list do
    for       : "for" name [ newlines "in" { word } ] separator do
    do        : "do" list "done"
    case      : "case" word newlines "in" newlines { [ "(" ] word { "|" word } ")" script [ ";;" ] newlines } "esac"
    list      : a script with at least one item

Source: POSIX.1-2024, Shell & Utilities, 2.10.
"""

from __future__ import annotations

from collections.abc import Callable

from cognu.shell.lexer import Lexer, Source, Token, is_name
from cognu.shell.syntax import (
    AndOr,
    Arithmetic,
    Assignment,
    Case,
    Command,
    Compound,
    For,
    Function,
    Group,
    If,
    Item,
    Literal,
    Parameter,
    Part,
    Pipeline,
    Redirect,
    Script,
    Simple,
    Structure,
    Subshell,
    Substitution,
    Tilde,
    While,
    Word,
)

REDIRECTS = {"<": 0, ">": 1, ">>": 1, ">&": 1, "<&": 0, "&>": 1, "<<": 0, "<<-": 0}
"""Each operator with the descriptor that it changes if none is typed."""

CLOSING = frozenset(["then", "elif", "else", "fi", "do", "done", "esac", "}"])
"""Reserved words that end a list of commands, where the name of a command could stand."""

RESERVED = CLOSING | {"if", "while", "until", "for", "case", "{", "!", "in"}
"""POSIX 2.4; words only where the grammar has them, text elsewhere."""


def parse(text: str) -> Script:
    """Read a whole script. Raises `SyntaxFault`; its `incomplete` says whether another line could help."""
    lexer = Lexer(Source(text, text), _nested)
    parser = Parser(lexer)
    script = parser.script()
    if parser.token.kind != "end":
        raise parser.unexpected()
    return script


def _nested(lexer: Lexer) -> Script:
    parser = Parser(lexer)
    script = parser.script()
    lexer.position = parser.token.start
    return script


class Parser:
    """`token` is the next one, read but not yet used."""

    def __init__(self, lexer: Lexer) -> None:
        self.lexer = lexer
        self.last_end = 0
        self.token = lexer.next()

    def advance(self) -> Token:
        token = self.token
        self.last_end = token.end
        self.token = self.lexer.next()
        return token

    def unexpected(self) -> Exception:
        token = self.token
        shown = f"'{self.keyword()}'" if self.keyword() else token.show()
        return self.lexer.fault(token.start, f"{shown} is not expected here", token.kind == "end")

    def newlines(self) -> None:
        while self.token.kind == "newline":
            self.advance()

    def keyword(self) -> str:
        """The reserved word that the next token would be where one may stand, else nothing."""
        word = self.token.word
        if word is None or len(word.parts) != 1 or not isinstance(word.parts[0], Literal) or word.parts[0].quoted:
            return ""
        return word.parts[0].text if word.parts[0].text in RESERVED else ""

    def expect(self, keyword: str) -> None:
        if self.keyword() != keyword:
            raise self.unexpected()
        self.advance()

    def script(self) -> Script:
        """Items up to what can't begin one: the end, `)`, `;;` or a closing word."""
        items: list[Item] = []
        self.newlines()
        while not self.at_end():
            items.append(self.item())
            if self.token.kind in (";", "newline"):
                self.advance()
            elif not items[-1].background and not self.at_end():
                raise self.unexpected()
            self.newlines()
        return Script(tuple(items))

    def at_end(self) -> bool:
        return self.token.kind in ("end", ")", ";;") or self.keyword() in CLOSING

    def list(self) -> Script:
        found = self.script()
        if not found.items:
            raise self.unexpected()
        return found

    def item(self) -> Item:
        start = self.token.start
        first = self.pipeline()
        rest: list[tuple[str, Pipeline]] = []
        while self.token.kind in ("&&", "||"):
            operator = self.advance().kind
            self.newlines()
            rest.append((operator, self.pipeline()))
        text = self.lexer.text[start : self.last_end]
        background = self.token.kind == "&"
        if background:
            self.advance()
            if self.token.kind == ";":
                raise self.unexpected()
        return Item(AndOr(first, tuple(rest)), background, text)

    def pipeline(self) -> Pipeline:
        negated = False
        while self.keyword() == "!":
            negated = not negated
            self.advance()
        commands = [self.command()]
        while self.token.kind == "|":
            self.advance()
            self.newlines()
            commands.append(self.command())
        return Pipeline(tuple(commands), negated)

    def command(self) -> Command:
        begin = _STRUCTURES.get(self.keyword() or self.token.kind)
        if begin is None:
            if self.keyword() in CLOSING:
                raise self.unexpected()
            return self.simple()
        return self.compound()

    def compound(self) -> Compound:
        begin = _STRUCTURES.get(self.keyword() or self.token.kind)
        if begin is None:
            raise self.unexpected()
        self.lexer.deeper(self.token.start)
        self.advance()
        structure = begin(self)
        self.lexer.depth -= 1
        redirects: list[Redirect] = []
        while self.token.kind == "number" or self.token.kind in REDIRECTS:
            redirects.append(self.redirect())
        return Compound(structure, tuple(redirects))

    def group(self) -> Structure:
        body = self.list()
        self.expect("}")
        return Group(body)

    def subshell(self) -> Structure:
        body = self.list()
        if self.token.kind != ")":
            raise self.unexpected()
        self.advance()
        return Subshell(body)

    def condition(self) -> Structure:
        clauses: list[tuple[Script, Script]] = []
        while True:
            condition = self.list()
            self.expect("then")
            clauses.append((condition, self.list()))
            if self.keyword() != "elif":
                break
            self.advance()
        otherwise = None
        if self.keyword() == "else":
            self.advance()
            otherwise = self.list()
        self.expect("fi")
        return If(tuple(clauses), otherwise)

    def loop(self, until: bool) -> Structure:
        condition = self.list()
        return While(condition, self.do_group(), until)

    def do_group(self) -> Script:
        self.expect("do")
        body = self.list()
        self.expect("done")
        return body

    def for_loop(self) -> Structure:
        name = self.plain_text()
        if not is_name(name):
            raise self.lexer.fault(self.token.start, "the name of a variable follows 'for'", self.token.kind == "end")
        self.advance()
        between = self.token.kind == "newline"
        self.newlines()
        words: list[Word] | None = None
        if self.keyword() == "in":
            self.advance()
            words = []
            while self.token.word is not None:
                words.append(self.token.word)
                self.advance()
            if self.token.kind not in (";", "newline"):
                raise self.unexpected()
            self.advance()
        elif self.token.kind == ";" and not between:
            self.advance()
        self.newlines()
        return For(name, None if words is None else tuple(words), self.do_group())

    def plain_text(self) -> str:
        word = self.token.word
        if word is None or len(word.parts) != 1:
            return ""
        part = word.parts[0]
        return part.text if isinstance(part, Literal) and not part.quoted else ""

    def word(self) -> Word:
        if self.token.word is None:
            raise self.unexpected()
        found = self.token.word
        self.advance()
        return found

    def choice(self) -> Structure:
        subject = self.word()
        self.newlines()
        self.expect("in")
        self.newlines()
        arms: list[tuple[tuple[Word, ...], Script]] = []
        while self.keyword() != "esac":
            if self.token.kind == "(":
                self.advance()
            patterns = [self.word()]
            while self.token.kind == "|":
                self.advance()
                patterns.append(self.word())
            if self.token.kind != ")":
                raise self.unexpected()
            self.advance()
            arms.append((tuple(patterns), self.script()))
            if self.token.kind != ";;":
                break
            self.advance()
            self.newlines()
        self.expect("esac")
        return Case(subject, tuple(arms))

    def function(self, name: str) -> Function:
        """The token is the parenthesis after the name."""
        start = self.token.start
        unexpected = self.unexpected()
        self.advance()
        if self.token.kind != ")":
            raise self.unexpected() if self.token.kind == "end" else unexpected
        if not is_name(name):
            raise self.lexer.fault(start, "a function is called as a variable may be: letters, digits, _")
        self.advance()
        self.newlines()
        return Function(name, self.compound())

    def simple(self) -> Simple | Function:
        assignments: list[Assignment] = []
        words: list[Word] = []
        redirects: list[Redirect] = []
        while True:
            token = self.token
            if token.kind == "(" and len(words) == 1 and not assignments and not redirects:
                return self.function(show_word(words[0]) if _is_plain(words[0]) else "")
            if token.kind == "number" or token.kind in REDIRECTS:
                redirects.append(self.redirect())
                continue
            if token.word is None:
                break
            assignment = None if words else _assignment(token.word)
            if assignment is not None:
                assignments.append(assignment)
            else:
                words.append(token.word)
            self.advance()
        if not assignments and not words and not redirects:
            raise self.unexpected()
        return Simple(tuple(assignments), tuple(words), tuple(redirects))

    def redirect(self) -> Redirect:
        fd: int | None = None
        start = self.token.start
        if self.token.kind == "number":
            digits = self.lexer.text[start : self.token.end]
            if digits not in ("0", "1", "2"):
                raise self.lexer.fault(start, "only the descriptors 0, 1 and 2 can be redirected")
            fd = int(digits)
            self.advance()
        operator = self.token.kind
        if operator not in REDIRECTS or (fd is not None and operator == "&>"):
            raise self.unexpected()
        self.advance()
        if self.token.word is None:
            raise self.unexpected()
        target = self.token.word
        if operator in ("<<", "<<-"):
            # Before the next token is read, for that may be the newline after which the lines begin.
            document = self.lexer.expect_document(operator, self.token)
            self.advance()
            return Redirect(REDIRECTS[operator] if fd is None else fd, "<<", target, document)
        if operator in (">&", "<&") and target not in _DESCRIPTORS:
            raise self.lexer.fault(self.token.start, f"a descriptor, 0, 1 or 2, follows {operator}")
        self.advance()
        return Redirect(REDIRECTS[operator] if fd is None else fd, ">&" if operator == "<&" else operator, target)


_STRUCTURES: dict[str, Callable[[Parser], Structure]] = {
    "{": Parser.group,
    "(": Parser.subshell,
    "if": Parser.condition,
    "while": lambda parser: parser.loop(until=False),
    "until": lambda parser: parser.loop(until=True),
    "for": Parser.for_loop,
    "case": Parser.choice,
}
"""What begins a compound command, and the method that reads on from there."""


def _is_plain(word: Word) -> bool:
    return len(word.parts) == 1 and isinstance(word.parts[0], Literal) and not word.parts[0].quoted


_DESCRIPTORS = [Word((Literal(digit, quoted=False),)) for digit in "012"]


def _assignment(word: Word) -> Assignment | None:
    """`name=value` with the name and the `=` unquoted, or None."""
    if not word.parts:
        return None
    first = word.parts[0]
    if not isinstance(first, Literal) or first.quoted:
        return None
    name, equals, value = first.text.partition("=")
    if not equals or not is_name(name):
        return None
    parts: tuple[Part, ...] = word.parts[1:]
    if (value == "~" and not parts) or value.startswith("~/"):
        parts = (Tilde(), Literal(value[1:], quoted=False), *parts)
    elif value:
        parts = (Literal(value, quoted=False), *parts)
    return Assignment(name, Word(parts))


def show_word(word: Word) -> str:
    """A word about as it was typed, for messages; a substitution shows as `$(...)`."""
    shown = ""
    for part in word.parts:
        if isinstance(part, Literal):
            shown += part.text
        elif isinstance(part, Parameter):
            shown += f"${{{part.name}...}}" if part.operator else f"${part.name}"
        elif isinstance(part, Substitution):
            shown += "$(...)"
        elif isinstance(part, Arithmetic):
            shown += "$((...))"
        else:
            shown += "~"
    return shown
