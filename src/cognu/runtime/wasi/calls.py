"""The table of all functions, and the way into each: errors become numbers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import iscoroutine
from types import GeneratorType
from typing import Any, Final

from cognu.errors import CognuError
from cognu.files.steps import Steps, start
from cognu.runtime.guest import HostFunction
from cognu.runtime.wasi import descriptors as d
from cognu.runtime.wasi import files as f
from cognu.runtime.wasi import poll, sockets, system
from cognu.runtime.wasi.abi import MODULE, Errno, WasiError, errno_of
from cognu.runtime.wasi.memory import Guest

Body = Callable[..., Steps[None] | None]
"""`(program, guest, *arguments)`; returns when it is done, or raises `WasiError` or an error of the error table."""

# name: (arguments, function); letters as in `runtime.guest.HostFunction`. All but proc_exit return an errno.
FUNCTIONS: Final[dict[str, tuple[str, Body]]] = {
    "args_get": ("II", system.args_get),
    "args_sizes_get": ("II", system.args_sizes_get),
    "environ_get": ("II", system.environ_get),
    "environ_sizes_get": ("II", system.environ_sizes_get),
    "clock_res_get": ("II", system.clock_res_get),
    "clock_time_get": ("IQI", system.clock_time_get),
    "fd_advise": ("IQQI", d.fd_advise),
    "fd_allocate": ("IQQ", d.fd_allocate),
    "fd_close": ("I", d.fd_close),
    "fd_datasync": ("I", d.fd_datasync),
    "fd_fdstat_get": ("II", d.fd_fdstat_get),
    "fd_fdstat_set_flags": ("II", d.fd_fdstat_set_flags),
    "fd_fdstat_set_rights": ("IQQ", d.fd_fdstat_set_rights),
    "fd_filestat_get": ("II", d.fd_filestat_get),
    "fd_filestat_set_size": ("IQ", d.fd_filestat_set_size),
    "fd_filestat_set_times": ("IQQI", d.fd_filestat_set_times),
    "fd_pread": ("IIIQI", d.fd_pread),
    "fd_prestat_get": ("II", d.fd_prestat_get),
    "fd_prestat_dir_name": ("III", d.fd_prestat_dir_name),
    "fd_pwrite": ("IIIQI", d.fd_pwrite),
    "fd_read": ("IIII", d.fd_read),
    "fd_readdir": ("IIIQI", d.fd_readdir),
    "fd_renumber": ("II", d.fd_renumber),
    "fd_seek": ("IqII", d.fd_seek),
    "fd_sync": ("I", d.fd_sync),
    "fd_tell": ("II", d.fd_tell),
    "fd_write": ("IIII", d.fd_write),
    "path_create_directory": ("III", f.path_create_directory),
    "path_filestat_get": ("IIIII", f.path_filestat_get),
    "path_filestat_set_times": ("IIIIQQI", f.path_filestat_set_times),
    "path_link": ("IIIIIII", f.path_link),
    "path_open": ("IIIIIQQII", f.path_open),
    "path_readlink": ("IIIIII", f.path_readlink),
    "path_remove_directory": ("III", f.path_remove_directory),
    "path_rename": ("IIIIII", f.path_rename),
    "path_symlink": ("IIIII", f.path_symlink),
    "path_unlink_file": ("III", f.path_unlink_file),
    "poll_oneoff": ("IIII", poll.poll_oneoff),
    "proc_exit": ("I", system.proc_exit),
    "proc_raise": ("I", system.proc_raise),
    "random_get": ("II", system.random_get),
    "sched_yield": ("", system.sched_yield),
    "sock_accept": ("III", sockets.sock_accept),
    "sock_recv": ("IIIIII", sockets.sock_recv),
    "sock_send": ("IIIII", sockets.sock_send),
    "sock_shutdown": ("II", sockets.sock_shutdown),
}


def _entrance(body: Body) -> Callable[..., int | Coroutine[Any, Any, int]]:
    def call(guest: Guest, *arguments: int) -> int | Coroutine[Any, Any, int]:
        try:
            result = body(guest.data, guest, *arguments)
            if type(result) is GeneratorType:
                pending = start(result)
                if iscoroutine(pending):
                    return _finish(pending)
        except WasiError as error:
            return int(error.errno)
        except CognuError as error:
            return int(errno_of(error.error))
        return 0

    return call


async def _finish(pending: Coroutine[Any, Any, None]) -> int:
    try:
        await pending
    except WasiError as error:
        return int(error.errno)
    except CognuError as error:
        return int(errno_of(error.error))
    return int(Errno.SUCCESS)


def _no_result(body: Body) -> Callable[..., None]:
    def call(guest: Guest, *arguments: int) -> None:
        body(guest.data, guest, *arguments)

    return call


IMPORTS: Final[dict[tuple[str, str], HostFunction]] = {
    (MODULE, name): HostFunction(params, "", _no_result(body))
    if name == "proc_exit"
    else HostFunction(params, "i", _entrance(body))
    for name, (params, body) in FUNCTIONS.items()
}
"""What a scheduler's guest may import, if its `data` is a `Program`."""
