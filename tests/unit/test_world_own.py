"""This machine's own addresses, and the host's word that they are others."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from typing import Any

import pytest

from cognu.world import own
from cognu.world.net import RealNetwork
from cognu.world.sockets import join_address

NETWORK = RealNetwork()


class Host:
    """In place of the host's netlink: the other end of a socket, at which what it would say is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuses: str = "", says: int = 0) -> None:
        self.made: list[socket.socket] = []
        self.bound: list[Any] = []
        self.end, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        host = self

        class Netlink(socket.socket):
            def __init__(self, family: int, kind: int, protocol: int) -> None:
                if refuses == "socket":
                    raise OSError(errno.EAFNOSUPPORT, "")
                assert (family, protocol) == (socket.AF_NETLINK, socket.NETLINK_ROUTE)
                super().__init__(fileno=ours.detach())
                host.made.append(self)

            def bind(self, address: Any) -> None:
                if refuses == "bind":
                    raise OSError(errno.EACCES, "")
                host.bound.append(address)

            def recv(self, *arguments: Any) -> bytes:
                data = super().recv(*arguments)
                if says:
                    raise OSError(says, "")
                return data

        if refuses == "socket":
            ours.close()
        monkeypatch.setattr(socket, "socket", Netlink)

    def close(self) -> None:
        self.end.close()


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
@pytest.mark.parametrize("says", [0, errno.ENOBUFS])
async def test_who_follows_is_told_whatever_the_host_says_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, says: int
) -> None:
    host = Host(monkeypatch, says=says)
    told = asyncio.Event()
    end = NETWORK.follow(told.set)
    assert end is not None
    assert host.bound == [(0, 0x111)]
    for said in (b"", b"x", bytes(1 << 17), b"no message at all"):
        host.end.send(said)
        await told.wait()
        told.clear()
    end()
    assert host.made[0].fileno() == -1
    host.close()


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
@pytest.mark.parametrize("refuses", ["socket", "bind"])
async def test_a_host_that_refuses_to_tell_is_none_that_tells_and_nothing_is_left_open(
    monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    host = Host(monkeypatch, refuses)
    assert NETWORK.follow(lambda: None) is None
    assert all(made.fileno() == -1 for made in host.made)
    host.close()


async def test_other_systems_do_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert NETWORK.follow(lambda: None) is None


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
async def test_the_hosts_own_netlink_is_followed_and_left() -> None:
    end = own.follow(lambda: None)
    assert end is not None
    end()


def test_an_address_of_one_link_is_told_with_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    [(number, name), *_] = socket.if_nameindex()
    assert join_address(("fe80::1", 7, 0, number)) == f"[fe80::1%{name}]:7"
    assert join_address(("fd77::1", 7, 0, 0)) == "[fd77::1]:7"

    def gone(_: int) -> str:
        raise OSError(errno.ENXIO, "")

    monkeypatch.setattr(socket, "if_indextoname", gone)
    assert join_address(("fe80::1", 7, 0, number)) == "[fe80::1]:7"
