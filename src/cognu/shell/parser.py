"""From tokens to a `Script`, by recursive descent: one method per rule of the grammar.

    script    : newlines [ item { separator item } ]         separator is `;`, `&` or newlines
    item      : pipeline { ("&&" | "||") newlines pipeline } [ "&" ]
    pipeline  : { "!" } command { "|" newlines command }
    command   : simple                                       reserved words choose compound commands here
    simple    : { assignment | word | redirect }

Source: POSIX.1-2024, Shell & Utilities, 2.10.
"""

from __future__ import annotations

from cognu.shell.lexer import Lexer, Source, Token, is_name
from cognu.shell.syntax import (
    AndOr,
    Assignment,
    Command,
    Item,
    Literal,
    Parameter,
    Part,
    Pipeline,
    Redirect,
    Script,
    Simple,
    Substitution,
    Tilde,
    Word,
)

REDIRECTS = {"<": 0, ">": 1, ">>": 1, ">&": 1, "<&": 0, "&>": 1}
"""Each operator with the descriptor that it changes if none is typed."""

RESERVED = frozenset(
    ["if", "then", "elif", "else", "fi", "while", "until", "for", "do", "done", "case", "esac", "function", "{", "}"]
)
"""Words kept back for compound commands, so that a script that uses them fails whole instead of line by line."""


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
        return self.lexer.fault(token.start, f"{token.show()} is not expected here", token.kind == "end")

    def newlines(self) -> None:
        while self.token.kind == "newline":
            self.advance()

    def script(self) -> Script:
        items: list[Item] = []
        self.newlines()
        while self.token.kind not in ("end", ")"):
            items.append(self.item())
            if self.token.kind in (";", "newline"):
                self.advance()
            elif not items[-1].background and self.token.kind not in ("end", ")"):
                raise self.unexpected()
            self.newlines()
        return Script(tuple(items))

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
        while self.token.word == Word((Literal("!", quoted=False),)):
            negated = not negated
            self.advance()
        commands = [self.command()]
        while self.token.kind == "|":
            self.advance()
            self.newlines()
            commands.append(self.command())
        return Pipeline(tuple(commands), negated)

    def command(self) -> Command:
        word = self.token.word
        if word is not None and len(word.parts) == 1 and isinstance(word.parts[0], Literal):
            part = word.parts[0]
            if not part.quoted and part.text in RESERVED:
                raise self.lexer.fault(self.token.start, f"'{part.text}' is a reserved word; quote it to mean a name")
        return self.simple()

    def simple(self) -> Simple:
        assignments: list[Assignment] = []
        words: list[Word] = []
        redirects: list[Redirect] = []
        while True:
            token = self.token
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
        if operator in (">&", "<&") and target not in _DESCRIPTORS:
            raise self.lexer.fault(self.token.start, f"a descriptor, 0, 1 or 2, follows {operator}")
        self.advance()
        return Redirect(REDIRECTS[operator] if fd is None else fd, ">&" if operator == "<&" else operator, target)


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
            shown += f"${part.name}"
        elif isinstance(part, Substitution):
            shown += "$(...)"
        else:
            shown += "~"
    return shown
