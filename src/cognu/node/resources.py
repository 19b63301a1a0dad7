"""What of the host is served as files: the commands and sensors of settings(5), and its clipboard."""

from __future__ import annotations

from contextlib import AsyncExitStack

from cognu.devices.cmd import CommandServer
from cognu.devices.desktop import desktop_server
from cognu.devices.sensor import Host, sensor_server
from cognu.files.server import FileServer
from cognu.node.hosting import parse_commands, parse_sensors
from cognu.node.node import Node


def make_resources(node: Node, stack: AsyncExitStack) -> dict[str, FileServer]:
    """By its letter, each device; what they own ends with the stack, when nobody has a file of them open any more."""
    world, settings = node.world, node.settings
    entries = parse_commands(settings.commands, node.home.settings)
    commands = CommandServer(world.spawn, world.clock, entries, node.processes.quota_of)
    stack.push_async_callback(commands.close)
    host = Host(world.disk, world.threads, world.spawn, world.clock, node.processes.quota_of)
    sensors = sensor_server(host, parse_sensors(settings.sensors, node.home.settings))
    desktop = desktop_server(world.helpers, world.spawn, world.clock, node.processes.quota_of)
    return {"C": commands, "S": sensors, "D": desktop}
