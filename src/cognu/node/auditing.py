"""Who changed what others may do here: a line of the node's log for each such change, from logger `cognu.audit`.

Each says by whom (user and process), what, and for whom. Tickets, secrets and tokens are never in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cognu.files.audit import audit, name_of
from cognu.files.server import Caller

Arguments = dict[str, Any]


def record(by: Caller, verb: str, arguments: Arguments, result: Any) -> None:
    """Log what a verb of the node's control did, if it changed anybody's rights."""
    say = _SAID.get(verb)
    if say is not None:
        audit(name_of(by), say(arguments, result))


def given_up(by: Caller, verb: str, arguments: Arguments) -> None:
    """Log that nobody waited for the end of such a verb, which may have done its work nevertheless."""
    if verb in _SAID:
        whom = arguments.get("peer") or arguments.get("program") or ""
        audit(name_of(by), f"{verb} {whom}: not waited for; it may be done")


def _list(texts: Any) -> str:
    return ", ".join(map(str, texts)) or "nothing"


def _invited(arguments: Arguments, result: Any) -> str:
    return f"invitation {result['number']}: whoever joins with it may: {_list(result['grants'])}"


def _withdrawn(arguments: Arguments, result: Any) -> str:
    return f"invitation {result['number']} withdrawn"


def _joined(arguments: Arguments, result: Any) -> str:
    may = f"it may here: {_list(result['granted'])}; this machine there: {_list(result['received'])}"
    return f"joined {result['peer']} ({result['fingerprint']}); {may}"


def _pairing(arguments: Arguments, result: Any) -> str:
    what = "shows a code to pair by" if arguments.get("code") is None else "types a code to pair by"
    return f"{what}; whoever pairs may here: {_list(result['grants'])}; it is asked for: {_list(result['asks'])}"


def _consented(arguments: Arguments, result: Any) -> str:
    said, how = "yes" if result["yes"] else "no", "" if arguments.get("at_terminal") else ", without being asked"
    who = f"{result['peer']} ({result['fingerprint']}), at {result['address']}"
    return f"said {said}{how} to {who}, which asks for: {_list(result['asks'])}"


def _dropped(arguments: Arguments, result: Any) -> str:
    return f"dropped {arguments['peer']}"


def _exported(arguments: Arguments, result: Any) -> str:
    return "; ".join(f"granted {peer}: {text}" for peer, text in result["granted"])


def _granted(arguments: Arguments, result: Any) -> str:
    what = _list(arguments["grants"])
    if "peer" in arguments:
        return f"granted {result['peer']}: {what}"
    program = f"{result['name'] or '-'} ({result['program']})"
    return f"never for program {program}: {what}" if arguments.get("never") else f"granted program {program}: {what}"


def _minted(arguments: Arguments, result: Any) -> str:
    number = f" {result['number']}" if result["number"] is not None else ""
    what = f"{'write' if arguments.get('write') else 'read'}:{arguments['path']}"
    return f"made token{number} for {result['peer']}, {result['uses']} uses within {result['seconds']} s: {what}"


def _redeemed(arguments: Arguments, result: Any) -> str:
    return f"redeemed a token of {result['peer']} at {result['at']}"


def _revoked(arguments: Arguments, result: Any) -> str:
    return f"took from {arguments['peer']}: {arguments['grant']}"


def _ungranted(arguments: Arguments, result: Any) -> str:
    program = f"{result['name'] or '-'} ({result['program']})"
    return f"forgot of program {program}: {arguments.get('grant') or 'all that was said'}"


_SAID: dict[str, Callable[[Arguments, Any], str]] = {
    "invite": _invited,
    "withdraw": _withdrawn,
    "join": _joined,
    "pair": _pairing,
    "consent": _consented,
    "drop": _dropped,
    "export": _exported,
    "grant": _granted,
    "revoke": _revoked,
    "ungrant": _ungranted,
    "mint": _minted,
    "redeem": _redeemed,
}
"""By the verb of rpc(5)."""
