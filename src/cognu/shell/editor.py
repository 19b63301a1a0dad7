"""Editing the line at a prompt: prompt_toolkit's emacs keys, on streams that may be another machine's terminal.

prompt_toolkit gets the keys that `streams.stdin` brings and draws what `streams.stderr` takes; the terminal's modes and
its size are the files `/dev/consctl` and `/dev/resize`, near and far alike. Nothing here knows of descriptors. The
library is imported when the first prompt is shown, for a script needs none.

Rules: between two calls of `read` the terminal has its own modes and no read is under way, so that commands have it for
themselves. Keys typed ahead of the prompt's end are kept for the next prompt.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext, suppress
from typing import TextIO, cast

from prompt_toolkit import PromptSession
from prompt_toolkit.application import in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.history import History as Recalled
from prompt_toolkit.input import Input
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.utils import get_cwidth

from cognu.errors import CognuError, FileError
from cognu.files.stopping import ask_to_stop
from cognu.shell.completion import Offer, complete
from cognu.shell.history import History
from cognu.shell.interactive import Interrupted
from cognu.shell.parser import parse
from cognu.shell.state import Shell, Streams, encode, end_tasks
from cognu.shell.syntax import SyntaxFault
from cognu.shell.system import File

CONTROL = "/dev/consctl"
RESIZE = "/dev/resize"
ROWS, COLUMNS = 24, 80
"""The size of a terminal that does not tell any."""
MOST_OFFERED = 400


class _EndOfInput(Exception):
    """Ctrl-D on an empty line, or the terminal is gone."""


class _Suspended(Exception):
    """Ctrl-Z."""


class _Keys(Input):
    """Keys out of bytes that are fed to it."""

    def __init__(self) -> None:
        self._found: list[KeyPress] = []
        self._parser = Vt100Parser(self._found.append)
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._ready: Callable[[], None] | None = None

    def feed_bytes(self, data: bytes) -> None:
        self._parser.feed(self._decoder.decode(data))
        if self._ready is not None:
            self._ready()

    def fileno(self) -> int:
        return -1

    def typeahead_hash(self) -> str:
        return f"keys-{id(self)}"

    def read_keys(self) -> list[KeyPress]:
        found = list(self._found)
        self._found.clear()
        return found

    def flush_keys(self) -> list[KeyPress]:
        self._parser.flush()
        return self.read_keys()

    @property
    def closed(self) -> bool:
        return False

    def raw_mode(self) -> AbstractContextManager[None]:
        return nullcontext()

    def cooked_mode(self) -> AbstractContextManager[None]:
        return nullcontext()

    def attach(self, input_ready_callback: Callable[[], None]) -> AbstractContextManager[None]:
        return _Attached(self, input_ready_callback)

    def detach(self) -> AbstractContextManager[None]:
        return _Attached(self, None)

    def close(self) -> None:
        """The stream is somebody else's."""


class _Attached(AbstractContextManager[None]):
    """While it lasts, `ready` is who is told of keys."""

    def __init__(self, keys: _Keys, ready: Callable[[], None] | None) -> None:
        self._keys = keys
        self._here = ready
        self._before: Callable[[], None] | None = None

    def __enter__(self) -> None:
        self._before, self._keys._ready = self._keys._ready, self._here

    def __exit__(self, *_: object) -> None:
        self._keys._ready = self._before
        self._keys.feed_bytes(b"")  # what came meanwhile is there for whoever listens now


class _Screen:
    """What is drawn, on its way to a stream: prompt_toolkit writes at once, a stream takes its time."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._more = asyncio.Event()
        self.ended = False

    def write(self, text: str) -> int:
        self._waiting.append(text)
        self._more.set()
        return len(text)

    def flush(self) -> None:
        """What was written goes out in any case."""

    def take(self) -> bytes:
        text = "".join(self._waiting)
        self._waiting.clear()
        if not self.ended:
            self._more.clear()
        return encode(text)

    async def more(self) -> bool:
        """Wait for something to take; false at the end, when all was taken."""
        await self._more.wait()
        return bool(self._waiting)

    def begin(self) -> None:
        self.ended = False
        if not self._waiting:
            self._more.clear()

    def end(self) -> None:
        self.ended = True
        self._more.set()


class _Recalled(Recalled):
    """The shell's history as prompt_toolkit asks for it, the newest first."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history
        self.trouble: FileError | None = None

    def load_history_strings(self) -> Iterable[str]:
        return list(reversed(self._history.entries))

    def store_string(self, string: str) -> None:
        try:
            self._history.add(string)
        except FileError as error:
            self.trouble = error


class Editor:
    """Reads what is typed at a shell's prompt. `watch` is called whenever signal handlers may have been replaced."""

    def __init__(self, shell: Shell, streams: Streams, watch: Callable[[], None] = lambda: None) -> None:
        self._shell = shell
        self._streams = streams
        self._watch = watch
        self._size = Size(ROWS, COLUMNS)
        self._listening = False
        self._over = False  # the input ended, and no prompt has yet
        self._keys = _Keys()
        self._screen = _Screen()
        self._recalled = _Recalled(shell.typed)
        output = Vt100_Output(
            cast(TextIO, self._screen),
            lambda: self._size,
            term=shell.variables.get("TERM"),
            default_color_depth=ColorDepth.DEPTH_1_BIT,
            enable_bell=False,
            enable_cpr=False,
        )
        self._session: PromptSession[str] = PromptSession(
            multiline=True,
            history=self._recalled,
            input=self._keys,
            output=output,
            key_bindings=self._bindings(),
            complete_while_typing=False,
            reserve_space_for_menu=0,
            interrupt_exception=Interrupted,
            eof_exception=_EndOfInput,
        )
        self._session.app.terminal_size_polling_interval = None

    def trouble(self) -> FileError | None:
        """Why the last line could not be written to the history; told once."""
        trouble, self._recalled.trouble = self._recalled.trouble, None
        return trouble

    async def read(self, prompt: str, continued: str) -> str | None:
        """A whole script as it was typed, in one or more lines; None at the end of the input.

        Raises `Interrupted`, `LinkBroken`, and `FileError` if the terminal's files are refused. After it `trouble` is
        why the history's file could not be written, None if it was.
        """
        default: Document | str = ""
        async with AsyncExitStack() as owned:
            system = self._shell.system
            control = await system.open(CONTROL, "w")
            owned.push_async_callback(control.close)
            resize = await system.open(RESIZE, "r")
            owned.push_async_callback(resize.close)
            self._resized(await resize.read())
            while True:
                await control.write(b"rawon")
                try:
                    text = await self._edit(prompt, continued, default, resize)
                except _EndOfInput:
                    return None
                except _Suspended:
                    default = self._session.default_buffer.document
                    await control.write(b"suspend")
                    continue
                finally:
                    with suppress(CognuError):
                        await control.write(b"rawoff")
                return text

    async def _edit(self, prompt: str, continued: str, default: Document | str, resize: File) -> str:
        self._screen.begin()
        self._listening = True
        drawing = asyncio.create_task(self._draw())
        listening = asyncio.create_task(self._listen())
        following = asyncio.create_task(self._follow(resize))
        try:
            return await self._session.prompt_async(
                prompt,
                default=default,
                prompt_continuation=lambda width, line, wrapped: "" if wrapped else continued,
                set_exception_handler=False,
                handle_sigint=False,
            )
        finally:
            self._watch()
            self._listening = False
            try:
                # A read that went on somewhere on the way would take what is typed for a command.
                await end_tasks([listening], ask_to_stop)
                await end_tasks([following])
                # What was drawn last goes out before a command writes.
                self._screen.end()
                await asyncio.wait([drawing])
            finally:
                await end_tasks([listening, following, drawing])

    def _stop(self, error: Exception) -> bool:
        """End the prompt; false if it is over already."""
        app = self._session.app
        if not app.is_running or app.is_done:
            return False
        app.exit(exception=error)
        return True

    async def _draw(self) -> None:
        # By now prompt_toolkit has put its own handler for a changed window in the place of whoever had one.
        self._watch()
        try:
            while await self._screen.more():
                await self._streams.stderr.write(self._screen.take())
        except CognuError as error:
            self._stop(error)

    async def _listen(self) -> None:
        try:
            self._keys.feed_bytes(b"")  # what came while nobody took keys
            while self._listening:
                data = b"" if self._over else await self._streams.stdin.read()
                if not data:
                    # A line may just be complete: the end that was typed after it is the next prompt's.
                    self._over = not self._stop(_EndOfInput())
                    return
                self._keys.feed_bytes(data)
        except CognuError as error:
            self._stop(error)

    async def _follow(self, resize: File) -> None:
        try:
            while data := await resize.read():
                self._resized(data)
                self._session.app.invalidate()
        except CognuError as error:
            self._stop(error)

    def _resized(self, data: bytes) -> None:
        rows, columns = (int(word) for word in data.split())
        self._size = Size(rows or ROWS, columns or COLUMNS)

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        typing = has_focus(DEFAULT_BUFFER)

        @bindings.add("enter", filter=typing)
        def _enter(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if _goes_on(buffer.text):
                buffer.cursor_position = len(buffer.text)
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @bindings.add("c-@", filter=typing & Condition(lambda: not self._session.default_buffer.text))
        def _typed_ahead(event: KeyPressEvent) -> None:
            # The host's terminal gives a NUL for a Ctrl-D that was typed before raw mode began.
            event.app.exit(exception=_EndOfInput())

        @bindings.add("c-z")
        def _suspend(event: KeyPressEvent) -> None:
            event.app.exit(exception=_Suspended())

        @bindings.add("tab", filter=typing)
        async def _tab(event: KeyPressEvent) -> None:
            await self._complete(event.current_buffer)

        return bindings

    async def _complete(self, buffer: Buffer) -> None:
        document = buffer.document
        try:
            offer = await complete(self._shell, document.text_before_cursor)
        except CognuError as error:
            self._stop(error)
            return
        if buffer.document != document or not offer.names:
            return  # something was typed meanwhile, and what was found fits no more
        replaced = document.text_before_cursor[offer.place.start :]
        inserted = offer.insertion()
        if inserted != replaced:
            buffer.delete_before_cursor(len(replaced))
            buffer.insert_text(inserted)
        elif len(offer.names) > 1:
            async with in_terminal(render_cli_done=True):
                self._screen.write(_table(offer, self._size.columns))


def _goes_on(text: str) -> bool:
    """Whether another line could make a script of it."""
    try:
        parse(text)
    except SyntaxFault as fault:
        return fault.incomplete
    return False


def _table(offer: Offer, columns: int) -> str:
    """Names in columns, top to bottom; what a terminal would obey is not shown to it."""
    names = ["".join(char if char.isprintable() else "?" for char in name) for name in offer.names[:MOST_OFFERED]]
    width = max(get_cwidth(name) for name in names) + 2
    across = max(1, columns // width)
    rows = -(-len(names) // across)
    cells = [name + " " * (width - get_cwidth(name)) for name in names]
    lines = ["".join(cells[row::rows]).rstrip() for row in range(rows)]
    if len(offer.names) > len(names):
        lines.append(f"... {len(offer.names)} in all")
    return "".join(f"{line}\r\n" for line in lines)
