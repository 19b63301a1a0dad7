"""Processes, capabilities and endpoints, and the operations on them.

Every operation takes and gives ints: a result >= 0, or minus a `Code`. It checks first and then commits, so
one that is refused changed nothing; it raises on no ints whatever; and it holds no loop. What would loop is a
step, which returns 1 while there is more to do and 0 when it is done; until then every other operation is
BUSY. After an operation that was not refused `died` and `died_generation` tell which capability it ended, with
`died` 0 for none; a refusal leaves them, and so does what only asks: `check`, `bound`, `next_message`.

Numbers: process 0 is the node itself and never ends; slots and endpoints begin at 1, 0 stands for none in
every link. A table reads 0 where nothing was written.

A slot is free (endpoint 0), live (LIVE among its rights), or a tombstone: no rights, kept for the children
below it. Live capabilities and tombstones are charged to `holder`, and linked in its list. The generation of
a slot goes up when its capability ends, so no handle to it ever matches again.

Quota is in capabilities and messages. What a process uses is one for each slot and each message charged to
it, and for each process it made that process's quota and one. When a process ends, its children, its
tombstones and what others are to be told of its messages pass to its creator together with the units they
take, so the creator, whose account held them already, stays within its own quota.
"""

from __future__ import annotations

from cognu.kernel.lists import link, unlink
from cognu.kernel.queues import Queues
from cognu.kernel.state import ALL_RIGHTS, GRANT, INTERFACES, LIVE, NODE, Code


class Capabilities(Queues):
    """The operations on processes, capabilities and endpoints."""

    # Capabilities

    def check(self, holder: int, slot: int, generation: int, rights: int) -> int:
        """0 if `holder` holds this capability with all of `rights`; else REVOKED, NOT_HOLDER or RIGHTS."""
        slots = self.slots
        if (
            slots.generation[slot] == generation
            and slots.holder[slot] == holder
            and not (rights | LIVE) & ~slots.rights[slot]
        ):
            return 0
        if slots.generation[slot] != generation or not slots.rights[slot] & LIVE:
            return -Code.REVOKED
        return -Code.NOT_HOLDER if slots.holder[slot] != holder else -Code.RIGHTS

    def mint(self, holder: int, slot: int, generation: int, rights: int, badge: int, to: int) -> int:
        """A child of a capability, held by `to`; returns its slot.

        `rights` are some of the parent's; another process than the holder gets it only if the parent has
        GRANT. A badge that is set stays. It is charged to `to`. RIGHTS, BADGE, NO_PROCESS, QUOTA and the
        refusals of `check`.
        """
        slots, processes = self.slots, self.processes
        if self.cursor:
            return -Code.BUSY
        if rights & LIVE or badge < 0:
            return -Code.INVALID
        refused = self.check(holder, slot, generation, rights if to == holder else rights | GRANT)
        if refused:
            return refused
        if slots.badge[slot] != 0 and slots.badge[slot] != badge:
            return -Code.BADGE
        if not processes.alive[to]:
            return -Code.NO_PROCESS
        if processes.used[to] >= processes.quota[to]:
            return -Code.QUOTA
        self.died = 0
        return self._new_slot(to, slots.endpoint[slot], rights, badge, slot)

    def move(self, holder: int, slot: int, generation: int, to: int) -> int:
        """Hand a capability itself to another process, which needs GRANT; returns its new generation.

        The old handle dies. QUOTA, NO_PROCESS and the refusals of `check`.
        """
        slots, processes = self.slots, self.processes
        if self.cursor:
            return -Code.BUSY
        refused = self.check(holder, slot, generation, 0 if to == holder else GRANT)
        if refused:
            return refused
        if not processes.alive[to]:
            return -Code.NO_PROCESS
        if to != holder and processes.used[to] >= processes.quota[to]:
            return -Code.QUOTA
        self._announce(slot)
        self._uncharge(slot)
        self._charge(slot, to)
        return slots.generation[slot]

    def delete(self, holder: int, slot: int, generation: int) -> int:
        """Give up a capability. Its children live on below a tombstone; the last of an endpoint ends the
        endpoint.

        Returns 1 if `reap_step` has work.
        """
        if self.cursor:
            return -Code.BUSY
        refused = self.check(holder, slot, generation, 0)
        if refused:
            return refused
        if self.slots.first[slot]:
            self._bury(slot)
            return 0
        self._drop(slot)
        return 1 if self.cursor else 0

    def reap_step(self) -> int:
        """Free one tombstone that lost its last child."""
        if self.cut:
            return -Code.BUSY
        self.died = 0
        if self.cursor:
            self._drop(self.cursor)
        return 1 if self.cursor else 0

    def revoke_step(self, holder: int, slot: int, generation: int) -> int:
        """Towards ending every descendant of a capability: go down one level, or end one leaf and go up."""
        if self.cursor and (self.cut != slot or self.cut_root):
            return -Code.BUSY
        refused = self.check(holder, slot, generation, 0)
        if refused:
            return refused
        return self._cut_step(slot, 0)

    # Endpoints

    def create_endpoint(self, server: int) -> int:
        """A new endpoint; the server gets `endpoints.root`, a capability with all rights. NO_PROCESS, QUOTA."""
        processes, endpoints = self.processes, self.endpoints
        if self.cursor:
            return -Code.BUSY
        if not processes.alive[server]:
            return -Code.NO_PROCESS
        if processes.used[server] >= processes.quota[server]:
            return -Code.QUOTA
        self.died = 0
        self.last_endpoint += 1
        endpoint = self.last_endpoint
        endpoints.alive[endpoint] = 1
        endpoints.server[endpoint] = server
        link(processes.served, endpoints.next, endpoints.prev, server, endpoint)
        endpoints.root[endpoint] = self._new_slot(server, endpoint, ALL_RIGHTS, 0, 0)
        return endpoint

    def end_endpoint_step(self, endpoint: int) -> int:
        """Towards ending every capability to an endpoint and, with the last one, the endpoint; what is in its
        queue fails. NO_ENDPOINT.
        """
        if not self.endpoints.alive[endpoint]:
            return -Code.NO_ENDPOINT
        root = self.endpoints.root[endpoint]
        if self.cursor and (self.cut != root or not self.cut_root):
            return -Code.BUSY
        return self._cut_step(root, 1)

    # Processes

    def create_process(self, creator: int, quota: int) -> int:
        """A new process that may use `quota` capabilities, out of the creator's. NO_PROCESS, INVALID, QUOTA."""
        processes = self.processes
        if self.cursor:
            return -Code.BUSY
        if quota < 0:
            return -Code.INVALID
        if not processes.alive[creator]:
            return -Code.NO_PROCESS
        if processes.used[creator] + quota + 1 > processes.quota[creator]:
            return -Code.QUOTA
        self.died = 0
        self.last_process += 1
        process = self.last_process
        processes.alive[process] = 1
        processes.quota[process] = quota
        processes.used[creator] += quota + 1
        processes.creator[process] = creator
        link(processes.first, processes.next, processes.prev, creator, process)
        return process

    def end_process_step(self, process: int) -> int:
        """Towards ending a process: its endpoints and messages end, its children and the tombstones of what it
        held pass to its creator, its quota returns. NO_PROCESS, INVALID for the node itself.
        """
        slots, processes = self.slots, self.processes
        if process == NODE:
            return -Code.INVALID
        if not processes.alive[process]:
            return -Code.NO_PROCESS
        endpoint = processes.served[process]
        ours = endpoint and self.cut_root and self.cut == self.endpoints.root[endpoint]
        if self.cut and not ours:
            return -Code.BUSY
        self.died = 0
        if self.cursor and not self.cut:
            self._drop(self.cursor)
        elif endpoint:
            self._cut_step(self.endpoints.root[endpoint], 1)
        elif processes.sent[process]:
            # Before the capabilities that they live by.
            self._abandon(processes.sent[process])
        elif processes.held[process]:
            slot = processes.held[process]
            if not slots.first[slot]:
                self._drop(slot)
            else:
                if slots.rights[slot]:
                    self._bury(slot)
                self._uncharge(slot)
                self._charge(slot, processes.creator[process])
                self._pass_units(process, 1)
        elif processes.first[process]:
            self._adopt(processes.first[process])
        else:
            self._forget(process)
            return 0
        return 1

    # Commits: everything below changes state that was checked above.

    def _new_slot(self, holder: int, endpoint: int, rights: int, badge: int, parent: int) -> int:
        slots = self.slots
        slot = self.free
        if slot:
            self.free = slots.next[slot]
        else:
            self.last_slot += 1
            slot = self.last_slot
            slots.generation[slot] = 1
        slots.endpoint[slot] = endpoint
        slots.rights[slot] = rights | LIVE
        slots.badge[slot] = badge
        slots.parent[slot] = parent
        # Only a leaf is ever freed, so a free slot has no children; its `next` was the free list's.
        slots.next[slot] = 0
        if parent:
            link(slots.first, slots.next, slots.prev, parent, slot)
        self._charge(slot, holder)
        return slot

    def _charge(self, slot: int, process: int) -> None:
        self.slots.holder[slot] = process
        self.processes.used[process] += 1
        link(self.processes.held, self.slots.held_next, self.slots.held_prev, process, slot)

    def _uncharge(self, slot: int) -> None:
        process = self.slots.holder[slot]
        self.processes.used[process] -= 1
        unlink(self.processes.held, self.slots.held_next, self.slots.held_prev, process, slot)

    def _announce(self, slot: int) -> None:
        self.died = slot
        self.died_generation = self.slots.generation[slot]
        self.slots.generation[slot] += 1
        if self.slots.interface[slot]:
            self._unbind(slot)

    def _unbind(self, slot: int) -> None:
        slots = self.slots
        self.processes.bound[slots.holder[slot] * INTERFACES + slots.interface[slot]] = 0
        slots.interface[slot] = 0

    def _bury(self, slot: int) -> None:
        self._announce(slot)
        self.slots.rights[slot] = 0

    def _drop(self, slot: int) -> None:
        """Free a leaf, outside of any cut, and turn to its parent if that is now a tombstone for nobody.

        The last capability of an endpoint waits until the queue is empty.
        """
        slots, parent = self.slots, self.slots.parent[slot]
        message = self.endpoints.oldest[slots.endpoint[slot]]
        if message and not parent:
            if slots.rights[slot]:
                self._bury(slot)
            self._fail(message)
            self.cursor = slot
            return
        self._free(slot)
        self.cursor = parent if not slots.rights[parent] and not slots.first[parent] else 0

    def _cut_step(self, top: int, top_too: int) -> int:
        slots = self.slots
        self.died = 0
        at = self.cursor if self.cursor else top
        if slots.first[at]:
            self.cut, self.cut_root, self.cursor = top, top_too, slots.first[at]
            return 1
        if at != top:
            self.cursor = slots.parent[at]
            self._free(at)
            if slots.first[top] or top_too:
                return 1
        elif top_too:
            message = self.endpoints.oldest[slots.endpoint[top]]
            if message:
                self._fail(message)
                self.cut, self.cut_root, self.cursor = top, top_too, top
                return 1
            self._free(top)
        self.cut, self.cut_root, self.cursor = 0, 0, 0
        return 0

    def _free(self, slot: int) -> None:
        slots, endpoints = self.slots, self.endpoints
        if slots.rights[slot]:
            self._bury(slot)
        parent, endpoint = slots.parent[slot], slots.endpoint[slot]
        if parent:
            unlink(slots.first, slots.next, slots.prev, parent, slot)
        else:
            unlink(self.processes.served, endpoints.next, endpoints.prev, endpoints.server[endpoint], endpoint)
            endpoints.alive[endpoint] = 0
            endpoints.server[endpoint] = 0
            endpoints.root[endpoint] = 0
        self._uncharge(slot)
        slots.endpoint[slot] = 0
        slots.next[slot] = self.free
        self.free = slot

    def _adopt(self, child: int) -> None:
        """A process passes to its creator's creator, with the units that it takes."""
        processes = self.processes
        creator = processes.creator[child]
        above, units = processes.creator[creator], processes.quota[child] + 1
        unlink(processes.first, processes.next, processes.prev, creator, child)
        link(processes.first, processes.next, processes.prev, above, child)
        processes.creator[child] = above
        processes.used[creator] -= units
        processes.used[above] += units
        self._pass_units(creator, units)

    def _forget(self, process: int) -> None:
        """End a process that uses nothing any more."""
        processes = self.processes
        creator = processes.creator[process]
        unlink(processes.first, processes.next, processes.prev, creator, process)
        processes.used[creator] -= processes.quota[process] + 1
        processes.alive[process] = 0
        processes.quota[process] = 0
        processes.creator[process] = 0
