"""What this machine is: `Machine` from what the host says. What it does not say is left out."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

from cognu.world import Profile

PAGE_SIZE, PAGES, FREE_PAGES = "SC_PAGE_SIZE", "SC_PHYS_PAGES", "SC_AVPHYS_PAGES"
MOST_PARTS = 32
"""Of a kind: sensors, screens."""
MAX_TEXT = 4096


class RealMachine:
    """`root` is where the host's /sys and /proc are."""

    def __init__(self, root: str = "/") -> None:
        self._root = root

    def profile(self) -> Profile:
        name = os.uname()
        return Profile(
            architecture=platform.machine(),
            system=name.sysname,
            release=name.release,
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory=_bytes(PAGES),
            free=self._available() or _bytes(FREE_PAGES),
            sensors=tuple(self._sensors())[:MOST_PARTS],
            screens=tuple(self._screens())[:MOST_PARTS],
        )

    def _available(self) -> int:
        """What programs could have without swapping: proc(5), MemAvailable."""
        for line in self._text("proc/meminfo").splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "MemAvailable:" and words[1].isdigit():
                return int(words[1]) << 10
        return 0

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
        except OSError:
            return ""  # it was taken out, or says nothing


def _bytes(pages: str) -> int:
    """0 where the host does not tell."""
    if pages not in os.sysconf_names or PAGE_SIZE not in os.sysconf_names:
        return 0
    return max(0, os.sysconf(pages)) * os.sysconf(PAGE_SIZE)
