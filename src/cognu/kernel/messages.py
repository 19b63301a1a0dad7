"""Messages between processes, and interfaces bound to handlers; with them the kernel is complete.

A message is QUEUED at its endpoint, DELIVERED to the endpoint's server, ANSWERED, and over when its sender took
the answer; one whose answer nobody waits for is over when it is delivered. Its number is never used again. What
it says is kept above the kernel, by that number.

    QUEUED     receive -> DELIVERED, or over      cancel -> over         its endpoint ends -> FAILED, or over
    DELIVERED  emit_answer -> ANSWERED            cancel -> CANCELLED
    ANSWERED   take -> over                       cancel -> over
    CANCELLED  receive -> over                                           its endpoint ends -> over
    FAILED     take -> over                       cancel -> over

A message lives by the capability it was sent by: if that died, what is QUEUED or DELIVERED counts as FAILED to
everyone, and taking it is as cancelling it. The sender's end is as cancelling all its messages. So a handler is
told of everything that was delivered to it and is no longer wanted: it is CANCELLED and once more in the queue.

Capabilities go with a request, up to PLACES of them, and with its answer. They are promised when they are
enclosed, out of what the giver holds, and come into being when they are accepted, if the giver still holds
theirs: nothing is charged meanwhile, and revoking reaches what is under way.
"""

from __future__ import annotations

from cognu.kernel.state import (
    ALL_RIGHTS,
    ANSWERED,
    CANCELLED,
    DELIVERED,
    FAILED,
    GRANT,
    INTERFACES,
    LIVE,
    PLACES,
    QUEUED,
    SEND,
    Code,
)
from cognu.kernel.tables import Capabilities


class Kernel(Capabilities):
    """All operations."""

    def emit_message(self, sender: int, slot: int, generation: int, wanted: int) -> int:
        """Queue a message by a capability with SEND; returns its number, which is never 0.

        `wanted` is not 0 if the sender will `take` an answer. The message is charged to the sender until it is
        over. QUOTA and the refusals of `check`.
        """
        processes, messages = self.processes, self.messages
        if self.cursor:
            return -Code.BUSY
        refused = self.check(sender, slot, generation, SEND)
        if refused:
            return refused
        if processes.used[sender] >= processes.quota[sender]:
            return -Code.QUOTA
        self.died = 0
        self.last_message += 1
        message = self.last_message
        messages.state[message] = QUEUED
        messages.endpoint[message] = self.slots.endpoint[slot]
        messages.slot[message] = slot
        messages.generation[message] = generation
        messages.wanted[message] = 1 if wanted else 0
        self._charge_message(message, sender)
        self._enqueue(message)
        return message

    def next_message(self, server: int) -> int:
        """What `server` is to `receive` next, 0 if there is nothing: the oldest of the endpoint whose turn it is."""
        return self.endpoints.oldest[self.processes.turn[server]]

    def receive(self, server: int, message: int) -> int:
        """Deliver a message out of the queue of one of the server's endpoints.

        Returns DELIVERED; CANCELLED if it was delivered before and is not wanted any more; FAILED if it can not
        be delivered, because the capability it was sent by died. NO_MESSAGE if there is no such message.
        """
        endpoints, messages = self.endpoints, self.messages
        if self.cursor:
            return -Code.BUSY
        state, endpoint = messages.state[message], messages.endpoint[message]
        if (state != QUEUED and state != CANCELLED) or endpoints.server[endpoint] != server:
            return -Code.NO_MESSAGE
        self.died = 0
        if state == QUEUED:
            state = FAILED if self._lost(message) else DELIVERED
        if state == DELIVERED and messages.wanted[message]:
            self._dequeue(message)
            self._clear_places(message)
            messages.state[message] = DELIVERED
            messages.handler[message] = server
        else:
            self._fail(message)
        if endpoints.newest[endpoint]:
            # The next turn is another endpoint's.
            self._unready(endpoint)
            self._ready(endpoint)
        return state

    def emit_answer(self, handler: int, message: int) -> int:
        """Answer what was delivered to `handler`, once. NO_MESSAGE, REVOKED if the sender's capability died."""
        messages = self.messages
        if self.cursor:
            return -Code.BUSY
        if messages.state[message] != DELIVERED or messages.handler[message] != handler:
            return -Code.NO_MESSAGE
        if self._lost(message):
            return -Code.REVOKED
        self.died = 0
        messages.state[message] = ANSWERED
        return 0

    def take(self, sender: int, message: int) -> int:
        """What became of a message whose answer `sender` waits for: 0 if nothing yet; ANSWERED or FAILED, and it
        is over. NO_MESSAGE.
        """
        messages = self.messages
        if self.cursor:
            return -Code.BUSY
        state = messages.state[message]
        if not messages.wanted[message] or messages.sender[message] != sender:
            return -Code.NO_MESSAGE
        self.died = 0
        if state < ANSWERED:
            if not self._lost(message):
                return 0
            state = FAILED
        self._let_go(message)
        return state

    def cancel(self, sender: int, message: int) -> int:
        """The sender wants no answer, nor that it is delivered if it is not yet. NO_MESSAGE."""
        messages = self.messages
        if self.cursor:
            return -Code.BUSY
        state = messages.state[message]
        if not state or state == CANCELLED or messages.sender[message] != sender:
            return -Code.NO_MESSAGE
        self.died = 0
        self._let_go(message)
        return 0

    def enclose(self, giver: int, message: int, place: int, slot: int, generation: int, rights: int, moved: int) -> int:
        """Promise a capability to whoever gets a message: the sender while it is QUEUED, the handler before it
        answers. Takes GRANT.

        It will be a child with `rights`, or if `moved` is not 0 the capability itself. What was in `place`, from
        0 below PLACES, is replaced. INVALID, NO_MESSAGE and the refusals of `check`.
        """
        messages = self.messages
        if self.cursor:
            return -Code.BUSY
        if place < 0 or place >= PLACES or rights & LIVE:
            return -Code.INVALID
        state = messages.state[message]
        of = messages.sender[message] if state == QUEUED else messages.handler[message]
        if (state != QUEUED and state != DELIVERED) or of != giver:
            return -Code.NO_MESSAGE
        refused = self.check(giver, slot, generation, GRANT if moved else rights | GRANT)
        if refused:
            return refused
        self.died = 0
        at = message * PLACES + place
        messages.cap_slot[at] = slot
        messages.cap_generation[at] = generation
        messages.cap_rights[at] = 0 if moved else rights | LIVE
        return 0

    def accept(self, taker: int, message: int, place: int) -> int:
        """Take what was enclosed: the server before it receives the message, the sender before it takes the
        answer. Returns the slot; the place is empty then.

        INVALID if there is nothing, NO_MESSAGE, QUOTA; REVOKED if the giver no longer holds it or the message is lost.
        """
        messages = self.messages
        if self.cursor:
            return -Code.BUSY
        state = messages.state[message]
        if state == QUEUED and self.endpoints.server[messages.endpoint[message]] == taker:
            giver = messages.sender[message]
            if self._lost(message):
                return -Code.REVOKED
        elif state == ANSWERED and messages.sender[message] == taker:
            giver = messages.handler[message]
        else:
            return -Code.NO_MESSAGE
        at = message * PLACES + place
        slot = messages.cap_slot[at]
        if place < 0 or place >= PLACES or not slot:
            return -Code.INVALID
        generation, rights = messages.cap_generation[at], messages.cap_rights[at]
        if rights:
            result = self.mint(giver, slot, generation, rights & ALL_RIGHTS, self.slots.badge[slot], taker)
        else:
            result = self.move(giver, slot, generation, taker)
        if result < 0:
            return result
        self._clear(at)
        return result if rights else slot

    def bind(self, process: int, slot: int, generation: int, interface: int) -> int:
        """Bind an interface, for a process, to a capability with SEND that it holds, until that dies.

        What the interface was bound to, and what the capability was bound for, are so no more. INVALID and the
        refusals of `check`.
        """
        if self.cursor:
            return -Code.BUSY
        if interface <= 0 or interface >= INTERFACES:
            return -Code.INVALID
        refused = self.check(process, slot, generation, SEND)
        if refused:
            return refused
        self.died = 0
        self._bind(process, slot, interface)
        return 0

    def bound(self, process: int, interface: int) -> int:
        """The slot that an interface is bound to. INVALID, NO_HANDLER."""
        if interface <= 0 or interface >= INTERFACES:
            return -Code.INVALID
        slot = self.processes.bound[process * INTERFACES + interface]
        return slot if slot else -Code.NO_HANDLER

    def inherit(self, giver: int, process: int, interface: int) -> int:
        """Bind an interface for a process as `giver` has it: to a child of that capability, with all its rights;
        returns its slot.

        NO_HANDLER if the giver has none; INVALID and the refusals of `mint`, of which RIGHTS means that the giver
        may not hand it on.
        """
        slots = self.slots
        if self.cursor:
            return -Code.BUSY
        slot = self.bound(giver, interface)
        if slot < 0:
            return slot
        rights = slots.rights[slot] & ALL_RIGHTS
        made = self.mint(giver, slot, slots.generation[slot], rights, slots.badge[slot], process)
        if made > 0:
            self._bind(process, made, interface)
        return made

    def _bind(self, process: int, slot: int, interface: int) -> None:
        old = self.processes.bound[process * INTERFACES + interface]
        if old:
            self._unbind(old)
        if self.slots.interface[slot]:
            self._unbind(slot)
        self.processes.bound[process * INTERFACES + interface] = slot
        self.slots.interface[slot] = interface
