"""What a start gives a program is in the log of authority: once, bounded, and nothing of its arguments."""

from __future__ import annotations

from cognu.files.launch import Grant, Launch, Mapping
from cognu.node.launcher import MOST_SAID, SAID_LENGTH, granted_text


def test_a_start_says_what_it_gives_and_of_much_how_much_more() -> None:
    launch = Launch("wc.wasm", ["--password=x"], [Grant("/etc", "r")], [Mapping("/home/me", "/w")], ["/g"])
    assert granted_text(launch) == "/etc:r, /home/me:rwx as /w, what /g says"
    assert granted_text(Launch("wc.wasm", ["x"])) == ""
    many = granted_text(Launch(grants=[Grant("/" + "x" * 4096, "rwx")] * 1000))
    assert many.endswith(f", /{'x' * (SAID_LENGTH - 1)}…:rwx and {1000 - MOST_SAID} more")
    assert len(many) < (SAID_LENGTH + 20) * MOST_SAID
