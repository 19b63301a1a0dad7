"""Whether this host runs programs: asked in a child, because what is asked may crash, and once for each version."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version

from cognu import __version__
from cognu.cli.setting import Setting
from cognu.errors import CognuError, E, FileError, from_oserror

COMMAND = (sys.executable, "-P", "-m", "cognu.runtime.probe")
"""`-P`, here as for the node: no module is taken from the directory that the user is in. What PYTHONPATH names is the
user's own choice, as is an installation among the user's own modules."""
PROBE_SECONDS = 20.0


def probe(setting: Setting) -> None:
    """Raises what the probe finds, FIBERS; TIMEDOUT if it does not end. A good outcome is kept in HOME/probed."""
    from cognu.runtime.probe import diagnose

    forget(setting)
    try:
        ended = subprocess.run(
            COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=PROBE_SECONDS, check=False, cwd="/",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FileError(E.TIMEDOUT, "cognu up", f"the probe did not end within {PROBE_SECONDS:.0f} s") from None
    error: CognuError | None = diagnose(ended.returncode, ended.stdout.decode("utf-8", "replace"))
    if error is not None:
        raise error
    try:
        with open(_kept(setting), "w", encoding="utf-8") as kept:
            kept.write(_versions())
    except OSError as refused:
        raise from_oserror(refused, _kept(setting)) from None


def probe_once(setting: Setting) -> None:
    """`probe`, unless it went well in this home with these versions before."""
    try:
        with open(_kept(setting), encoding="utf-8", errors="replace") as kept:
            if kept.read() == _versions():
                return
    except FileNotFoundError:
        pass
    except OSError as error:
        raise from_oserror(error, _kept(setting)) from None
    probe(setting)


def forget(setting: Setting) -> None:
    """The next start probes again."""
    try:
        os.unlink(_kept(setting))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise from_oserror(error, _kept(setting)) from None


def _kept(setting: Setting) -> str:
    return f"{setting.home}/probed"


def _versions() -> str:
    """What the outcome depends on, one line."""
    return f"{sys.executable} {platform.python_version()} {version('wasmtime')} {__version__} {platform.machine()}\n"
