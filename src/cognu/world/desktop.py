"""Which programs of the host reach its clipboard and its person: those of a session that this process is in.

wl-copy and wl-paste where there is Wayland, xclip or xsel where there is X11, pbcopy and pbpaste on macOS; notify-send
or osascript to tell something. What is told is an argument of its own, and the summary of a notice, which no desktop
reads markup in (Desktop Notifications Specification, "Basic Design").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cognu.world import Helpers

Which = Callable[[str], str | None]
"""The path of a program by its name, as shutil.which(3) finds it."""
SESSION = (
    "HOME", "LANG", "WAYLAND_DISPLAY", "DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
)  # fmt: skip
"""What of the environment a helper needs to find the session."""
TELL = ("-e", "on run argv", "-e", 'display notification (item 1 of argv) with title "Cognu"', "-e", "end run")


def find_helpers(environment: Mapping[str, str], which: Which, system: str) -> Helpers:
    """`system` is as in sys.platform. What is not there is empty."""
    kept = tuple((name, environment[name]) for name in SESSION if name in environment)
    if system == "darwin":
        copy, paste = _pair(which, ("pbcopy",), ("pbpaste",))
        return Helpers(copy, paste, _found(which, "osascript", *TELL), kept)
    copy = paste = ()
    if environment.get("WAYLAND_DISPLAY"):
        copy, paste = _pair(which, ("wl-copy",), ("wl-paste", "--no-newline"))
    if not copy and environment.get("DISPLAY"):
        xclip = ("xclip", "-selection", "clipboard")
        copy, paste = _pair(which, (*xclip, "-in"), (*xclip, "-out"))
        if not copy:
            copy, paste = _pair(which, ("xsel", "--clipboard", "--input"), ("xsel", "--clipboard", "--output"))
    bus = environment.get("DBUS_SESSION_BUS_ADDRESS")
    return Helpers(copy, paste, _found(which, "notify-send", "--app-name=Cognu", "--") if bus else (), kept)


def _pair(which: Which, copy: tuple[str, ...], paste: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Both or none."""
    found = _found(which, *copy), _found(which, *paste)
    return found if all(found) else ((), ())


def _found(which: Which, name: str, *arguments: str) -> tuple[str, ...]:
    path = which(name)
    return (path, *arguments) if path else ()
