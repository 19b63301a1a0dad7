"""A far tree of 5,000 small files, read whole: what being asked for at once brings, and what compounds bring.

As in `trips`, with a delay of 10 ms each way. Ours reads all of it as `grep -r` does. Who takes one file after the
other reads 200 such files: what each takes there is the delay, always the same.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import ninep, trips
from benchmarks.measure import Bench, Case, Measure, Unit
from benchmarks.servers import Server
from benchmarks.trips import AsyncMounts, Doors
from cognu.files.namespace import Namespace
from cognu.shell.ahead import AT_ONCE, ahead

DELAY = 10
FILES, SAMPLE = 5000, 200
SINGLE = "9P2000.L"


async def run(bench: Bench) -> None:
    files, sample = bench.size(FILES, 6), bench.size(SAMPLE, 3)
    bench.note("sample", f"who reads one after the other reads {sample} files, the others {files}")
    with TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        served = directory / "served"
        served.mkdir()
        ninep.fill(served, 1 << 16, 0)
        trips.plant(served / "tree", files)
        trips.plant(served / "few", sample)
        ours, diod, doors = trips.behind(bench, stack, DELAY, directory, served)
        bench.note("trip", f"one byte took {trips.echo_ms(stack, DELAY, directory):.1f} ms")
        async with AsyncMounts(doors, ours) as mounts:
            await bench.measure(_cases(doors, diod, mounts, directory, files, sample))


def _cases(
    doors: Doors, diod: Server | None, mounts: AsyncMounts, directory: Path, files: int, sample: int
) -> list[Case]:
    served = directory / "served"
    whole = partial(trips.session_tree, mounts.session, f"/mnt/host{served}/tree", files)
    single = partial(trips.per_second_of, trips.read_in_turn, mounts.single, sample)
    compounds = partial(trips.per_second_of, trips.read_in_turn, mounts.compounds, sample)
    by_diod = partial(trips.wire_tree, doors.diod, diod.path_aname, sample) if diod else None
    by_sshfs = partial(trips.sshfs_tree, doors.sftp, served, directory / "mounted", sample) if doors.sftp else None
    rows: list[tuple[str, Measure, str, Measure | None, str]] = [
        (f"{AT_ONCE} at once, compounds / {SINGLE}", whole, SINGLE, single, "20"),
        (f"{AT_ONCE} at once, compounds / diod", whole, "diod", by_diod, ""),
        (f"{AT_ONCE} at once, compounds / sshfs", whole, "sshfs", by_sshfs, "5"),
        (f"{AT_ONCE} at once, no compounds / {SINGLE}", partial(_at_once, mounts.single, files), SINGLE, single, ""),
        (f"one after the other, compounds / {SINGLE}", compounds, SINGLE, single, ""),
    ]
    return [Case(name, Unit.PER_SECOND, mine, peer, theirs, runs=1, aim=aim) for name, mine, peer, theirs, aim in rows]


async def _at_once(namespace: Namespace, files: int) -> float:
    """Files per second of the tree, `AT_ONCE` of them under way."""
    began = time.perf_counter()
    async with ahead(range(files), partial(trips.read_one, namespace, "tree")) as done:
        async for _, task in done:
            task.result()
    return files / (time.perf_counter() - began)
