"""All state, and what happens to messages when something ends: commits without checks, used by the operations.

A message is charged to its sender, one unit, and is in its list. One that is QUEUED, or CANCELLED after it was
delivered, is in its endpoint's queue besides, and no other; an endpoint with a queue is in its server's ready
list.

A message lives by the capability it was sent by: once that died it is neither delivered nor answered. The
generation says so, whatever state it is in; nothing has to be looked for when a capability dies.
"""

from __future__ import annotations

from cognu.kernel.lists import link, pull, push, unlink
from cognu.kernel.state import (
    CANCELLED,
    DELIVERED,
    FAILED,
    NODE,
    NODE_QUOTA,
    PLACES,
    QUEUED,
    Endpoints,
    Messages,
    Processes,
    Slots,
)


class Queues:
    """All state. `cursor` is not 0 while steps are due: at the slot they are at; `cut` is the slot below
    which they cut or 0 if they clear tombstones upwards; `cut_root` is 1 if `cut` itself goes too.
    """

    def __init__(self, node_quota: int = NODE_QUOTA) -> None:
        self.slots = Slots()
        self.processes = Processes()
        self.endpoints = Endpoints()
        self.messages = Messages()
        self.processes.quota[NODE] = node_quota
        self.last_process = NODE
        self.last_endpoint = 0
        self.last_slot = 0
        self.last_message = 0
        self.free = 0
        self.cursor = 0
        self.cut = 0
        self.cut_root = 0
        self.died = 0
        self.died_generation = 0

    def _lost(self, message: int) -> bool:
        """Whether the capability that a message was sent by has died."""
        messages = self.messages
        return self.slots.generation[messages.slot[message]] != messages.generation[message]

    def _enqueue(self, message: int) -> None:
        endpoints, messages = self.endpoints, self.messages
        endpoint = messages.endpoint[message]
        if not endpoints.newest[endpoint]:
            self._ready(endpoint)
        push(endpoints.newest, endpoints.oldest, messages.next, messages.prev, endpoint, message)

    def _dequeue(self, message: int) -> None:
        endpoints, messages = self.endpoints, self.messages
        endpoint = messages.endpoint[message]
        pull(endpoints.newest, endpoints.oldest, messages.next, messages.prev, endpoint, message)
        if not endpoints.newest[endpoint]:
            self._unready(endpoint)

    def _ready(self, endpoint: int) -> None:
        processes, endpoints = self.processes, self.endpoints
        server = endpoints.server[endpoint]
        push(processes.ready, processes.turn, endpoints.ready_next, endpoints.ready_prev, server, endpoint)

    def _unready(self, endpoint: int) -> None:
        processes, endpoints = self.processes, self.endpoints
        server = endpoints.server[endpoint]
        pull(processes.ready, processes.turn, endpoints.ready_next, endpoints.ready_prev, server, endpoint)

    def _fail(self, message: int) -> None:
        """Take a message out of the queue of an endpoint; its sender is told if it waits, and nobody else."""
        self._dequeue(message)
        if self.messages.wanted[message]:
            self.messages.state[message] = FAILED
        else:
            self._forget_message(message)

    def _let_go(self, message: int) -> None:
        """The sender wants nothing of a message any more. Who works on it is told, by way of its queue."""
        messages, state = self.messages, self.messages.state[message]
        if state == DELIVERED and self.endpoints.alive[messages.endpoint[message]]:
            messages.state[message] = CANCELLED
            messages.wanted[message] = 0
            self._enqueue(message)
        else:
            if state == QUEUED:
                self._dequeue(message)
            self._forget_message(message)

    def _abandon(self, message: int) -> None:
        """The sender ends. What is left of the message, for its server to be told, passes to the sender's creator."""
        processes, messages = self.processes, self.messages
        sender = messages.sender[message]
        if messages.state[message] != CANCELLED:
            self._let_go(message)
        if messages.state[message]:
            creator = processes.creator[sender]
            self._uncharge_message(message)
            self._charge_message(message, creator)
            self._pass_units(sender, 1)

    def _charge_message(self, message: int, process: int) -> None:
        self.messages.sender[message] = process
        self.processes.used[process] += 1
        link(self.processes.sent, self.messages.sent_next, self.messages.sent_prev, process, message)

    def _uncharge_message(self, message: int) -> None:
        process = self.messages.sender[message]
        self.processes.used[process] -= 1
        unlink(self.processes.sent, self.messages.sent_next, self.messages.sent_prev, process, message)

    def _pass_units(self, process: int, units: int) -> None:
        """Give back part of a process's quota to its creator, who takes over what the part was used for."""
        processes = self.processes
        processes.quota[process] -= units
        processes.used[processes.creator[process]] -= units

    def _forget_message(self, message: int) -> None:
        messages = self.messages
        self._uncharge_message(message)
        self._clear_places(message)
        messages.state[message] = 0
        messages.sender[message] = 0
        messages.handler[message] = 0
        messages.endpoint[message] = 0
        messages.slot[message] = 0
        messages.generation[message] = 0
        messages.wanted[message] = 0

    def _clear_places(self, message: int) -> None:
        self._clear(message * PLACES)
        self._clear(message * PLACES + 1)
        self._clear(message * PLACES + 2)
        self._clear(message * PLACES + 3)

    def _clear(self, at: int) -> None:
        self.messages.cap_slot[at] = 0
        self.messages.cap_generation[at] = 0
        self.messages.cap_rights[at] = 0
