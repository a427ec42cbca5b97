"""Memory and sockets: huge pages, what may be locked, how much a socket may hold."""

from __future__ import annotations

import shlex

from .capabilities import effective
from .finding import Check, Found, advice, fine
from .scene import Scene

__all__ = ["CHECKS", "huge_pages_command", "memlock_bytes"]

_HUGE_PAGES = 64  # of 2 MiB: a ring, packet memory of some queues
_MEMLOCK_BYTES = 64 << 20
_MIB = 1 << 20


def huge_pages_command(scene: Scene, count: int = _HUGE_PAGES) -> str:
    """The command that sets huge pages aside, on the card's node where there are several."""
    nodes = [name for name in scene.machine.names("/sys/devices/system/node") if name[4:].isdigit()]
    if scene.node >= 0 and len(nodes) > 1:
        folder = f"/sys/devices/system/node/node{scene.node}/hugepages/hugepages-2048kB"
        return f"echo {count} | sudo tee {folder}/nr_hugepages"
    return f"sudo sysctl -w vm.nr_hugepages={count}"


def _huge_pages(scene: Scene) -> Found | None:
    memory = scene.machine.memory()
    total, free = memory.get("HugePages_Total", 0), memory.get("HugePages_Free", 0)
    size = memory.get("Hugepagesize", 2 * _MIB)
    text = f"{free} of {total} free, {size // _MIB} MiB each"
    if free * size >= 32 * _MIB:
        return fine(text)
    return advice(
        ("none set aside" if not total else text) + ": packet memory is spread over 4 KiB pages",
        huge_pages_command(scene, max(_HUGE_PAGES, total - free + _HUGE_PAGES)),
    )


def _transparent(scene: Scene) -> Found | None:
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    if not scene.machine.exists(path):
        return advice("this kernel has none: books and rings lie on 4 KiB pages", "# use a kernel with them")
    chosen = scene.machine.read(path).partition("[")[2].partition("]")[0]
    if chosen == "madvise":
        return fine(chosen)
    why = {
        "always": "always: the kernel also rearranges the memory of others, and stops them meanwhile",
        "never": "never: books and rings lie on 4 KiB pages",
    }.get(chosen, chosen)
    return advice(why, f"echo madvise | sudo tee {path}")


def _numa_balancing(scene: Scene) -> Found | None:
    path = "/proc/sys/kernel/numa_balancing"
    if not scene.machine.exists(path):
        return None
    if scene.machine.number(path) == 0:
        return fine("off")
    return advice("on: pages are unmapped now and then to see who uses them", "sudo sysctl -w kernel.numa_balancing=0")


def memlock_bytes(scene: Scene) -> tuple[float, float]:
    """Soft and hard limit of memory that may be locked, in bytes. Raises OSError and ValueError."""
    for line in scene.machine.read("/proc/self/limits").splitlines():
        if line.startswith("Max locked memory"):
            soft, hard = line.split()[3:5]
            return float(soft.replace("unlimited", "inf")), float(hard.replace("unlimited", "inf"))
    raise ValueError("no 'Max locked memory' in /proc/self/limits")


def _memlock(scene: Scene) -> Found | None:
    soft, hard = memlock_bytes(scene)
    text = "unlimited" if soft == float("inf") else f"{soft / _MIB:g} MiB"
    if soft >= _MEMLOCK_BYTES:
        return fine(text)
    if "cap_ipc_lock" in effective(scene.machine):
        return fine(f"{text}, which does not bind: CAP_IPC_LOCK is held")
    if hard >= _MEMLOCK_BYTES:
        return advice(text, f"ulimit -l {'unlimited' if hard == float('inf') else int(hard) // 1024}")
    user = shlex.quote(scene.machine.environment.get("USER") or "*")
    return advice(
        f"{text}: AF_XDP's packet memory and io_uring's rings count against it",
        f"echo {user} - memlock unlimited | sudo tee /etc/security/limits.d/barewire.conf   # then log in anew",
    )


def _rmem_max(scene: Scene) -> Found | None:
    maximum = scene.machine.number("/proc/sys/net/core/rmem_max")
    asked = scene.wanted.rcvbuf_bytes
    text = f"{maximum} bytes"
    if maximum >= asked:
        return fine(text)
    if "cap_net_admin" in effective(scene.machine):
        return fine(f"{text}, which does not bind: CAP_NET_ADMIN is held")
    return advice(
        f"{text}: a socket gets no more, though {asked} are asked for, and loses packets in a burst",
        f"sudo sysctl -w net.core.rmem_max={asked}",
        best=f"{asked} bytes (receive.rcvbuf_bytes) or more",
    )


def _busy_poll(scene: Scene) -> Found | None:
    read = scene.machine.number("/proc/sys/net/core/busy_read")
    poll = scene.machine.number("/proc/sys/net/core/busy_poll")
    return fine(f"busy_read {read} us, busy_poll {poll} us; a feed sets its own (receive.busy_poll_us)")


CHECKS: tuple[Check[Scene], ...] = (
    Check("huge_pages", "huge pages", "32 MiB or more free", _huge_pages),
    Check("transparent_huge_pages", "transparent huge pages", "madvise: for those who ask", _transparent),
    Check("numa_balancing", "automatic NUMA balancing", "off", _numa_balancing),
    Check("memlock", "memory that may be locked", "unlimited", _memlock),
    Check("rmem_max", "largest receive buffer (rmem_max)", "receive.rcvbuf_bytes or more", _rmem_max),
    Check("busy_poll", "busy polling of all sockets", "0 us, each feed choosing for itself", _busy_poll),
)
