"""What is put into the store counts with whoever put it, from the first byte; what is given up on is given back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cognu.errors import E, FileError
from cognu.files.limits import Quota, Resource
from cognu.ninep.types import ORDWR
from cognu.store.objects import Store
from cognu.store.server import store_server
from cognu.world.real import RealThreads, real_world
from serving import Client, Somebody


async def test_puts_are_charged_and_those_given_up_on_are_not(tmp_path: Path) -> None:
    threads = RealThreads()
    store = Store(replace(real_world(), threads=threads), str(tmp_path))
    quota = Quota(None, "process 7", {Resource.DISK: 100})
    server = store_server(store, lambda caller: quota if caller.pid == 7 else None)
    limited, free = Client(server, Somebody(7)), Client(server, Somebody(8))
    fid = await limited.open("put", ORDWR)
    await limited.write_fid(fid, b"x" * 60)
    assert quota.used(Resource.DISK) == 60
    with pytest.raises(FileError) as caught:
        await limited.write_fid(fid, b"x" * 41, offset=60)
    assert (caught.value.error, caught.value.subject) == (E.DQUOT, "disk")
    server.clunk(fid)
    assert quota.used(Resource.DISK) == 0
    fid = await limited.open("put", ORDWR)
    await limited.write_fid(fid, b"x" * 60)
    assert len(await limited.read_fid(fid)) > 32
    server.clunk(fid)
    assert quota.used(Resource.DISK) == 60  # it is there, and stays
    fid = await free.open("put", ORDWR)
    await free.write_fid(fid, b"y" * 1000)
    server.clunk(fid)
    assert quota.used(Resource.DISK) == 60
    await store.close()
    threads.close()
