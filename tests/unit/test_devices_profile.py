"""`/dev/profile`: what a machine says of itself, from hosts that tell much, little or nonsense."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.profile import profile_server, profile_text
from cognu.errors import E
from cognu.files.nstext import split_words
from cognu.ninep.types import OREAD, OWRITE
from cognu.world import Profile
from cognu.world.machine import MOST_PARTS, RealMachine
from cognu.world.real import RealThreads
from joined import ME, bring
from serving import Client, done


class Machine:
    def __init__(self, profile: Profile) -> None:
        self.now = profile

    def profile(self) -> Profile:
        return self.now


FULL = Profile("aarch64", "Linux", "6.6", 4, 8 << 30, 5 << 30, ("cpu-thermal",), ("HDMI-A-1 1920x1080",))


def test_every_attribute_has_a_line_that_grep_finds() -> None:
    assert profile_text(FULL, "pi", ("room=the kitchen", "arm=")) == (
        "name=pi\narchitecture=aarch64\nsystem=Linux\nrelease=6.6\ncores=4\nmemory=8589934592\nfree=5368709120\n"
        "sensor=cpu-thermal\nscreen='HDMI-A-1 1920x1080'\nlabel.room='the kitchen'\n"
    )


def test_what_the_host_does_not_tell_has_no_line() -> None:
    assert profile_text(Profile("", "Darwin", "", 1), "mac", ()) == "name=mac\nsystem=Darwin\ncores=1\n"


async def test_the_file_is_as_the_machine_was_when_it_was_opened_and_can_t_be_written() -> None:
    threads, machine = RealThreads(1), Machine(FULL)
    server = profile_server(machine, threads, "pi")
    client = Client(server, ME)
    try:
        before = await client.open("/profile", OREAD)
        machine.now = Profile("aarch64", "Linux", "6.6", 2)
        assert b"cores=4\n" in bytes(await done(server.read(before, 0, 4096)))
        assert await client.read("/profile") == b"name=pi\narchitecture=aarch64\nsystem=Linux\nrelease=6.6\ncores=2\n"
        assert bytes(await done(server.read(before, 5, 2))) == b"pi"
        assert await bring(client.open("/profile", OWRITE)) is E.ACCES
    finally:
        threads.close()


@given(st.text(max_size=40), st.lists(st.text(max_size=20), max_size=3))
def test_a_value_never_makes_a_line_of_its_own(name: str, sensors: list[str]) -> None:
    text = profile_text(Profile("x", "y", "z", 1, sensors=tuple(sensors)), name, ())
    assert len(text.splitlines()) == text.count("\n") == 4 + sum(bool(value.split()) for value in (name, *sensors))
    if name.split():
        assert split_words(text.splitlines()[0].removeprefix("name=")) == [" ".join(name.split())]


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_a_linux_host_tells_of_its_memory_sensors_and_screens(tmp_path: Path) -> None:
    put(tmp_path, "proc/meminfo", "MemTotal:  8000 kB\nMemAvailable:  5000 kB\n")
    put(tmp_path, "sys/class/hwmon/hwmon0/name", "coretemp\n")
    put(tmp_path, "sys/class/thermal/thermal_zone0/type", "acpitz\n")
    put(tmp_path, "sys/class/thermal/cooling_device0/type", "Processor\n")
    put(tmp_path, "sys/class/drm/card0-eDP-1/status", "connected\n")
    put(tmp_path, "sys/class/drm/card0-eDP-1/modes", "1920x1080\n1280x720\n")
    put(tmp_path, "sys/class/drm/card0-HDMI-A-1/status", "disconnected\n")
    put(tmp_path, "sys/class/drm/card0-DP-1/status", "connected\n")
    profile = RealMachine(str(tmp_path)).profile()
    assert profile.free == 5000 << 10
    assert profile.sensors == ("coretemp", "acpitz")
    assert profile.screens == ("DP-1", "eDP-1 1920x1080")


def test_a_host_with_very_many_sensors_or_nonsense_is_bounded(tmp_path: Path) -> None:
    for number in range(3 * MOST_PARTS):
        put(tmp_path, f"sys/class/hwmon/hwmon{number}/name", "x" * 100_000)
    put(tmp_path, "proc/meminfo", "MemAvailable: much kB\n\nMemAvailable:\n")
    profile = RealMachine(str(tmp_path)).profile()
    assert len(profile.sensors) == MOST_PARTS
    assert all(len(sensor) <= 4096 for sensor in profile.sensors)
    assert profile.free == os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") or profile.free > 0


def test_this_host_tells_what_it_is() -> None:
    profile = RealMachine().profile()
    assert profile.architecture
    assert profile.system == os.uname().sysname
    assert 1 <= profile.cores <= (os.cpu_count() or 1)
    assert profile.free >= 0


@pytest.mark.parametrize("missing", ["SC_PHYS_PAGES", "SC_PAGE_SIZE"])
def test_a_host_that_does_not_tell_of_memory_has_none_to_show(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    left = {name: number for name, number in os.sysconf_names.items() if name != missing}
    monkeypatch.setattr(os, "sysconf_names", left)
    assert RealMachine().profile().memory == 0
