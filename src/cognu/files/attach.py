"""The one way to the root of a file server: through `dispatch`, under the very capability that the chan will have.

So attaching is an operation like any other: checked, cancelled by a revocation, and counted where operations are.
"""

from __future__ import annotations

from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.dispatch import dispatch
from cognu.files.mounts import Device
from cognu.files.server import Caller, FileServer
from cognu.files.steps import Steps
from cognu.kernel import ALL_RIGHTS, Cap

OWN = "#own"
"""How people are told of what a program's own domain serves to the program itself: the directories that lead to its
grants. What more it has of its own adds to that. No device has a letter `o`, so this is none's name."""


def attach(
    server: FileServer, domain: Domain, cap: Cap, caller: Caller, aname: str = "", name: str = "/", spec: str = ""
) -> Steps[Chan]:
    """The root of the server's tree `aname`, under `cap`, which `domain` holds.

    `name` is what paths from there begin with; `spec` how the tree is told from others (`Origin`), the server's own if
    empty. Raises REVOKED, NOATTACH and what the server raises.
    """
    door = Device(server, domain, cap, Path(None, name))
    fid = yield from dispatch(door, 0, server.attach, caller, aname)
    return Chan(Handle(server, fid), domain, cap, Path(None, name), Origin(spec or server.spec, ()))


def attach_own(
    server: FileServer,
    domain: Domain,
    caller: Caller,
    aname: str = "",
    name: str = "/",
    spec: str = "",
    rights: int = ALL_RIGHTS,
) -> Steps[Chan]:
    """As `attach`, of a server that `domain` itself serves, so that it ends with the domain; with `rights` at most."""
    authority = domain.authority
    _, cap = authority.new_server(domain.pid, spec or server.spec)
    if rights != ALL_RIGHTS:
        cap = authority.mint(domain.pid, cap, rights, domain.pid)
    return (yield from attach(server, domain, cap, caller, aname, name, spec))
