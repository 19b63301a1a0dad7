"""The states of a guest and the one table of legal moves between them.

    NEW      made, has not run
    READY    could run
    RUNNING  a thread runs it: the loop's or a worker's
    WAITING  a host call of its is under way
    DEAD     ended; it may still be waiting to be deleted

All moves are made on the loop's thread.
"""

from __future__ import annotations

from enum import Enum

from cognu.errors import E, Misuse


class State(Enum):
    NEW = "new"
    READY = "ready"
    RUNNING = "running"
    WAITING = "waiting"
    DEAD = "dead"


class Event(Enum):
    RUN = "run"
    """It is given to a thread."""
    YIELD = "yield"
    """Its slice is over."""
    CALL = "call"
    """It called a host function whose answer is not there yet."""
    COMPLETE = "complete"
    """That answer came."""
    END = "end"
    """It ended by itself, or its thread let go of it after a kill."""
    KILL = "kill"


MOVES: dict[tuple[State, Event], State] = {
    (State.NEW, Event.RUN): State.RUNNING,
    (State.READY, Event.RUN): State.RUNNING,
    (State.RUNNING, Event.YIELD): State.READY,
    (State.RUNNING, Event.CALL): State.WAITING,
    (State.RUNNING, Event.END): State.DEAD,
    (State.WAITING, Event.COMPLETE): State.READY,
    (State.WAITING, Event.END): State.DEAD,  # its host call exited for it or failed
    (State.NEW, Event.KILL): State.DEAD,
    (State.READY, Event.KILL): State.DEAD,
    (State.WAITING, Event.KILL): State.DEAD,
    (State.RUNNING, Event.KILL): State.RUNNING,  # a flag is set; the thread lets go of it at its next check
    (State.DEAD, Event.KILL): State.DEAD,
}


def move(state: State, event: Event) -> State:
    """The next state. Raises `Misuse` naming both if the move is not in the table."""
    following = MOVES.get((state, event))
    if following is None:
        raise Misuse(E.INVAL, "guest", f"{event.value} while {state.value}")
    return following
