"""The kernel, and who runs beneath it: its version and what that lacks, what it forbids, the hypervisor."""

from __future__ import annotations

import errno

from .capabilities import missing
from .finding import Check, Found, advice, fine
from .scene import Scene

__all__ = ["CHECKS", "io_uring_trouble"]

# The first version with what a feed uses; of those above this kernel's version, all are named.
_FEATURES = (
    ((5, 11), "AF_XDP as this feed uses it, with busy polling"),
    ((6, 1), "io_uring's multishot receive"),
    ((6, 3), "XDP features and hardware stamps told to programs"),
)
IO_URING_SINCE = (6, 1)
_NOTABLE_STEAL = 0.01


def _version(scene: Scene) -> Found | None:
    text = scene.machine.read("/proc/sys/kernel/osrelease")
    lacking = [what for since, what in _FEATURES if scene.machine.kernel_version() < since]
    if not lacking:
        return fine(text)
    return advice(f"{text}, which lacks: {'; '.join(lacking)}", "# install a newer kernel: 6.3 has all of it")


def io_uring_trouble(scene: Scene) -> tuple[str, str] | None:
    """Why no ring can be had, and what mends it; `None` where one can."""
    code = scene.machine.io_uring_errno()
    path = "/proc/sys/kernel/io_uring_disabled"
    if code == errno.ENOSYS:
        return "this kernel has no io_uring", "# use a kernel built with CONFIG_IO_URING"
    if code in (errno.EPERM, errno.EACCES):
        if scene.machine.text(path, "0") != "0":
            return f"forbidden: kernel.io_uring_disabled = {scene.machine.read(path)}", (
                "sudo sysctl -w kernel.io_uring_disabled=0"
            )
        return "forbidden by a filter on system calls, as containers have", (
            "# start the container with a profile that allows io_uring: docker run --security-opt seccomp=PROFILE"
        )
    return None


def _io_uring(scene: Scene) -> Found | None:
    trouble = io_uring_trouble(scene)
    if trouble is not None:
        return advice(*trouble)
    setting = scene.machine.text("/proc/sys/kernel/io_uring_disabled")
    return fine("allowed" + (" for this process alone (io_uring_disabled = 1)" if setting == "1" else ""))


def _bpf(scene: Scene) -> Found | None:
    compiled = scene.machine.text("/proc/sys/net/core/bpf_jit_enable")
    if compiled == "0":
        return advice("programs are interpreted, not compiled", "sudo sysctl -w net.core.bpf_jit_enable=1")
    setting = scene.machine.number("/proc/sys/kernel/unprivileged_bpf_disabled")
    text = "open to all" if setting == 0 else "for CAP_BPF only"
    if setting and missing(scene.machine, ["cap_bpf"]):
        return fine(f"{text}, which this process does not hold: no af_xdp")
    return fine(f"compiled, {text}" if compiled else text)


def _lockdown(scene: Scene) -> Found | None:
    path = "/sys/kernel/security/lockdown"
    if not scene.machine.exists(path):
        return None
    chosen = scene.machine.read(path).partition("[")[2].partition("]")[0] or "none"
    if chosen == "none":
        return fine(chosen)
    return fine(f"{chosen}: DPDK without an IOMMU and unsigned drivers (Onload's) are refused")


def _virtual(scene: Scene) -> Found | None:
    if not scene.machine.is_virtual():
        return fine("no")
    maker = " ".join(
        dict.fromkeys(scene.machine.text(f"/sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    ).strip()
    return advice(
        f"yes{f', {maker}' if maker else ''}: the host may take cores away for milliseconds; trust ratios, not maxima",
        "# run the feed on bare metal (a .metal instance, where this is a cloud)",
    )


def _steal(scene: Scene) -> Found | None:
    fields = [int(word) for word in scene.machine.read("/proc/stat").splitlines()[0].split()[1:9]]
    told = fields[7] / sum(fields) if len(fields) == 8 and any(fields) else 0.0
    seen = scene.machine.stolen_share()
    text = f"{seen:.1%} in a short look, {told:.1%} since the start by the kernel's account"
    if max(seen, told) <= _NOTABLE_STEAL:
        return fine(text)
    return advice(text, "# move to a host, or an instance type, whose cores are yours alone")


CHECKS: tuple[Check[Scene], ...] = (
    Check("version", "kernel", "6.3 or later", _version),
    Check("io_uring", "io_uring", "allowed", _io_uring),
    Check("bpf", "BPF programs", "compiled, allowed to this process", _bpf),
    Check("lockdown", "kernel lockdown", "none", _lockdown),
    Check("virtual", "virtual machine", "no", _virtual),
    Check("steal", "time that the host took away", "0%", _steal),
)
