"""`/dev/profile`: what a machine says of itself, from hosts that tell much, little or nonsense."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognu.devices.profile import ATTRIBUTES, lines, profile_server
from cognu.errors import E
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


FULL = Profile(
    "aarch64", "Linux", "6.6", 4, 8 << 30, 5 << 30, ("cpu-thermal", "nvme"), ("HDMI-A-1 1920x1080",),
    "Debian GNU/Linux 12 (bookworm)", ("BAT0 57% discharging",), "off", True,
)  # fmt: skip
EMPTY = Profile("", "Darwin", "", 1)


@pytest.fixture
def threads() -> Iterator[RealThreads]:
    made = RealThreads(1)
    yield made
    made.close()


async def files(client: Client) -> dict[str, str]:
    names = [*ATTRIBUTES, "name", "labels"]
    assert sorted(await client.names("/profile")) == sorted(names)
    return {name: (await client.read(f"/profile/{name}")).decode() for name in names}


async def test_each_thing_that_is_known_is_a_file_with_a_line_for_each_value(threads: RealThreads) -> None:
    client = Client(profile_server(Machine(FULL), threads, "pi", lambda: ("arm", "room=the kitchen")), ME)
    assert await files(client) == {
        "name": "pi\n", "labels": "arm\nroom=the kitchen\n", "architecture": "aarch64\n", "system": "Linux\n",
        "release": "6.6\n", "distribution": "Debian GNU/Linux 12 (bookworm)\n", "cores": "4\n",
        "memory": "8589934592\n", "free": "5368709120\n", "sensors": "cpu-thermal\nnvme\n",
        "screens": "HDMI-A-1 1920x1080\n", "batteries": "BAT0 57% discharging\n", "charger": "off\n",
        "runs": "wasm\nisolated\n",
    }  # fmt: skip
    bare = await files(Client(profile_server(Machine(EMPTY), threads, "mac"), ME))
    assert {name: text for name, text in bare.items() if text} == {
        "name": "mac\n", "system": "Darwin\n", "cores": "1\n", "runs": "wasm\n",
    }  # fmt: skip


async def test_a_file_is_as_the_machine_was_when_it_was_opened_and_can_t_be_written(threads: RealThreads) -> None:
    machine, labels = Machine(FULL), ["gpu"]
    server = profile_server(machine, threads, "pi", lambda: labels)
    client = Client(server, ME)
    before, said = await client.open("/profile/cores", OREAD), await client.open("/profile/labels", OREAD)
    machine.now, labels[:] = EMPTY, ["gpu=no"]
    assert bytes(await done(server.read(before, 0, 4096))) == b"4\n"
    assert await client.read("/profile/cores") == b"1\n"
    assert bytes(await done(server.read(said, 0, 2))) == b"gp"
    assert await client.read("/profile/labels") == b"gpu=no\n"
    assert await bring(client.open("/profile/cores", OWRITE)) is E.ACCES


@given(st.lists(st.one_of(st.text(max_size=20), st.integers()), max_size=4))
def test_a_value_never_makes_a_line_of_its_own_nor_steers_a_terminal(values: list[str | int]) -> None:
    found = lines(values)
    assert found.count("\n") == len(found.splitlines()) == sum(bool(str(value).split()) for value in values)
    assert found.replace("\n", "").isprintable()


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
    put(tmp_path, "etc/os-release", '# a comment\nNAME=x\nPRETTY_NAME="Raspbian \\"12\\""\n')
    profile = RealMachine(str(tmp_path)).profile()
    assert profile.free == 5000 << 10
    assert profile.sensors == ("coretemp", "acpitz")
    assert profile.screens == ("DP-1", "eDP-1 1920x1080")
    assert profile.distribution == 'Raspbian "12"'


def test_a_laptop_tells_of_its_battery_and_charger_and_not_of_its_mouse(tmp_path: Path) -> None:
    power = "sys/class/power_supply"
    assert (RealMachine(str(tmp_path)).profile().batteries, RealMachine(str(tmp_path)).profile().charger) == ((), "")
    for name, values in {
        "BAT0": {"type": "Battery", "capacity": "57", "status": "Discharging"},
        "BAT1": {"type": "Battery", "scope": "System", "status": "Not charging", "capacity": "\u0665"},
        "mouse": {"type": "Battery", "scope": "Device", "capacity": "3"},
        "AC": {"type": "Mains", "online": "0"},
        "nothing": {},
    }.items():
        (tmp_path / power / name).mkdir(parents=True)
        for key, value in values.items():
            put(tmp_path, f"{power}/{name}/{key}", value + "\n")
    profile = RealMachine(str(tmp_path)).profile()
    assert profile.batteries == ("BAT0 57% discharging", "BAT1 not charging")
    assert profile.charger == "off"
    put(tmp_path, f"{power}/usb/type", "USB\n")
    put(tmp_path, f"{power}/usb/online", "1\n")
    assert RealMachine(str(tmp_path)).profile().charger == "on"


def test_in_a_container_memory_is_what_that_may_use(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "4:memory:/other\n0::/a/../b\n")
    put(tmp_path, "proc/meminfo", "MemAvailable: 5000 kB\n")
    put(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    put(tmp_path, "sys/fs/cgroup/a/memory.max", "3000000\n")
    put(tmp_path, "sys/fs/cgroup/a/memory.current", "1000000\n")
    put(tmp_path, "sys/fs/cgroup/a/b/memory.max", "4000000\n")
    profile = RealMachine(str(tmp_path)).profile()
    assert (profile.memory, profile.free) == (3_000_000, 2_000_000)
    put(tmp_path, "sys/fs/cgroup/a/memory.current", "3000001\n")
    assert RealMachine(str(tmp_path)).profile().free == 0


HOST_FILES = (
    "proc/meminfo", "proc/self/cgroup", "etc/os-release", "sys/fs/cgroup/memory.max", "sys/class/hwmon/a/name",
    "sys/class/drm/card0-a/status", "sys/class/drm/card0-a/modes", "sys/class/power_supply/a/type",
    "sys/class/power_supply/a/capacity", "sys/class/power_supply/a/status", "sys/class/power_supply/a/online",
)  # fmt: skip
SAID = st.sampled_from([b"connected", b"Battery", b"Mains", b"1", b"0::/x", b"MemAvailable: 1 kB", b"9" * 20])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(HOST_FILES), st.one_of(SAID, st.binary(max_size=60)), max_size=8))
def test_whatever_a_host_says_becomes_a_profile(tmp_path: Path, said: dict[str, bytes]) -> None:
    for path in HOST_FILES:
        put(tmp_path, path, "")
        (tmp_path / path).write_bytes(said.get(path, b""))
    profile = RealMachine(str(tmp_path)).profile()
    assert profile.free >= 0 <= profile.memory
    assert profile.charger in ("", "on", "off")
    for get in ATTRIBUTES.values():
        assert lines(get(profile)).replace("\n", "").isprintable()


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
