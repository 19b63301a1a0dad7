"""The kernel against its specification, along histories that Hypothesis finds, and makes as short as it can.

Here every state between two steps is looked at too, and every handle that ever was is tried.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from proofs.small import Operation, Pair, image
from proofs.spec import Id

from cognu.kernel import ALL_RIGHTS, GRANT, READ, SEND, Code, Kernel
from cognu.kernel.state import INTERFACES, QUEUED

ANY = st.integers(0, 99)
RIGHTS = st.sampled_from([SEND | GRANT, ALL_RIGHTS, SEND, GRANT, READ, 0, 64, 128, -1])
INTERFACE = st.integers(0, 2) | st.just(INTERFACES)


class KernelAgainstSpecification(RuleBasedStateMachine):
    """The same calls on both. Processes, capabilities and messages are chosen among all that ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(Kernel(60))
        self.kernel = self.pair.kernel
        self.ever: list[Id] = [(5, 1)]

    def call(self, name: str, *arguments: int) -> int:
        before = image(self.kernel)
        operation: Operation = (name, arguments)
        result = self.pair.run(operation)
        if result < 0:
            assert image(self.kernel) == before
        self.ever += [cap for cap in self.pair.state.capabilities if cap not in self.ever]
        return result

    def cap(self, number: int) -> Id:
        return self.ever[number % len(self.ever)]

    def holder(self, number: int, cap: Id) -> int:
        """Mostly who holds it."""
        held = self.pair.state.capabilities.get(cap)
        return held.holder if held and number % 8 else self.process(number)

    def process(self, number: int) -> int:
        return number % (self.kernel.last_process + 2)

    def message(self, number: int) -> int:
        return number % (self.kernel.last_message + 2)

    @rule(creator=ANY, quota=st.integers(-1, 20))
    def create_process(self, creator: int, quota: int) -> None:
        self.call("create_process", self.process(creator), quota)

    @rule(process=ANY)
    def end_process(self, process: int) -> None:
        self.call("end_process", self.process(process))

    @rule(server=ANY)
    def create_endpoint(self, server: int) -> None:
        self.call("create_endpoint", self.process(server))

    @rule(endpoint=ANY)
    def end_endpoint(self, endpoint: int) -> None:
        self.call("end_endpoint", endpoint % (self.kernel.last_endpoint + 2))

    @rule(holder=ANY, cap=ANY, rights=RIGHTS, badge=st.integers(-1, 2), to=ANY)
    def mint(self, holder: int, cap: int, rights: int, badge: int, to: int) -> None:
        of = self.cap(cap)
        self.call("mint", self.holder(holder, of), *of, rights, badge, self.process(to))

    @rule(holder=ANY, cap=ANY, to=ANY)
    def move(self, holder: int, cap: int, to: int) -> None:
        of = self.cap(cap)
        self.call("move", self.holder(holder, of), *of, self.process(to))

    @rule(holder=ANY, cap=ANY)
    def delete(self, holder: int, cap: int) -> None:
        of = self.cap(cap)
        self.call("delete", self.holder(holder, of), *of)

    @rule(holder=ANY, cap=ANY)
    def revoke(self, holder: int, cap: int) -> None:
        of = self.cap(cap)
        self.call("revoke", self.holder(holder, of), *of)

    @rule(holder=ANY, cap=ANY, rights=RIGHTS)
    def check(self, holder: int, cap: int, rights: int) -> None:
        of = self.cap(cap)
        self.call("check", self.holder(holder, of), *of, rights)

    @rule(holder=ANY, cap=ANY, wanted=st.integers(0, 2))
    def emit_message(self, holder: int, cap: int, wanted: int) -> None:
        of = self.cap(cap)
        self.call("emit_message", self.holder(holder, of), *of, wanted)

    @rule(process=ANY, message=ANY)
    def receive(self, process: int, message: int) -> None:
        self.call("receive", self.server(process, self.message(message)), self.message(message))

    @rule(process=ANY, turns=st.integers(1, 3))
    def receive_next(self, process: int, turns: int) -> None:
        for _ in range(turns):
            if message := self.kernel.next_message(self.process(process)):
                assert self.call("receive", self.process(process), message) > 0

    @rule(process=ANY, message=ANY)
    def emit_answer(self, process: int, message: int) -> None:
        self.call("emit_answer", self.server(process, self.message(message)), self.message(message))

    @rule(process=ANY, message=ANY)
    def take(self, process: int, message: int) -> None:
        self.call("take", self.sender(process, self.message(message)), self.message(message))

    @rule(process=ANY, message=ANY)
    def cancel(self, process: int, message: int) -> None:
        self.call("cancel", self.sender(process, self.message(message)), self.message(message))

    @rule(process=ANY, message=ANY, place=st.integers(-1, 4), cap=ANY, rights=RIGHTS, moved=st.integers(0, 1))
    def enclose(self, process: int, message: int, place: int, cap: int, rights: int, moved: int) -> None:
        number = self.message(message)
        giver = self.sender if self.kernel.messages.state[number] == QUEUED else self.server
        self.call("enclose", giver(process, number), number, place, *self.cap(cap), rights, moved)

    @rule(process=ANY, message=ANY, place=st.integers(-1, 4))
    def accept(self, process: int, message: int, place: int) -> None:
        number = self.message(message)
        taker = self.server if self.kernel.messages.state[number] == QUEUED else self.sender
        self.call("accept", taker(process, number), number, place)

    @rule(holder=ANY, cap=ANY, interface=INTERFACE)
    def bind(self, holder: int, cap: int, interface: int) -> None:
        of = self.cap(cap)
        self.call("bind", self.holder(holder, of), *of, interface)

    @rule(process=ANY, interface=INTERFACE)
    def bound(self, process: int, interface: int) -> None:
        self.call("bound", self.process(process), interface)

    @rule(giver=ANY, process=ANY, interface=INTERFACE)
    def inherit(self, giver: int, process: int, interface: int) -> None:
        self.call("inherit", self.process(giver), self.process(process), interface)

    def sender(self, number: int, message: int) -> int:
        """Mostly its sender."""
        m = self.pair.state.messages.get(message)
        return m.sender if m and number % 8 else self.process(number)

    def server(self, number: int, message: int) -> int:
        """Mostly who serves it."""
        m = self.pair.state.messages.get(message)
        serves = self.pair.state.endpoints.get(m.endpoint) if m else None
        return self.process(number) if serves is None or not number % 8 else serves

    @invariant()
    def both_agree(self) -> None:
        self.pair.agree()
        for cap in self.ever:
            held = self.pair.state.capabilities.get(cap)
            if held is None or not held.alive:
                assert self.kernel.check(0, *cap, 0) == -Code.REVOKED
                continue
            assert self.kernel.check(held.holder, *cap, held.rights) == 0
            assert self.kernel.check(held.holder + 1, *cap, 0) == -Code.NOT_HOLDER
            for missing in (1 << bit for bit in range(6) if not held.rights >> bit & 1):
                assert self.kernel.check(held.holder, *cap, missing) == -Code.RIGHTS


TestKernelAgainstSpecification = KernelAgainstSpecification.TestCase
TestKernelAgainstSpecification.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
