"""From text to tokens. The parser asks for one token at a time, because `$(` needs the parser again in mid-word.

Source: POSIX.1-2024, Shell & Utilities, 2.2 (quoting), 2.3 (token recognition), 2.6 (the forms of `$`).
Rules of use: a `Lexer` holds a position in one text; `next()` moves it past one token. Whoever built the lexer gives
it `read_script`, which parses a nested script with this same lexer up to a closing parenthesis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cognu.shell.syntax import (
    Arithmetic,
    Document,
    Literal,
    Parameter,
    Part,
    Script,
    Substitution,
    SyntaxFault,
    Tilde,
    Word,
)

DEEPEST = 40
"""How deep substitutions and compound commands may nest; bounds the parser's recursion."""

OPERATORS = ("<<-", "&&", "||", ";;", ">>", ">&", "<&", "<<", "&>", "|", "&", ";", "(", ")", "<", ">")
BLANK = " \t"
WORD_ENDS = frozenset(" \t\n|&;()<>")
SPECIAL_PARAMETERS = frozenset("?$#@*!")
EXPANSIONS = (":-", ":=", ":?", ":+", "-", "=", "?", "+", "%%", "%", "##", "#")
"""What may follow the name in `${name...}`, the longer before those that begin alike."""
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


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A here-document whose lines come after the line that is being read."""

    start: int
    end: str
    quoted: bool
    strip: bool
    document: Document


class Lexer:
    """`read_script(lexer)` parses up to `)` or the end of the text and leaves the lexer before that token."""

    def __init__(self, source: Source, read_script: Callable[[Lexer], Script], depth: int = 0) -> None:
        self.source = source
        self.text = source.text
        self.position = 0
        self.depth = depth
        self.read_script = read_script
        self._awaited: list[_Awaited] = []
        # Looked at once: each would be read twice, and what stands in it four times, and so on.
        self._no_arithmetic: set[int] = set()

    def fault(self, position: int, detail: str, incomplete: bool = False) -> SyntaxFault:
        return self.source.fault(position, detail, incomplete)

    def next(self) -> Token:
        """The next token. Raises `SyntaxFault`."""
        self._skip_blanks()
        start = self.position
        if start >= len(self.text):
            if self._awaited:
                raise self._unended(self._awaited[0])
            return Token("end", start, start)
        if self.text[start] == "\n":
            self.position += 1
            self._read_documents()
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

    def expect_document(self, operator: str, word: Token) -> Document:
        """A here-document ends with a line that is `word`; its lines begin after the next newline (POSIX 2.7.4)."""
        assert word.word is not None
        end = ""
        for part in word.word.parts:
            # The word is not expanded; what was quoted only loses its quotes.
            end += part.text if isinstance(part, Literal) else "~" if isinstance(part, Tilde) else ""
        if not all(isinstance(part, Literal | Tilde) for part in word.word.parts) or "\n" in end:
            raise self.fault(word.start, "the word that ends a here-document is plain text")
        quoted = any(isinstance(part, Literal) and part.quoted for part in word.word.parts)
        document = Document()
        self._awaited.append(_Awaited(word.start, end, quoted, operator == "<<-", document))
        return document

    def _unended(self, awaited: _Awaited) -> SyntaxFault:
        return self.fault(awaited.start, f"the here-document up to '{awaited.end}' is not ended", incomplete=True)

    def _read_documents(self) -> None:
        waiting, self._awaited = self._awaited, []
        for awaited in waiting:
            awaited.document.body = self._read_document(awaited)

    def _read_document(self, awaited: _Awaited) -> Word:
        chars: list[str] = []
        places: list[int] = []
        while self.position < len(self.text):
            newline = self.text.find("\n", self.position)
            end = len(self.text) if newline < 0 else newline
            start = self.position
            while awaited.strip and start < end and self.text[start] == "\t":
                start += 1
            self.position = min(end + 1, len(self.text))
            if self.text[start:end] == awaited.end:
                places.append(self.source.place(start))
                if awaited.quoted:
                    return Word((Literal("".join(chars), quoted=True),))
                source = Source("".join(chars), self.source.whole, tuple(places))
                return Lexer(source, self.read_script, self.depth)._document_text()
            chars.extend(self.text[start : self.position])
            places.extend(map(self.source.place, range(start, self.position)))
        raise self._unended(awaited)

    def _document_text(self) -> Word:
        """The whole text as a here-document whose word was not quoted: `$`, backquotes and backslashes count."""
        try:
            return Word(tuple(self._quoted_parts("", 0)))
        except SyntaxFault as fault:
            # The lines are all there already.
            raise SyntaxFault(fault.line, fault.column, fault.detail, incomplete=False) from None

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

    def _word(self, ends: str | frozenset[str] = WORD_ENDS) -> Word:
        parts: list[Part] = []
        plain = ""
        start = self.position
        while self.position < len(self.text) and self.text[self.position] not in ends:
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
        return [self._backquoted(False)] if char == "`" else _one(self._dollar(False))

    def _double_quoted(self) -> list[Part]:
        start = self.position
        self.position += 1
        parts = self._quoted_parts('"', start)
        self.position += 1
        return parts or [Literal("", quoted=True)]

    def _quoted_parts(self, end: str, start: int) -> list[Part]:
        """What stands between double quotes, up to the character `end`, or (here-documents) to the end of the text."""
        parts: list[Part] = []
        plain = ""
        escapable = ("$", "`", "\\", "\n", *end)
        while self.position < len(self.text):
            char = self.text[self.position]
            if char == end:
                break
            part: list[Part] | None = None
            if char == "\\" and self.text[self.position + 1 : self.position + 2] in escapable:
                # A newline after a backslash vanishes; before other characters the backslash stays.
                plain += self.text[self.position + 1].strip("\n")
                self.position += 2
                continue
            if char == "$":
                part = _one(self._dollar(True))
            elif char == "`":
                part = [self._backquoted(True)]
            elif char == '"' and end == "}":
                part = self._double_quoted()
            if part is None:
                plain += char
                self.position += 1
                continue
            if plain:
                parts.append(Literal(plain, quoted=True))
                plain = ""
            parts.extend(part)
        if end and self.position >= len(self.text):
            raise self.fault(start, "${ is not closed" if end == "}" else f"{end} is not closed", incomplete=True)
        if plain:
            parts.append(Literal(plain, quoted=True))
        return parts

    def _dollar(self, quoted: bool) -> Part | None:
        start = self.position
        after = self.text[start + 1 : start + 2]
        if after == "(":
            if self.text.startswith("((", start + 1) and start not in self._no_arithmetic:
                arithmetic = self._arithmetic(quoted)
                if arithmetic is not None:
                    return arithmetic
            return self._substitution(quoted)
        if after == "{":
            return self._braced(quoted)
        if after in SPECIAL_PARAMETERS or after in DIGITS:
            self.position = start + 2
            return Parameter(after, quoted)
        name = self._name_at(start + 1)
        if not name:
            return None
        self.position = start + 1 + len(name)
        return Parameter(name, quoted)

    def _name_at(self, start: int) -> str:
        end = start
        while end < len(self.text) and (self.text[end] in LETTERS or (self.text[end] in DIGITS and end > start)):
            end += 1
        return self.text[start:end]

    def _braced(self, quoted: bool) -> Parameter:
        """`${name}`, `${#name}`, or `${name` with an operator and a word."""
        start = self.position
        if self.text.find("}", start) < 0:
            raise self.fault(start, "${ is not closed", incomplete=True)
        self.position += 2
        length = self.text.startswith("#", self.position) and self.text[self.position + 1] not in "}:-=?+%#"
        self.position += length
        name = self._braced_name()
        if not name:
            raise self.fault(start, "${...} takes the name of a variable")
        self.position += len(name)
        if self.text.startswith("}", self.position):
            self.position += 1
            return Parameter(name, quoted, "length" if length else "")
        operator = next((sign for sign in EXPANSIONS if self.text.startswith(sign, self.position)), None)
        if operator is None or length:
            raise self.fault(start, "${...} takes the name of a variable")
        self.position += len(operator)
        self.deeper(start)
        # A pattern keeps its own quoting, whatever stands around the braces.
        inner = self._quoted_parts("}", start) if quoted and operator[0] not in "%#" else self._braced_parts(start)
        self.position += 1
        self.depth -= 1
        return Parameter(name, quoted, operator, Word(tuple(inner)))

    def _braced_name(self) -> str:
        at = self.position
        if self.text[at] in SPECIAL_PARAMETERS:
            return self.text[at]
        end = at
        while end < len(self.text) and self.text[end] in DIGITS:
            end += 1
        digits = self.text[at:end]
        return (digits if is_position(digits) else "") if digits else self._name_at(at)

    def _braced_parts(self, start: int) -> list[Part]:
        """The word in `${name:-word}`: like any other, but blanks and operators in it are plain text."""
        word = self._word("}")
        if self.position >= len(self.text):
            raise self.fault(start, "${ is not closed", incomplete=True)
        return list(word.parts)

    def _arithmetic(self, quoted: bool) -> Arithmetic | None:
        """`$((...))`; None if it is `$( (...) ...)` instead, which the parentheses tell (POSIX 2.6.4)."""
        start = self.position
        awaited = list(self._awaited)
        self.deeper(start)
        self.position += 3
        parts: list[Part] = []
        plain = ""
        open_parentheses = 0
        while self.position < len(self.text):
            char = self.text[self.position]
            if char == ")" and open_parentheses == 0:
                if not self.text.startswith("))", self.position):
                    if self.position + 1 < len(self.text):
                        break
                    raise self.fault(start, "$(( is not closed", incomplete=True)
                self.position += 2
                self.depth -= 1
                if plain:
                    parts.append(Literal(plain, quoted=True))
                return Arithmetic(Word(tuple(parts)), quoted)
            open_parentheses += (char == "(") - (char == ")")
            part = self._dollar(True) if char == "$" else self._backquoted(True) if char == "`" else None
            if part is None:
                plain += char
                self.position += 1
                continue
            if plain:
                parts.append(Literal(plain, quoted=True))
                plain = ""
            parts.append(part)
        if self.position >= len(self.text):
            raise self.fault(start, "$(( is not closed", incomplete=True)
        self.position, self._awaited = start, awaited
        self.depth -= 1
        self._no_arithmetic.add(start)
        return None

    def _substitution(self, quoted: bool) -> Substitution:
        start = self.position
        self.deeper(start)
        self.position += 2
        script = self.read_script(self)
        if self.next().kind != ")":
            raise self.fault(start, "$( is not closed", incomplete=True)
        self.depth -= 1
        return Substitution(script, quoted)

    def _backquoted(self, quoted: bool) -> Substitution:
        """Backquotes take away one level of backslashes before the text inside is read (POSIX 2.6.3)."""
        start = self.position
        self.deeper(start)
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

    def deeper(self, start: int) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.fault(start, f"commands nest more than {DEEPEST} deep")


def _one(part: Part | None) -> list[Part] | None:
    return None if part is None else [part]


def is_name(text: str) -> bool:
    """Whether `text` may name a variable: ASCII letters, digits and `_`, no digit first."""
    return bool(text) and text[0] in LETTERS and all(char in LETTERS or char in DIGITS for char in text)


def is_position(text: str) -> bool:
    """Whether `text` is the number of an argument, as in `${12}`."""
    return 0 < len(text) < 6 and all(char in DIGITS for char in text)
