"""What this process may do, and the command that lets it do more.

Source: capabilities(7); the numbers are those of include/uapi/linux/capability.h.
"""

from __future__ import annotations

from collections.abc import Iterable

from .finding import Check, Found, advice, fine
from .machine import Machine
from .scene import Scene

__all__ = ["ALL", "CHECKS", "NEEDED", "effective", "grant", "missing"]

_NUMBERS = {
    "cap_net_bind_service": 10,
    "cap_net_admin": 12,
    "cap_net_raw": 13,
    "cap_ipc_lock": 14,
    "cap_sys_nice": 23,
    "cap_bpf": 39,
}
_CAP_SYS_ADMIN = 21

USES = {
    "cap_net_raw": "packet and AF_XDP sockets",
    "cap_net_admin": "XDP programs, busy polling, receive buffers beyond rmem_max",
    "cap_bpf": "XDP programs",
    "cap_sys_nice": "real-time priority",
    "cap_ipc_lock": "memory that is never swapped, beyond the memlock limit",
}
ALL = tuple(USES)

NEEDED = {
    "kernel": (),
    "io_uring": (),
    "packet_mmap": ("cap_net_raw",),
    "af_xdp": ("cap_net_raw", "cap_net_admin", "cap_bpf"),
    "dpdk": ("cap_net_raw", "cap_net_admin", "cap_ipc_lock"),
    "onload": (),
}
"""By receive path."""


def _set(machine: Machine, key: str) -> frozenset[str]:
    """One of the process's sets. CAP_SYS_ADMIN stands in for CAP_BPF, as the kernel has it."""
    for line in machine.read("/proc/self/status").splitlines():
        if line.startswith(f"{key}:"):
            bits = int(line.split()[1], 16)
            found = {name for name, number in _NUMBERS.items() if bits & 1 << number}
            return frozenset(found | ({"cap_bpf"} if bits & 1 << _CAP_SYS_ADMIN else set()))
    raise ValueError(f"no {key} in /proc/self/status")


def effective(machine: Machine) -> frozenset[str]:
    """The capabilities that count here; none where that cannot be read."""
    try:
        return _set(machine, "CapEff")
    except (OSError, ValueError):
        return frozenset()


def missing(machine: Machine, wanted: Iterable[str]) -> list[str]:
    """Those of `wanted` that are not held."""
    held = effective(machine)
    return [name for name in wanted if name not in held]


def grant(scene: Scene, wanted: Iterable[str]) -> str:
    """How this interpreter gets these capabilities.

    `setcap` replaces what was there, so what is held and what the given configuration needs besides are among them.
    """
    machine, held = scene.machine, effective(scene.machine)
    asked = {*wanted, *held}
    if scene.wanted.is_given:
        asked.update(NEEDED[scene.wanted.path], ["cap_net_admin"] if scene.wanted.busy_poll_us else [])
    names = [name for name in ALL if name in asked]
    try:
        is_bounded = not _set(machine, "CapBnd").issuperset(names)
    except (OSError, ValueError):
        is_bounded = False
    if is_bounded:  # whatever a file grants is cut down to this set: only who started the process can help
        options = " ".join(f"--cap-add {name.removeprefix('cap_').upper()}" for name in names)
        return f"# start the container with more: docker run {options}"
    if "NoNewPrivs:\t1" in machine.text("/proc/self/status"):  # a file's capabilities count for nothing
        return f"# no_new_privs is set: start it as a service with AmbientCapabilities={' '.join(names).upper()}"
    return f"sudo setcap {','.join(names)}+ep {machine.interpreter}"


def _held(scene: Scene) -> Found | None:
    held = _set(scene.machine, "CapEff")
    lacking = [name for name in ALL if name not in held]
    if not lacking:
        return fine("all that any receive path needs")
    words = ", ".join(f"{name.upper()} ({USES[name]})" for name in lacking)
    return advice(f"not held: {words}", grant(scene, ALL))


CHECKS: tuple[Check[Scene], ...] = (
    Check("capabilities", "capabilities", ", ".join(name.upper() for name in ALL), _held),
)
