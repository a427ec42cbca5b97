"""What the path dpdk finds here: libdpdk, the library that `make dpdk` builds for it, memory, devices."""

from __future__ import annotations

import re
from pathlib import Path

from .capabilities import NEEDED, grant, missing
from .finding import Check, Found, PathVerdict, advice, fine
from .memory import huge_pages_command
from .scene import Scene, cards

__all__ = ["CHECKS", "LIBRARY", "verdict"]

LIBRARY = str(Path(__file__).parent.parent / "libbarewire_dpdk.so")
"""Where the path looks for its library first."""

_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio")
_BUILD = "make dpdk   # in barewire's sources"


def _version(scene: Scene) -> str | None:
    """The version that pkg-config would find, from the same files."""
    folders = scene.machine.environment.get("PKG_CONFIG_PATH", "").split(":")
    for parent in ("/usr/local/lib", "/usr/lib", "/usr/local/lib64", "/usr/lib64"):
        folders.append(f"{parent}/pkgconfig")
        folders += [f"{parent}/{name}/pkgconfig" for name in ("x86_64-linux-gnu", "aarch64-linux-gnu")]
    for folder in filter(None, folders):
        for line in scene.machine.text(f"{folder}/libdpdk.pc").splitlines():
            if line.startswith("Version:"):
                return line.partition(":")[2].strip()
    return None


def _install(scene: Scene) -> str:
    return (
        "sudo dnf install dpdk-devel"
        if scene.machine.exists("/usr/bin/dnf")
        else "sudo apt install libdpdk-dev pkg-config"
    )


def _bound(scene: Scene) -> dict[str, str]:
    """Network cards that a driver of DPDK's has: its name by the card's address."""
    found = {}
    for driver in _DRIVERS:
        for name in scene.machine.names(f"/sys/bus/pci/drivers/{driver}"):
            is_network = scene.machine.text(f"/sys/bus/pci/devices/{name}/class").startswith("0x02")
            if is_network and re.fullmatch(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", name):
                found[name] = driver
    return found


def _no(why: str, mend: str) -> PathVerdict:
    return PathVerdict("dpdk", False, why, mend)


def verdict(scene: Scene) -> PathVerdict:
    """Whether the path would work, and by what device."""
    machine = scene.machine
    version = _version(scene)
    if not machine.exists(LIBRARY):
        if version is None:
            return _no("libdpdk is not installed", _install(scene))
        return _no(f"DPDK {version}, but barewire's library for it is not built", _BUILD)
    lacking = missing(machine, NEEDED["dpdk"])
    if lacking:
        names = " and ".join(name.upper() for name in lacking)
        return _no(f"{names} not held", grant(scene, NEEDED["dpdk"]))
    memory = "huge pages" if machine.memory().get("HugePages_Free") else "ordinary pages"
    said = f"{f'DPDK {version}' if version else 'built'}, {memory}"
    bound = _bound(scene)
    if bound:
        devices = ", ".join(f"{name} ({driver})" for name, driver in bound.items())
        return PathVerdict("dpdk", True, f"{said}, on {devices}", None)
    hardware = [card for card in cards(scene) if card.is_hardware]
    shared = [card.name for card in hardware if card.driver.startswith("mlx")]
    if shared:
        return PathVerdict("dpdk", True, f"{said}, on {', '.join(shared)} beside the kernel", None)
    return PathVerdict("dpdk", True, f"{said}, on virtual devices: no card is bound to a driver of DPDK's", None)


def _state(scene: Scene) -> Found | None:
    version = _version(scene)
    built = scene.machine.exists(LIBRARY)
    groups = len(scene.machine.names("/sys/kernel/iommu_groups"))
    vfio = "vfio loaded" if scene.machine.exists("/dev/vfio/vfio") else "vfio not loaded"
    bound = ", ".join(f"{name} bound to {driver}" for name, driver in _bound(scene).items()) or "no card bound"
    text = (
        f"{version or 'not installed'}, library {'built' if built else 'not built'}, {vfio}, "
        f"{groups or 'no'} IOMMU groups, {bound}"
    )
    wanted = scene.wanted.path == "dpdk"
    if wanted and not built:
        return advice(text, _install(scene) if version is None else _BUILD)
    if wanted and not scene.machine.memory().get("HugePages_Free"):
        return advice(f"{text}; no huge page is free", huge_pages_command(scene, 512))
    hardware = [card for card in cards(scene) if card.is_hardware and not card.driver.startswith("mlx")]
    if wanted and hardware and not _bound(scene):
        if vfio == "vfio not loaded":
            return advice(text, "sudo modprobe vfio-pci")
        if not groups:
            vendor = "intel" if "vmx" in scene.machine.cpu_flags() else "amd"
            return advice(text, scene.machine.add_boot_arguments(f"{vendor}_iommu=on iommu=pt"))
    return fine(text)


CHECKS: tuple[Check[Scene], ...] = (
    Check("dpdk", "DPDK", "installed, built, vfio loaded, an IOMMU: where the dpdk path is wanted", _state),
)
