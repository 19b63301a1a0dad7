"""OpenSSH's server for one run: on a free port of 127.0.0.1, with keys made for it, no password, and ended after it.

Nothing of it outlives the run, and nothing of the user's own is read or written: neither ~/.ssh nor /etc/ssh.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import servers

SERVER = "/usr/sbin/sshd"
HOST = "far"
_SERVER_SAYS = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
Subsystem sftp internal-sftp
"""
_CLIENT_SAYS = """\
Host {host}
 HostName 127.0.0.1
 Port {port}
 User {user}
 IdentityFile {directory}/user
 IdentitiesOnly yes
 BatchMode yes
 HostKeyAlias {host}
 UserKnownHostsFile {directory}/known
 GlobalKnownHostsFile none
 StrictHostKeyChecking yes
"""
"""Neither side's TCP gathers small pieces: OpenSSH sets TCP_NODELAY for what is interactive, and for SFTP."""


class Ssh(NamedTuple):
    """`config`: what `ssh -F` reads; `standing`: a connection that is there already, as a link is between nodes."""

    config: Path
    standing: Path

    def command(self, *words: str) -> list[str]:
        """What runs `words` over the standing connection."""
        return ["ssh", "-F", str(self.config), "-S", str(self.standing), HOST, *words]

    def sshfs(self, served: Path, place: Path) -> AbstractContextManager[str]:
        """`served` mounted anew at `place`, over a connection of its own."""
        return servers.mounted(["sshfs", "-f", "-F", str(self.config), f"{HOST}:{served}"], place)


def missing() -> str:
    """Why OpenSSH can't be measured here; empty if it can."""
    if not Path(SERVER).exists() or not shutil.which("ssh") or not shutil.which("ssh-keygen"):
        return "no such program; on Debian and Ubuntu: apt-get install openssh-server openssh-client"
    if os.geteuid() == 0 and not Path("/run/sshd").is_dir():
        return "run by root the server wants a directory /run/sshd; on Debian and Ubuntu: service ssh start, or mkdir"
    return ""


def sshfs_missing() -> str:
    """Why sshfs can't be, where OpenSSH can."""
    if not shutil.which("sshfs"):
        return "no such program; on Debian and Ubuntu: apt-get install sshfs"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "this host lets no program of its user mount (/dev/fuse)"
    return ""


@contextmanager
def server(directory: Path) -> Iterator[int]:
    """Its port; keys and what it says are in `directory`, which is made. Raises `RuntimeError` with what it says."""
    directory.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    (directory / "known").write_text(f"{HOST} {(directory / 'host.pub').read_text()}")
    port = servers.free_port()
    (directory / "server").write_text(_SERVER_SAYS.format(port=port, directory=directory))
    with (directory / "log").open("w") as log:
        process = subprocess.Popen([SERVER, "-D", "-e", "-f", str(directory / "server")], stderr=log)
        try:
            yield port
        finally:
            servers.end(process)


@contextmanager
def client(directory: Path, port: int) -> Iterator[Ssh]:
    """Connected to what is behind `port`. `directory` is the server's. Raises `RuntimeError` with what ssh says."""
    config = directory / f"client-{port}"
    config.write_text(_CLIENT_SAYS.format(host=HOST, port=port, user=getpass.getuser(), directory=directory))
    ssh = Ssh(config, directory / f"s{port}")
    until = time.monotonic() + servers.PATIENCE
    while True:
        # -f: it is in the background as soon as it stands, and so also when this returns.
        begun = subprocess.run(
            ["ssh", "-F", str(config), "-M", "-S", str(ssh.standing), "-N", "-f", HOST],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        if begun.returncode == 0:
            break
        if time.monotonic() > until or not any(said in begun.stderr for said in ("refused", "closed", "reset")):
            raise RuntimeError(f"ssh does not get through: {begun.stderr} {(directory / 'log').read_text()}")
        time.sleep(0.02)
    try:
        yield ssh
    finally:
        subprocess.run(["ssh", "-F", str(config), "-S", str(ssh.standing), "-O", "exit", HOST],
                       check=True, stderr=subprocess.DEVNULL)  # fmt: skip
