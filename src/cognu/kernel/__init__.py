"""The kernel: processes, endpoints, capabilities, messages. Pure, without I/O, clock or loops inside an operation."""

from cognu.kernel.messages import Kernel
from cognu.kernel.state import ALL_RIGHTS, CREATE, ERRORS, EXECUTE, GRANT, NODE, READ, SEND, WRITE, Cap, Code

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
