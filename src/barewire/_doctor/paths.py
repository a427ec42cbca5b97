"""Which receive paths would work here; of each that would not, the one thing to mend first."""

from __future__ import annotations

from . import dpdk
from .capabilities import NEEDED, grant, missing
from .card import xdp_mode
from .finding import Check, Found, PathVerdict, fine
from .kernel import IO_URING_SINCE, io_uring_trouble
from .memory import memlock_bytes
from .scene import Scene, cards

__all__ = ["CHECKS", "verdicts"]

_ONLOAD_DRIVERS = frozenset({"sfc", "efct", "xilinx_efct"})
_MIN_UMEM_BYTES = 8 << 20


def verdicts(scene: Scene) -> tuple[PathVerdict, ...]:
    """One for every path, in the order from the plainest to the one that needs most."""
    found = []
    for path, judge in _JUDGES.items():
        try:
            found.append(judge(scene))
        except (OSError, ValueError, LookupError) as error:
            text = getattr(error, "strerror", None) or str(error)
            found.append(PathVerdict(path, False, f"cannot tell: {text.lower()}", None))
    return tuple(found)


def _no(path: str, why: str, mend: str) -> PathVerdict:
    return PathVerdict(path, False, why, mend)


def _kernel(_: Scene) -> PathVerdict:
    return PathVerdict("kernel", True, "sockets", None)


def _io_uring(scene: Scene) -> PathVerdict:
    if scene.machine.kernel_version() < IO_URING_SINCE:
        return _no("io_uring", "the kernel is older than 6.1", "# install a newer kernel")
    trouble = io_uring_trouble(scene)
    if trouble is not None:
        return _no("io_uring", *trouble)
    return PathVerdict("io_uring", True, "sockets through a ring", None)


def _has_protocol(scene: Scene, name: str) -> bool:
    """Whether the kernel has this kind of socket (/proc/net/protocols)."""
    return any(line.split()[:1] == [name] for line in scene.machine.read("/proc/net/protocols").splitlines())


def _packet_mmap(scene: Scene) -> PathVerdict:
    if missing(scene.machine, NEEDED["packet_mmap"]):
        return _no("packet_mmap", "CAP_NET_RAW is not held", grant(scene, NEEDED["packet_mmap"]))
    if not _has_protocol(scene, "PACKET"):
        return _no("packet_mmap", "the kernel has no packet sockets loaded", "sudo modprobe af_packet")
    return PathVerdict("packet_mmap", True, "a ring that the kernel fills", None)


def _af_xdp(scene: Scene) -> PathVerdict:
    if scene.machine.kernel_version() < (5, 11):
        return _no("af_xdp", "the kernel is older than 5.11", "# install a newer kernel")
    if not _has_protocol(scene, "XDP"):
        return _no("af_xdp", "the kernel has no AF_XDP sockets", "# use a kernel built with CONFIG_XDP_SOCKETS")
    lacking = missing(scene.machine, NEEDED["af_xdp"])
    if lacking:
        names = " and ".join(name.upper() for name in lacking)
        return _no("af_xdp", f"{names} not held", grant(scene, NEEDED["af_xdp"]))
    if missing(scene.machine, ["cap_ipc_lock"]) and memlock_bytes(scene)[0] < _MIN_UMEM_BYTES:
        return _no(
            "af_xdp",
            "the memlock limit leaves no room for packet memory",
            grant(scene, (*NEEDED["af_xdp"], "cap_ipc_lock")),
        )
    modes = [f"{xdp_mode(card)[0]} on {card.name}" for card in cards(scene) if card.name != "lo"]
    return PathVerdict("af_xdp", True, ", ".join(modes) or "generic, on loopback", None)


def _onload(scene: Scene) -> PathVerdict:
    launcher = scene.machine.which("onload")
    suitable = [card.name for card in cards(scene) if card.driver in _ONLOAD_DRIVERS]
    if launcher is None:
        if not suitable:
            return _no("onload", "no Solarflare or AMD card, and no OpenOnload", "# use a card that OpenOnload drives")
        return _no(
            "onload", "OpenOnload is not installed", "# install OpenOnload (https://github.com/Xilinx-CNS/onload)"
        )
    if not scene.machine.exists("/sys/module/onload"):
        return _no("onload", f"{launcher} is there, but its driver is not loaded", "sudo onload_tool reload")
    if not suitable:
        return _no(
            "onload", f"{launcher} is there, but none of these interfaces is its", "# use a Solarflare or AMD card"
        )
    version = scene.machine.text("/sys/module/onload/version")
    return PathVerdict(
        "onload",
        True,
        f"{launcher}{f' {version}' if version else ''} on {', '.join(suitable)}: barewire run --onload",
        None,
    )


_JUDGES = {
    "kernel": _kernel,
    "io_uring": _io_uring,
    "packet_mmap": _packet_mmap,
    "af_xdp": _af_xdp,
    "dpdk": dpdk.verdict,
    "onload": _onload,
}


def _onload_version(scene: Scene) -> Found | None:
    launcher = scene.machine.which("onload")
    if launcher is None:
        return fine("not installed", best="installed, where a card is Solarflare's or AMD's")
    return fine(f"{launcher} {scene.machine.text('/sys/module/onload/version', '(driver not loaded)')}")


CHECKS: tuple[Check[Scene], ...] = (
    Check("onload", "OpenOnload", "installed, its driver loaded", _onload_version),
    *dpdk.CHECKS,
)
