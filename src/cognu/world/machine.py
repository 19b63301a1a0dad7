"""What this machine is: `Machine` from what the host says. What it does not say is left out."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterator

from cognu.world import Profile, wall

PAGE_SIZE, PAGES, FREE_PAGES = "SC_PAGE_SIZE", "SC_PHYS_PAGES", "SC_AVPHYS_PAGES"
MOST_PARTS = 32
"""Of a kind: sensors, screens, batteries."""
MAX_TEXT = 4096
MOST_DIGITS = 18


class RealMachine:
    """`root` is where the host's /sys, /proc and /etc are."""

    def __init__(self, root: str = "/") -> None:
        self._root = root

    def profile(self) -> Profile:
        name = os.uname()
        memory, free = _bytes(PAGES), self._available() or _bytes(FREE_PAGES)
        limit, used = self._confined()
        if limit is not None:  # of a container, say
            memory = min(memory or limit, limit)
            free = min(free, max(0, limit - used))
        return Profile(
            architecture=platform.machine(),
            system=name.sysname,
            release=name.release,
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory=memory,
            free=free,
            sensors=tuple(self._sensors())[:MOST_PARTS],
            screens=tuple(self._screens())[:MOST_PARTS],
            distribution=self._distribution(),
            batteries=tuple(self._batteries())[:MOST_PARTS],
            charger=self._charger(),
            isolates=not wall.missing(),
        )

    def _available(self) -> int:
        """What programs could have without swapping: proc(5), MemAvailable."""
        for line in self._text("proc/meminfo").splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "MemAvailable:" and _is_count(words[1]):
                return int(words[1]) << 10
        return 0

    def _confined(self) -> tuple[int | None, int]:
        """Bytes that this process's group may use, and uses: the least of it and those above (cgroup-v2, memory)."""
        limit, used = None, 0
        own = next((line[3:] for line in self._text("proc/self/cgroup").splitlines() if line.startswith("0::/")), "")
        names = [name for name in own.split("/") if name not in ("", ".", "..")]
        for count in range(len(names) + 1):
            at = "/".join(["sys/fs/cgroup", *names[:count]])
            most, now = (self._text(f"{at}/memory.{what}").strip() for what in ("max", "current"))
            if _is_count(most) and (limit is None or int(most) < limit):
                limit, used = int(most), int(now) if _is_count(now) else 0
        return limit, used

    def _distribution(self) -> str:
        """The system by the name that people know: os-release(5), or macOS with its version."""
        for line in (self._text("etc/os-release") or self._text("usr/lib/os-release")).splitlines():
            name, _, value = line.partition("=")
            if name == "PRETTY_NAME":
                try:
                    return " ".join(shlex.split(value))
                except ValueError:
                    return ""
        version = platform.mac_ver()[0]
        return f"macOS {version}" if version else ""

    def _supplies(self, *kinds: str) -> Iterator[str]:
        """Directories of what this machine gets its power from; not of a mouse's battery (sysfs-class-power)."""
        for entry in self._names("sys/class/power_supply"):
            at = f"sys/class/power_supply/{entry}"
            if self._text(f"{at}/type").strip() in kinds and self._text(f"{at}/scope").strip() != "Device":
                yield at

    def _batteries(self) -> Iterator[str]:
        for at in self._supplies("Battery"):
            percent, state = (self._text(f"{at}/{name}").strip() for name in ("capacity", "status"))
            words = [at.rpartition("/")[2], f"{percent}%" if _is_count(percent) else "", state.lower()]
            yield " ".join(word for word in words if word)

    def _charger(self) -> str:
        said = [self._text(f"{at}/online").strip() for at in self._supplies("Mains", "USB", "Wireless")]
        return "on" if "1" in said else "off" if "0" in said else ""

    def _sensors(self) -> Iterator[str]:
        """Names of the kernel's: sysfs-class-hwmon, -thermal, and iio."""
        for directory, name in (
            ("sys/class/hwmon", "name"), ("sys/class/thermal", "type"), ("sys/bus/iio/devices", "name"),
        ):  # fmt: skip
            for entry in self._names(directory):
                found = self._text(f"{directory}/{entry}/{name}").strip()
                if found and not entry.startswith("cooling"):
                    yield found

    def _screens(self) -> Iterator[str]:
        """Connectors at which there is one, with the mode it likes best: `eDP-1 1920x1080` (drm-kms)."""
        for entry in self._names("sys/class/drm"):
            at = f"sys/class/drm/{entry}"
            if self._text(f"{at}/status").strip() == "connected":
                mode = self._text(f"{at}/modes").partition("\n")[0]
                yield f"{entry.partition('-')[2]} {mode}".strip()

    def _names(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(f"{self._root}/{directory}"))
        except OSError:
            return []  # a host without such a thing

    def _text(self, path: str) -> str:
        try:
            with open(f"{self._root}/{path}", "rb") as file:
                return file.read(MAX_TEXT).decode("utf-8", "replace")
        except (OSError, ValueError):
            return ""  # it was taken out, says nothing, or has a name that is none


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _bytes(pages: str) -> int:
    """0 where the host does not tell."""
    if pages not in os.sysconf_names or PAGE_SIZE not in os.sysconf_names:
        return 0
    return max(0, os.sysconf(pages)) * os.sysconf(PAGE_SIZE)
