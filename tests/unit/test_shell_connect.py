"""Beginning a session with a node that does not answer."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from cognu.cli.main import run
from cognu.errors import E, FileError
from cognu.shell import program
from cognu.shell.program import Start, connect
from sessions import short_place


@pytest.mark.parametrize("verb", ["status", "down", "ps", "up"])
def test_a_node_that_is_stopped_ends_a_verb_with_words(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "ANSWER_SECONDS", 0.05)
    with short_place() as home, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "node.sock"))
        listener.listen()
        assert run(["--home", str(home), verb]) == 1
    said = capsys.readouterr().err
    assert f"{home}: {E.SILENT.text}: its process says nothing for 0.05 s" in said
    assert "cognu down --force" in said


async def test_a_session_that_is_given_up_closes_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "ANSWER_SECONDS", 0.05)
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()
        ended.set()

    with short_place() as home:
        path = str(Path(home) / "node.sock")
        async with await asyncio.start_unix_server(silent, path):
            with pytest.raises(FileError) as caught:
                await connect(Start(path))
            await ended.wait()
    assert caught.value.error is E.SILENT
