"""`doctor`: is everything there that a node needs, and does it work? It changes nothing, and works without a node."""

from __future__ import annotations

import asyncio
import threading
from queue import Empty, Queue

import click

from cognu.cli.checks.finding import Finding, Level, Subject, carry_out
from cognu.cli.setting import Setting, table, verb
from cognu.errors import CognuError, E, FileError
from cognu.shell.nodeprocess import silent

NODE_SECONDS = 3.0


@verb("doctor", "cognu doctor")
@click.option("-a", "everything", is_flag=True, help="Tell of what is well too.")
def doctor_verb(setting: Setting, everything: bool) -> int:
    """Check the host, the home, the node and its peers: what is wrong, what that means, and what to do.

    Takes at most some 15 seconds and changes nothing. The exit status is 1 if there is a problem.
    """
    from cognu.cli.checks import home, host, node

    findings = carry_out((*host.CHECKS, *home.CHECKS, *node.CHECKS), examine(setting))
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    setting.show(
        {"problems": problems, "findings": [finding._asdict() for finding in findings]},
        *lines(findings, everything),
    )
    return 1 if problems else 0


def examine(setting: Setting) -> Subject:
    """What the node says, if it says anything in time. A node may hang at any point, at taking leave too."""
    answers: Queue[Subject] = Queue()
    threading.Thread(target=lambda: answers.put(_ask(setting)), daemon=True, name="node").start()
    try:
        return answers.get(timeout=NODE_SECONDS)
    except Empty:
        return Subject(setting.home, silent=silent(setting.home, NODE_SECONDS))


def _ask(setting: Setting) -> Subject:
    from cognu.shell.program import Start, connect

    async def ask() -> Subject:
        session = await connect(Start(setting.socket))
        try:
            return Subject(setting.home, await session.rpc("status"), await session.rpc("peers"))
        finally:
            await session.close()

    try:
        return asyncio.run(ask())
    except CognuError as error:
        return Subject(setting.home, silent=error)
    except OSError as error:  # a path that is too long for a socket, say; the checks tell more
        return Subject(setting.home, silent=FileError(E.NONODE, setting.home, error.strerror or ""))


def lines(findings: list[Finding], everything: bool) -> list[str]:
    """For people: what is not well with its meaning and remedy, and how many of each there are."""
    shown = [finding for finding in findings if everything or finding.level is not Level.OK]
    rows = [[str(finding.level), f"{finding.area}: {finding.check}", finding.found] for finding in shown]
    heads = table(rows) if rows else []
    text: list[str] = []
    for finding, head in zip(shown, heads, strict=True):
        text.append(head)
        if finding.level is not Level.OK:
            text.append(f"    {finding.means}")
            if finding.remedy:
                text.append(f"    do: {finding.remedy}")
    counts = [sum(finding.level is level for finding in findings) for level in Level]
    return [*text, f"{counts[0]} ok, {counts[1]} to note, {counts[2]} wrong"]
