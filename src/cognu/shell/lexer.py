"""From text to tokens. The parser asks for one token at a time, because `$(` needs the parser again in mid-word.

Source: POSIX.1-2024, Shell & Utilities, 2.2 (quoting), 2.3 (token recognition), 2.6 (the forms of `$`).
Rules of use: a `Lexer` holds a position in one text; `next()` moves it past one token. Whoever built the lexer gives
it `read_script`, which parses a nested script with this same lexer up to a closing parenthesis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cognu.shell.syntax import Literal, Parameter, Part, Script, Substitution, SyntaxFault, Tilde, Word

DEEPEST = 40
"""How deep substitutions may nest; bounds the parser's recursion."""

OPERATORS = ("&&", "||", ">>", ">&", "<&", "<<", "&>", "|", "&", ";", "(", ")", "<", ">")
BLANK = " \t"
WORD_ENDS = frozenset(" \t\n|&;()<>")
SPECIAL_PARAMETERS = frozenset("?$#@*!")
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
DIGITS = frozenset("0123456789")


@dataclass(frozen=True, slots=True)
class Source:
    """A text and, for one taken out of backquotes, where each of its characters stood in the whole."""

    text: str
    whole: str
    places: tuple[int, ...] | None = None

    def place(self, position: int) -> int:
        if self.places is None:
            return position
        return self.places[min(position, len(self.places) - 1)]

    def fault(self, position: int, detail: str, incomplete: bool = False) -> SyntaxFault:
        before = self.whole[: self.place(position)]
        return SyntaxFault(before.count("\n") + 1, len(before) - before.rfind("\n"), detail, incomplete)


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is `word`, `number` (digits right before `<` or `>`), `newline`, `end`, or the operator itself."""

    kind: str
    start: int
    end: int
    word: Word | None = None

    def show(self) -> str:
        return {"word": "word", "newline": "end of line", "end": "end of text"}.get(self.kind, f"'{self.kind}'")


class Lexer:
    """`read_script(lexer)` parses up to `)` or the end of the text and leaves the lexer before that token."""

    def __init__(self, source: Source, read_script: Callable[[Lexer], Script], depth: int = 0) -> None:
        self.source = source
        self.text = source.text
        self.position = 0
        self.depth = depth
        self.read_script = read_script

    def fault(self, position: int, detail: str, incomplete: bool = False) -> SyntaxFault:
        return self.source.fault(position, detail, incomplete)

    def next(self) -> Token:
        """The next token. Raises `SyntaxFault`."""
        self._skip_blanks()
        start = self.position
        if start >= len(self.text):
            return Token("end", start, start)
        if self.text[start] == "\n":
            self.position += 1
            return Token("newline", start, start + 1)
        for operator in OPERATORS:
            if self.text.startswith(operator, start):
                self.position += len(operator)
                return Token(operator, start, self.position)
        word = self._word()
        kind = "word"
        digits = all(char in DIGITS for char in self.text[start : self.position])
        if digits and self.text[self.position : self.position + 1] in ("<", ">"):
            kind = "number"
        return Token(kind, start, self.position, word)

    def _skip_blanks(self) -> None:
        while self.position < len(self.text):
            char = self.text[self.position]
            if char in BLANK:
                self.position += 1
            elif self._continuation():
                continue
            elif char == "#":
                end = self.text.find("\n", self.position)
                self.position = len(self.text) if end < 0 else end
            else:
                return

    def _continuation(self) -> bool:
        """Skip a backslash and newline, which join two lines; at the very end they ask for the next line."""
        if not self.text.startswith("\\\n", self.position):
            return False
        if self.position + 2 >= len(self.text):
            raise self.fault(self.position, "the line goes on after a backslash", incomplete=True)
        self.position += 2
        return True

    def _word(self) -> Word:
        parts: list[Part] = []
        plain = ""
        start = self.position
        while self.position < len(self.text) and self.text[self.position] not in WORD_ENDS:
            if self._continuation():
                continue
            char = self.text[self.position]
            if char == "~" and self.position == start:
                part = self._tilde()
            elif char in "\\'\"$`":
                part = self._special(char)
            else:
                part = None
            if part is None:
                plain += char
                self.position += 1
                continue
            if plain:
                parts.append(Literal(plain, quoted=False))
                plain = ""
            parts.extend(part)
        if plain:
            parts.append(Literal(plain, quoted=False))
        return Word(tuple(parts))

    def _tilde(self) -> list[Part] | None:
        after = self.text[self.position + 1 : self.position + 2]
        if after not in ("", "/") and after not in WORD_ENDS:
            return None
        self.position += 1
        return [Tilde()]

    def _special(self, char: str) -> list[Part] | None:
        """The parts that a quoting or `$` character begins; None if a `$` stands for itself."""
        if char == "\\":
            if self.position + 1 >= len(self.text):
                raise self.fault(self.position, "nothing follows the backslash", incomplete=True)
            self.position += 2
            return [Literal(self.text[self.position - 1], quoted=True)]
        if char == "'":
            end = self.text.find("'", self.position + 1)
            if end < 0:
                raise self.fault(self.position, "' is not closed", incomplete=True)
            text = self.text[self.position + 1 : end]
            self.position = end + 1
            return [Literal(text, quoted=True)]
        if char == '"':
            return self._double_quoted()
        part = self._backquoted(False) if char == "`" else self._dollar(False)
        return None if part is None else [part]

    def _double_quoted(self) -> list[Part]:
        start = self.position
        self.position += 1
        parts: list[Part] = []
        plain = ""
        while True:
            if self.position >= len(self.text):
                raise self.fault(start, '" is not closed', incomplete=True)
            char = self.text[self.position]
            if char == '"':
                self.position += 1
                break
            part: Part | None = None
            if char == "\\" and self.text[self.position + 1 : self.position + 2] in ("$", "`", '"', "\\", "\n"):
                # A newline after a backslash vanishes; before other characters the backslash stays.
                plain += self.text[self.position + 1].strip("\n")
                self.position += 2
                continue
            if char == "$":
                part = self._dollar(True)
            elif char == "`":
                part = self._backquoted(True)
            if part is None:
                plain += char
                self.position += 1
                continue
            if plain:
                parts.append(Literal(plain, quoted=True))
                plain = ""
            parts.append(part)
        if plain or not parts:
            parts.append(Literal(plain, quoted=True))
        return parts

    def _dollar(self, quoted: bool) -> Part | None:
        start = self.position
        after = self.text[start + 1 : start + 2]
        if after == "(":
            return self._substitution(quoted)
        if after == "{":
            end = self.text.find("}", start)
            if end < 0:
                raise self.fault(start, "${ is not closed", incomplete=True)
            name = self.text[start + 2 : end]
            if not (is_name(name) or is_position(name) or name in SPECIAL_PARAMETERS):
                raise self.fault(start, "${...} takes the name of a variable")
            self.position = end + 1
            return Parameter(name, quoted)
        if after in SPECIAL_PARAMETERS or after in DIGITS:
            self.position = start + 2
            return Parameter(after, quoted)
        end = start + 1
        while end < len(self.text) and (self.text[end] in LETTERS or (self.text[end] in DIGITS and end > start + 1)):
            end += 1
        if end == start + 1:
            return None
        self.position = end
        return Parameter(self.text[start + 1 : end], quoted)

    def _substitution(self, quoted: bool) -> Substitution:
        start = self.position
        self._deeper(start)
        self.position += 2
        script = self.read_script(self)
        if self.next().kind != ")":
            raise self.fault(start, "$( is not closed", incomplete=True)
        self.depth -= 1
        return Substitution(script, quoted)

    def _backquoted(self, quoted: bool) -> Substitution:
        """Backquotes take away one level of backslashes before the text inside is read (POSIX 2.6.3)."""
        start = self.position
        self._deeper(start)
        escaped = '$`\\"' if quoted else "$`\\"
        chars: list[str] = []
        places: list[int] = []
        at = start + 1
        while at < len(self.text) and self.text[at] != "`":
            if self.text[at] == "\\" and self.text[at + 1 : at + 2] in tuple(escaped):
                at += 1
            chars.append(self.text[at])
            places.append(self.source.place(at))
            at += 1
        if at >= len(self.text):
            raise self.fault(start, "` is not closed", incomplete=True)
        places.append(self.source.place(at))
        inner = Lexer(Source("".join(chars), self.source.whole, tuple(places)), self.read_script, self.depth)
        try:
            script = self.read_script(inner)
            end = inner.next()
        except SyntaxFault as fault:
            # The closing backquote is there already, so no further line can mend what stands inside.
            raise SyntaxFault(fault.line, fault.column, fault.detail, incomplete=False) from None
        if end.kind != "end":
            raise inner.fault(end.start, f"{end.show()} is not expected here")
        self.depth -= 1
        self.position = at + 1
        return Substitution(script, quoted)

    def _deeper(self, start: int) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.fault(start, f"substitutions nest more than {DEEPEST} deep")


def is_name(text: str) -> bool:
    """Whether `text` may name a variable: ASCII letters, digits and `_`, no digit first."""
    return bool(text) and text[0] in LETTERS and all(char in LETTERS or char in DIGITS for char in text)


def is_position(text: str) -> bool:
    """Whether `text` is the number of an argument, as in `${12}`."""
    return 0 < len(text) < 6 and all(char in DIGITS for char in text)
