"""A kernel with a server on the node and two processes, and loops of steps run to their end."""

from __future__ import annotations

from collections.abc import Callable

from proofs.small import image, sound

from cognu.kernel import NODE, Cap, Code, Kernel


def run(kernel: Kernel, step: Callable[[], int]) -> int:
    """A loop of steps to its end; every state on the way is sound and refuses all else. Returns what failed, or 0."""
    allowed = 2 * (kernel.last_slot + len(kernel.processes.alive) + len(kernel.messages.state)) + 2
    told = {(kernel.died, kernel.died_generation)}
    result = 1
    while result > 0:
        result = step()
        if result < 0:
            break
        death = (kernel.died, kernel.died_generation)
        if kernel.died:
            assert death not in told, "a death is told twice"
            assert kernel.check(0, *death, 0) == -Code.REVOKED
            told.add(death)
        sound(kernel)
        allowed -= 1
        assert allowed >= 0, "more steps than there is to do"
        if kernel.cursor:
            before = image(kernel)
            assert kernel.create_process(NODE, 0) == kernel.create_endpoint(NODE) == -Code.BUSY
            assert kernel.mint(0, 1, 1, 0, 0, 0) == kernel.move(0, 1, 1, 0) == -Code.BUSY
            assert kernel.delete(0, 1, 1) == -Code.BUSY
            assert image(kernel) == before
    return result


class World:
    """A server on the node, and two processes, as most tests want them."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.endpoint = self.kernel.create_endpoint(NODE)
        self.root = self.handle(self.kernel.endpoints.root[self.endpoint])
        self.a = self.kernel.create_process(NODE, 100)
        self.b = self.kernel.create_process(NODE, 100)

    def handle(self, slot: int) -> Cap:
        assert slot > 0, Code(-slot)
        return Cap(slot, self.kernel.slots.generation[slot])

    def mint(self, holder: int, cap: Cap, rights: int, to: int, badge: int = 0) -> Cap:
        return self.handle(self.kernel.mint(holder, *cap, rights, badge, to))

    def holds(self, process: int, cap: Cap, rights: int = 0) -> bool:
        return self.kernel.check(process, *cap, rights) == 0

    def delete(self, holder: int, cap: Cap) -> None:
        assert self.kernel.delete(holder, *cap) in (0, 1)
        run(self.kernel, self.kernel.reap_step)

    def revoke(self, holder: int, cap: Cap) -> None:
        assert run(self.kernel, lambda: self.kernel.revoke_step(holder, *cap)) == 0

    def end_process(self, process: int) -> None:
        assert run(self.kernel, lambda: self.kernel.end_process_step(process)) == 0
