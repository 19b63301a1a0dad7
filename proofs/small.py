"""The kernel beside its specification, on states small enough to have them all, or along any history.

`view` is what a kernel's tables stand for; `sound` says what the tables must be like for that. `Pair` makes the
same calls on a kernel and on a specified state and sees that they agree in result and in state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from cognu.kernel import ALL_RIGHTS, GRANT, NODE, SEND, Code, Kernel
from cognu.kernel.state import ANSWERED, CANCELLED, DELIVERED, INTERFACES, LIVE, PLACES, QUEUED, Table
from proofs import spec
from proofs.spec import Capability, Id, Message, Process, Promise, State

Operation = tuple[str, tuple[int, ...]]
Image = tuple[object, ...]
HANDLED = (DELIVERED, ANSWERED, CANCELLED)


class Unsound(AssertionError):
    """A kernel's tables are not as they must be, or it does not do what is specified."""


def require(holds: bool, *what: object) -> None:
    if not holds:
        raise Unsound(*what)


# A kernel's tables


def image(kernel: Kernel) -> Image:
    """All of the state, to compare."""
    parts: list[object] = []
    for part in vars(kernel).values():
        if isinstance(part, int):
            parts.append(part)
        else:
            parts += [frozenset(table.items()) for table in vars(part).values()]
    return tuple(parts)


def clone(kernel: Kernel) -> Kernel:
    other = Kernel()
    for name, part in vars(kernel).items():
        if isinstance(part, int):
            setattr(other, name, part)
            continue
        for table_name, table in vars(part).items():
            dict.clear(table_copy := getattr(getattr(other, name), table_name))
            dict.update(table_copy, table)
    return other


def chain(heads: Table, after: Table, before: Table | None, owner: int) -> list[int]:
    """A list of the tables, newest first, checked both ways."""
    found: list[int] = []
    at, last = heads[owner], 0
    while at:
        require(at not in found, "a list runs in a circle")
        require(before is None or before[at] == last, "a list differs from its way back")
        found.append(at)
        last, at = at, after[at]
    return found


def queue(heads: Table, tails: Table, after: Table, before: Table, owner: int) -> tuple[int, ...]:
    """A list whose oldest item is known, oldest first."""
    found = tuple(reversed(chain(heads, after, before, owner)))
    require(tails[owner] == (found[0] if found else 0), "a queue's oldest is another")
    return found


def view(kernel: Kernel) -> State:
    """What the tables stand for."""
    slots, processes, endpoints, messages = kernel.slots, kernel.processes, kernel.endpoints, kernel.messages

    def name(slot: int) -> Id:
        """A dead one's generation went up when it died."""
        return slot, slots.generation[slot] - (0 if slots.rights[slot] else 1)

    def promise(at: int) -> Promise | None:
        of, rights = (messages.cap_slot[at], messages.cap_generation[at]), messages.cap_rights[at]
        return Promise(of, rights & ~LIVE if rights else None) if of[0] else None

    state = State()
    for process in processes.alive:
        state.processes[process] = Process(processes.creator[process], processes.quota[process])
        ready = (processes.ready, processes.turn, endpoints.ready_next, endpoints.ready_prev)
        if turns := queue(*ready, process):
            state.turns[process] = turns
    for endpoint in endpoints.alive:
        state.endpoints[endpoint] = endpoints.server[endpoint]
        if queued := queue(endpoints.newest, endpoints.oldest, messages.next, messages.prev, endpoint):
            state.queues[endpoint] = queued
    for slot in range(1, kernel.last_slot + 1):
        if slots.endpoint[slot]:
            parent, rights = slots.parent[slot], slots.rights[slot]
            state.capabilities[name(slot)] = Capability(
                slots.holder[slot], slots.endpoint[slot], rights & ~LIVE, slots.badge[slot],
                name(parent) if parent else None, bool(rights),
            )  # fmt: skip
    for message, status in messages.state.items():
        state.messages[message] = Message(
            messages.sender[message], messages.endpoint[message],
            (messages.slot[message], messages.generation[message]), bool(messages.wanted[message]), status,
            messages.handler[message] if status in HANDLED else None,
            tuple(promise(message * PLACES + place) for place in range(PLACES)),
        )  # fmt: skip
    for key, slot in processes.bound.items():
        state.bound[divmod(key, INTERFACES)] = name(slot)
    return state


def sound(kernel: Kernel) -> None:
    """Raises `Unsound` unless every table is as it must be; in the midst of steps too."""
    _sound_slots(kernel)
    _sound_processes(kernel)
    _sound_messages(kernel)


def _sound_slots(kernel: Kernel) -> None:
    slots, processes, endpoints = kernel.slots, kernel.processes, kernel.endpoints
    everything = range(1, kernel.last_slot + 1)
    free = chain(Table({0: kernel.free}), slots.next, None, 0)
    taken = [slot for slot in everything if slots.endpoint[slot]]
    require(sorted(free + taken) == list(everything), "the free list is not what is free")
    for slot in free:
        left = slots.rights[slot] or slots.first[slot] or slots.prev[slot] or slots.interface[slot]
        require(not left, "a free slot has something left", slot)
    for slot in taken:
        parent, endpoint = slots.parent[slot], slots.endpoint[slot]
        require(bool(processes.alive[slots.holder[slot]] and endpoints.alive[endpoint]), "held by or naming none", slot)
        kids = chain(slots.first, slots.next, slots.prev, slot)
        require(all(slots.parent[kid] == slot for kid in kids), "a child of another in the list", slot)
        require(bool(slots.rights[slot] or kids or kernel.cursor), "a tombstone for nobody", slot)
        if parent:
            require(slot in chain(slots.first, slots.next, slots.prev, parent), "not among its parent's", slot)
            require(slots.endpoint[parent] == endpoint, "another endpoint than its parent's", slot)
            if slots.rights[slot] and slots.rights[parent]:
                require(not slots.rights[slot] & ~slots.rights[parent], "more rights than its parent", slot)
                require(slots.badge[parent] in (0, slots.badge[slot]), "another badge than its parent's", slot)
        else:
            require(endpoints.root[endpoint] == slot, "a second root", slot)
            require(slots.next[slot] == slots.prev[slot] == 0, "a root among children", slot)
        seen = set()
        while slot:
            require(slot not in seen, "a capability descends from itself", slot)
            seen.add(slot)
            slot = slots.parent[slot]
    for key, slot in processes.bound.items():
        process, interface = divmod(key, INTERFACES)
        require(slots.rights[slot] & (LIVE | SEND) == LIVE | SEND, "bound to what may not be sent by", slot)
        require((slots.holder[slot], slots.interface[slot]) == (process, interface), "bound for another", slot)
    require(len(slots.interface) == len(processes.bound), "a capability bound that is not found")


def _sound_processes(kernel: Kernel) -> None:
    slots, processes, endpoints, messages = kernel.slots, kernel.processes, kernel.endpoints, kernel.messages
    held_by_all: list[int] = []
    sent_by_all: list[int] = []
    served_by_all: list[int] = []
    for process in processes.alive:
        held = chain(processes.held, slots.held_next, slots.held_prev, process)
        sent = chain(processes.sent, messages.sent_next, messages.sent_prev, process)
        made = chain(processes.first, processes.next, processes.prev, process)
        served = chain(processes.served, endpoints.next, endpoints.prev, process)
        held_by_all += held
        sent_by_all += sent
        served_by_all += served
        require(all(slots.holder[slot] == process for slot in held), "held by another", process)
        require(all(messages.sender[message] == process for message in sent), "sent by another", process)
        require(all(processes.creator[child] == process for child in made), "made by another", process)
        require(all(endpoints.server[endpoint] == process for endpoint in served), "served by another", process)
        units = len(held) + len(sent) + sum(processes.quota[child] + 1 for child in made)
        require(processes.used[process] == units <= processes.quota[process], "a wrong account", process)
        mine = process == NODE or process in chain(
            processes.first, processes.next, processes.prev, processes.creator[process]
        )
        require(mine, "not among its creator's", process)
    require(sorted(held_by_all) == [slot for slot in range(1, kernel.last_slot + 1) if slots.endpoint[slot]], "unheld")
    require(sorted(sent_by_all) == sorted(messages.state), "a message of nobody")
    require(sorted(served_by_all) == sorted(endpoints.alive), "an endpoint of nobody")
    require(set(endpoints.root) == set(endpoints.alive) >= set(endpoints.server), "an endpoint's remains")
    flags = {*processes.alive.values(), *endpoints.alive.values()}
    require(flags <= {1}, "alive more than once")
    for name, table in vars(processes).items():
        owners = {key // INTERFACES for key in table} if name == "bound" else set(table)
        require(owners <= set(processes.alive), "an ended process is remembered", name)


def _sound_messages(kernel: Kernel) -> None:
    processes, endpoints, messages = kernel.processes, kernel.endpoints, kernel.messages
    queued: list[int] = []
    for endpoint in endpoints.alive:
        mine = queue(endpoints.newest, endpoints.oldest, messages.next, messages.prev, endpoint)
        queued += mine
        require(all(messages.endpoint[message] == endpoint for message in mine), "in another's queue", endpoint)
        ready = queue(
            processes.ready, processes.turn, endpoints.ready_next, endpoints.ready_prev, endpoints.server[endpoint]
        )
        require((endpoint in ready) == bool(mine), "ready without a message, or not with one", endpoint)
    waiting = [message for message, state in messages.state.items() if state in (QUEUED, CANCELLED)]
    require(sorted(queued) == sorted(waiting), "not queued, or twice, or for no reason")
    for message, state in messages.state.items():
        require(0 < message <= kernel.last_message, "a message of the future", message)
        require(state == QUEUED or messages.wanted[message] == (state != CANCELLED), "waits in vain", message)
        require(messages.wanted[message] in (0, 1), "waits how often", message)
    require(all(rights & LIVE for rights in messages.cap_rights.values()), "promised without LIVE")
    require(set(endpoints.newest) == set(endpoints.oldest) <= set(endpoints.alive), "a queue's remains")
    for name, table in vars(messages).items():
        owners = {key // PLACES for key in table} if name.startswith("cap_") else set(table)
        require(owners <= set(messages.state), "a message that is over is remembered", name)


# Both


class Pair:
    """A kernel and what is specified of it; `run` makes one call on both, loops to their end."""

    def __init__(self, kernel: Kernel, careful: bool = True) -> None:
        """`careful`: every state between two steps must be sound, and refuse all else."""
        self.kernel = kernel
        self.state = view(kernel)
        self.careful = careful
        self.names: set[tuple[object, ...]] = set()

    def copy(self) -> Pair:
        other = Pair.__new__(Pair)
        other.kernel, other.state, other.careful = clone(self.kernel), self.state.copy(), self.careful
        other.names = set(self.names)
        return other

    def run(self, operation: Operation) -> int:
        """The kernel's result. Raises `Unsound` if the specification has another."""
        name, arguments = operation
        processes, messages = self.kernel.processes, self.kernel.messages
        order = chain(processes.sent, messages.sent_next, messages.sent_prev, arguments[0]) if name == ENDS else ()
        lived = self._living()
        result, told = self._call(name, arguments)
        specified = self._specified(name, arguments, result, order)
        require(result == specified, operation, "gave", result, "but specified is", specified)
        if result >= 0 and name not in READS:
            died = lived - self._living()
            require(len(told) == len(died) and set(told) == died, operation, "told of", told, "but what died is", died)
        return result

    def _living(self) -> set[Id]:
        return {cap for cap, c in self.state.capabilities.items() if c.alive}

    def agree(self) -> None:
        """The kernel is sound, between loops, and what its tables stand for is what is specified."""
        kernel = self.kernel
        require(kernel.cursor == kernel.cut == kernel.cut_root == 0, "steps are left")
        sound(kernel)
        found = view(kernel)
        for part, specified in vars(self.state).items():
            require(getattr(found, part) == specified, part, getattr(found, part), "but specified", specified)
        for process in self.state.processes:
            require(kernel.next_message(process) == spec.next_message(self.state, process), "another turn", process)

    def _call(self, name: str, arguments: tuple[int, ...]) -> tuple[int, list[Id]]:
        """The result, and the deaths that were told of on the way."""
        kernel = self.kernel
        method: Callable[..., int] = getattr(kernel, STEPS.get(name, name))
        step, again = (kernel.reap_step, ()) if name == "delete" else (method, arguments)
        allowed = 2 * (kernel.last_slot + kernel.last_process + len(kernel.messages.state)) + 3
        told: list[Id] = []
        result = method(*arguments)
        while True:
            if result >= 0 and kernel.died:
                told.append((kernel.died, kernel.died_generation))
            if result <= 0 or not (name in STEPS or name == "delete"):
                return result, told
            require(bool(kernel.cursor) or name == ENDS, "other calls may come between two steps of", name)
            self._between()
            result = step(*again)
            allowed -= 1
            require(allowed >= 0, "more steps than there is to do")

    def _between(self) -> None:
        kernel = self.kernel
        if self.careful:
            sound(kernel)
            if kernel.died:
                require(kernel.check(0, kernel.died, kernel.died_generation, 0) == -Code.REVOKED, "dead, and lives")
            if kernel.cursor:
                before = image(kernel)
                for name, arguments in BUSY:
                    require(getattr(kernel, name)(*arguments) == -Code.BUSY, name, "between two steps")
                require(image(kernel) == before, "a refused call between two steps changed something")

    def _specified(self, name: str, arguments: tuple[int, ...], result: int, order: Sequence[int]) -> int:
        """The same on the specified state, with the names that the kernel chose; a result in the kernel's form."""
        new = self._new(name, arguments, result)
        given = (*self._ids(name, arguments), *new, *((order,) if name == ENDS else ()))
        found = getattr(spec, name)(self.state, *given)
        if isinstance(found, Code):
            return -found
        for number in new:
            unique = (name, number) if isinstance(number, int) else number
            require(unique not in self.names, "a name is used again", unique)
            self.names.add(unique)
        if name == "bound":
            return int(found[0])
        return result if new else found or 0

    def _new(self, name: str, arguments: tuple[int, ...], result: int) -> tuple[Id | int, ...]:
        """Names for what an operation made, and if it was refused, any."""
        generation, root = self.kernel.slots.generation, self.kernel.endpoints.root[result]
        if name in ("mint", "accept", "inherit"):
            return ((result, generation[result]),)
        if name == "move":
            return ((arguments[1], result),)
        if name == "create_endpoint":
            return result, (root, generation[root])
        return (result,) if name in ("create_process", "emit_message") else ()

    def _ids(self, name: str, arguments: tuple[int, ...]) -> tuple[Id | int, ...]:
        """Slot and generation are one thing to the specification."""
        at = {"enclose": 3}.get(name, 1 if name in NAMING else None)
        if at is None:
            return arguments
        return (*arguments[:at], (arguments[at], arguments[at + 1]), *arguments[at + 2 :])


ENDS = "end_process"
STEPS = {"revoke": "revoke_step", "end_endpoint": "end_endpoint_step", ENDS: "end_process_step"}
"""What the specification has as one, by the step that is called until it has no more to do."""
READS = ("check", "bound")
NAMING = ("check", "mint", "move", "delete", "revoke", "emit_message", "bind")
"""Whose second and third arguments name a capability."""
BUSY: list[Operation] = [
    ("create_process", (NODE, 0)), ("create_endpoint", (NODE,)), ("mint", (0, 1, 1, 0, 0, 0)),
    ("move", (0, 1, 1, 0)), ("delete", (0, 1, 1)), ("emit_message", (0, 1, 1, 0)), ("receive", (0, 1)),
    ("emit_answer", (0, 1)), ("take", (0, 1)), ("cancel", (0, 1)), ("enclose", (0, 1, 0, 1, 1, 0, 0)),
    ("accept", (0, 1, 0)), ("bind", (0, 1, 1, 1)), ("inherit", (1, 2, 1)),
]  # fmt: skip


# All small states


class Small(NamedTuple):
    """Where to begin, and every call to make in every state."""

    begin: Pair
    operations: list[Operation]


def small_capabilities() -> Small:
    """Two processes, three slots and their first two generations."""
    kernel = Kernel(7)
    require((kernel.create_endpoint(NODE), kernel.create_process(NODE, 2)) == (1, 1), "another beginning")
    operations: list[Operation] = [("create_process", (0, 1)), ("create_endpoint", (1,)), ("end_process", (1,))]
    operations += [("end_endpoint", (1,)), ("end_endpoint", (2,))]
    for handle in [(holder, slot, generation) for holder in (0, 1) for slot in (1, 2, 3) for generation in (1, 2)]:
        operations += [("mint", (*handle, rights, 0, to)) for rights in (0, GRANT) for to in (0, 1)]
        operations += [("move", (*handle, to)) for to in (0, 1)]
        operations += [("delete", handle), ("revoke", handle)]
    return Small(Pair(kernel), operations)


def small_messages() -> Small:
    """A server, a client of it, and the node that made both; two messages with a capability each."""
    kernel = Kernel(40)
    require((kernel.create_process(NODE, 3), kernel.create_process(NODE, 3)) == (1, 2), "another beginning")
    require((kernel.create_endpoint(1), kernel.mint(1, 1, 1, SEND | GRANT, 5, 2)) == (1, 2), "another beginning")
    operations: list[Operation] = [("emit_message", (2, 2, 1, 0)), ("emit_message", (2, 2, 1, 1))]
    operations += [("emit_message", (1, 1, 1, 1))]
    operations += [(ENDS, (1,)), (ENDS, (2,)), ("end_endpoint", (1,)), ("revoke", (1, 1, 1))]
    operations += [("delete", (1, 1, 1)), ("delete", (2, 2, 1)), ("move", (2, 2, 1, 1)), ("create_endpoint", (2,))]
    for message in (1, 2):
        operations += [("receive", (1, message)), ("emit_answer", (1, message)), ("emit_answer", (2, message))]
        operations += [("take", (2, message)), ("cancel", (2, message)), ("take", (0, message))]
        operations += [("accept", (process, message, 0)) for process in (1, 2)]
        operations += [("enclose", (2, message, 0, 2, 1, SEND, moved)) for moved in (0, 1)]
        operations += [("enclose", (1, message, 0, 1, 1, SEND, 0))]
    return Small(Pair(kernel), operations)


def small_interfaces() -> Small:
    """A handler on the node bound for a process, and that for its child."""
    kernel = Kernel(40)
    require((kernel.create_process(NODE, 9), kernel.create_process(1, 4)) == (1, 2), "another beginning")
    require((kernel.create_endpoint(NODE), kernel.mint(NODE, 1, 1, ALL_RIGHTS, 0, 1)) == (1, 2), "another beginning")
    operations: list[Operation] = [("inherit", (giver, to, 1)) for giver in (0, 1, 2) for to in (0, 1, 2)]
    operations += [("inherit", (1, 2, 2))]
    operations += [("bind", (0, 1, 1, 1)), ("bind", (1, 2, 1, 1)), ("bind", (1, 2, 1, 2)), ("bind", (1, 3, 1, 1))]
    operations += [("bind", (2, 3, 1, 1)), ("bound", (1, 1)), ("bound", (2, 1)), ("mint", (1, 2, 1, SEND, 0, 1))]
    operations += [("move", (1, 2, 1, 2)), ("move", (1, 2, 1, 1)), ("delete", (1, 2, 1)), ("revoke", (0, 1, 1))]
    operations += [("emit_message", (1, 2, 1, 1)), (ENDS, (1,)), (ENDS, (2,)), ("end_endpoint", (1,))]
    return Small(Pair(kernel), operations)


def explore(small: Small, depth: int) -> int:
    """Every history of up to `depth` calls; how many states there are. Raises `Unsound` at the first that is not."""
    reached = {image(small.begin.kernel)}
    frontier = [small.begin]
    for _ in range(depth):
        fresh: list[Pair] = []
        for pair in frontier:
            refused = []
            other = pair.copy()
            for operation in small.operations:
                if other.run(operation) < 0:
                    refused.append(operation)
                    continue
                after = image(other.kernel)
                if after not in reached:
                    other.agree()
                    reached.add(after)
                    fresh.append(other)
                other = pair.copy()
            other = pair.copy()
            for operation in refused:
                other.run(operation)
            require(image(other.kernel) == image(pair.kernel), "a refused call changed something", refused)
        frontier = fresh
    return len(reached)


# Long histories

CALLS = {
    "mint": 22, "move": 4, "delete": 14, "revoke": 1, "check": 4, "create_endpoint": 3, "end_endpoint": 0.3,
    "create_process": 1.5, ENDS: 0.6, "emit_message": 20, "receive": 20, "emit_answer": 20, "take": 16,
    "cancel": 2, "enclose": 12, "accept": 20, "bind": 6, "bound": 2, "inherit": 6,
}  # fmt: skip
"""How often each, in random histories."""
TRANSFERS = (SEND | GRANT, SEND | GRANT, ALL_RIGHTS, SEND, GRANT, 0)
CAREFUL = 20
"""Calls of a random history between two looks at all of the state; results are compared at each."""


class History:
    """Random calls, mostly such as make sense in the state they find."""

    def __init__(self, seed: int, quota: int = 120) -> None:
        self.random = Random(seed)
        self.pair = Pair(Kernel(quota), careful=False)
        self.done = dict.fromkeys(CALLS, 0)
        """How many of each were not refused."""

    def run(self, calls: int) -> None:
        """So many more. Raises `Unsound` unless kernel and specification agree."""
        for number, name in enumerate(self.random.choices(tuple(CALLS), tuple(CALLS.values()), k=calls)):
            result = self.pair.run((name, self._arguments(name)))
            self.done[name] += result >= 0
            if number % CAREFUL == 0:
                self.pair.agree()
        self.pair.agree()

    def _arguments(self, name: str) -> tuple[int, ...]:
        r, state = self.random, self.pair.state
        process = r.choice([*state.processes, 0, 99])
        if name in ("mint", "move", "delete", "revoke", "check", "emit_message", "bind"):
            cap = self._cap(None)
            holder = state.capabilities[cap].holder if cap in state.capabilities and r.random() < 0.9 else process
            rights = r.choice(TRANSFERS)
            if cap in state.capabilities and r.random() < 0.8:
                rights &= state.capabilities[cap].rights
            badge = state.capabilities[cap].badge or r.randrange(2) if cap in state.capabilities else 0
            more = {"mint": (rights, badge, process), "move": (process,), "check": (rights,)}
            more |= {"emit_message": (r.randrange(4),), "bind": (r.randrange(4),)}
            return (holder, *cap, *more.get(name, ()))
        if name in ("receive", "emit_answer", "take", "cancel", "enclose", "accept"):
            return self._about_message(name, process)
        if name == "end_endpoint":
            return (r.choice([*state.endpoints, 0]),)
        if name == "create_process":
            return process, r.randrange(60)
        owner, interface = r.choice([*state.bound, (process, r.randrange(4))])
        more = {"bound": (owner, interface), "inherit": (owner, process, interface)}
        return more.get(name, (process,))

    def _about_message(self, name: str, anybody: int) -> tuple[int, ...]:
        r, state = self.random, self.pair.state
        message = r.choice([*state.messages, 0])
        who = anybody
        if message and r.random() < 0.9:
            m = state.messages[message]
            theirs = {"receive": True, "emit_answer": True, "accept": m.state == QUEUED}
            theirs["enclose"] = m.state == DELIVERED
            who = state.endpoints.get(m.endpoint, anybody) if theirs.get(name) else m.sender
        if name == "enclose":
            return who, message, r.randrange(3), *self._cap(who), r.choice(TRANSFERS), r.randrange(2)
        return who, message, *((r.randrange(3),) if name == "accept" else ())

    def _cap(self, holder: int | None) -> Id:
        """One that lives, mostly, and of `holder` if that is not None."""
        held = [cap for cap, c in self.pair.state.capabilities.items() if holder in (None, c.holder)]
        if held and self.random.random() < 0.95:
            return self.random.choice(held)
        return self.random.randrange(20), self.random.randrange(9)
