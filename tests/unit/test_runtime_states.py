from __future__ import annotations

import itertools

import pytest

from cognu.errors import Misuse
from cognu.runtime.states import Event, State, move

# Written out anew from the design, row by row, so that a slip in the module's table shows.
EXPECTED = {
    #               RUN        YIELD    CALL       COMPLETE  END     KILL
    State.NEW:     ("running", None,    None,      None,     None,   "dead"),
    State.READY:   ("running", None,    None,      None,     None,   "dead"),
    State.RUNNING: (None,      "ready", "waiting", None,     "dead", "running"),
    State.WAITING: (None,      None,    None,      "ready",  "dead", "dead"),
    State.DEAD:    (None,      None,    None,      None,     None,   "dead"),
}  # fmt: skip


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_state_with_every_event(state: State, event: Event) -> None:
    expected = EXPECTED[state][list(Event).index(event)]
    if expected is not None:
        assert move(state, event) is State(expected)
        return
    with pytest.raises(Misuse) as caught:
        move(state, event)
    assert event.value in str(caught.value)
    assert state.value in str(caught.value)
