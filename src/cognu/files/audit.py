"""The log's lines about authority: who let whom do what, from logger `cognu.audit`. Never with a secret in them."""

from __future__ import annotations

import logging

from cognu.files.server import Caller

log = logging.getLogger("cognu.audit")


def audit(by: str, text: str) -> None:
    """One line, whatever names are in it."""
    said = f"{by}: {text}"
    log.info("%s", said if said.isprintable() else repr(said))


def name_of(caller: Caller) -> str:
    """A process of this node, as such a line begins."""
    return f"{caller.user}, process {caller.pid}"
