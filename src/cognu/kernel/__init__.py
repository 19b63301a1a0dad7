"""The kernel: processes, endpoints, capabilities. Pure, without I/O, clock or loops inside an operation."""

from cognu.kernel.state import (
    ALL_RIGHTS,
    CREATE,
    ERRORS,
    EXECUTE,
    GRANT,
    NODE,
    READ,
    SEND,
    WRITE,
    Cap,
    Code,
)
from cognu.kernel.tables import Kernel

__all__ = [
    "ALL_RIGHTS",
    "CREATE",
    "ERRORS",
    "EXECUTE",
    "GRANT",
    "NODE",
    "READ",
    "SEND",
    "WRITE",
    "Cap",
    "Code",
    "Kernel",
]
