"""What the doctor asks the kernel for besides reading files. Nothing here changes anything."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
import time
from typing import Any

__all__ = [
    "SIOCETHTOOL",
    "SIOCGHWTSTAMP",
    "calibrate_tsc",
    "compare_phc",
    "io_uring_errno",
    "ioctl",
    "stolen_share",
    "system_clock",
]

SIOCETHTOOL = 0x8946
SIOCGHWTSTAMP = 0x89B1

_SYS_IO_URING_SETUP = 425  # the same on every architecture that Linux added it to
_LOOK_SECONDS = 0.06
_GAP_NS = 500_000


def ioctl(request: int, interface: str, data: bytearray) -> None:
    """An interface request whose `ifreq` points to `data`, which the kernel reads and fills. Raises OSError."""
    memory = (ctypes.c_char * len(data)).from_buffer(data)
    ifreq = struct.pack("16sP16x", interface.encode()[:15], ctypes.addressof(memory))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket.fileno(), request, ifreq)


def io_uring_errno() -> int:
    """What the kernel says to a request for a ring that cannot be made: EFAULT where rings can be had.

    ENOSYS: it has none. EPERM: a sysctl, or a container's filter, forbids them.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(_SYS_IO_URING_SETUP, 0, None)
    return ctypes.get_errno() or errno.EFAULT


def stolen_share() -> float:
    """The share of a short busy loop for which this core stood still though the kernel thought that it ran: 0 to 1.

    A hypervisor that takes the core away often tells nobody. Time for which the kernel ran something else does not
    count, since the thread's own clock stood still, too.
    """
    begun = last = time.perf_counter_ns()
    last_cpu = time.thread_time_ns()
    stolen = 0
    while last - begun < _LOOK_SECONDS * 1e9:
        now, cpu = time.perf_counter_ns(), time.thread_time_ns()
        gap = min(now - last, cpu - last_cpu)
        if gap > _GAP_NS:
            stolen += gap
        last, last_cpu = now, cpu
    return stolen / (last - begun)


def system_clock() -> dict[str, Any]:
    """What the kernel says of its clock. Raises OSError."""
    from .._core import system_clock as ask

    return ask()


def compare_phc(number: int) -> dict[str, Any]:
    """A card's clock, /dev/ptpN, beside the system's. Raises OSError."""
    from .._core import compare_phc as ask

    return ask(number)


def calibrate_tsc() -> dict[str, Any]:
    """The processor's counter as a feed would calibrate it."""
    from .._core import calibrate_tsc as ask

    return ask()
