"""The machine that is looked at: its /proc and /sys under a root folder, and what only system calls tell.

Tests give another root and other functions, and have another machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import netlink, system
from .ethtool import Ioctl

__all__ = ["Machine", "cores_text", "parse_cores"]

_MAX_CORES = 1 << 14


@dataclass(frozen=True)
class Machine:
    """Reads; never writes."""

    root: Path = Path("/")
    ioctl: Ioctl = system.ioctl
    xdp_features: Callable[[int], netlink.XdpFeatures] = netlink.xdp_features
    xdp_program: Callable[[int], int] = netlink.xdp_program
    io_uring_errno: Callable[[], int] = system.io_uring_errno
    stolen_share: Callable[[], float] = system.stolen_share
    system_clock: Callable[[], dict[str, Any]] = system.system_clock
    compare_phc: Callable[[int], dict[str, Any]] = system.compare_phc
    calibrate_tsc: Callable[[], dict[str, Any]] = system.calibrate_tsc
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    interpreter: str = field(default_factory=lambda: os.path.realpath(sys.executable))

    def path(self, path: str) -> Path:
        """A file of this machine, by its absolute name."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str:
        """A small file's text without the white space around it. Raises OSError."""
        return self.path(path).read_text(errors="replace").strip()

    def text(self, path: str, otherwise: str = "") -> str:
        """The same, with something else where it cannot be read."""
        try:
            return self.read(path)
        except OSError:
            return otherwise

    def number(self, path: str) -> int:
        """A file with one number. Raises OSError and ValueError."""
        return int(self.read(path))

    def exists(self, path: str) -> bool:
        """Whether there is such a file, as far as one may see."""
        try:
            return self.path(path).exists()
        except OSError:
            return False

    def names(self, folder: str) -> list[str]:
        """What a folder holds, sorted; nothing where it cannot be read."""
        try:
            return sorted(entry.name for entry in self.path(folder).iterdir())
        except OSError:
            return []

    def cores(self, path: str) -> frozenset[int]:
        """A file that lists cores: `0-3,8`. Raises OSError and ValueError."""
        return parse_cores(self.read(path))

    def online(self) -> frozenset[int]:
        """The cores that run."""
        try:
            return self.cores("/sys/devices/system/cpu/online") or frozenset({0})
        except (OSError, ValueError):
            return frozenset({0})

    def node_cores(self, node: int) -> frozenset[int]:
        """The cores of a NUMA node; empty where it is not known."""
        try:
            return self.cores(f"/sys/devices/system/node/node{node}/cpulist")
        except (OSError, ValueError):
            return frozenset()

    def boot_arguments(self) -> dict[str, str]:
        """The kernel's command line, by key."""
        return dict(word.partition("=")[::2] for word in self.text("/proc/cmdline").split())

    def add_boot_arguments(self, arguments: str) -> str:
        """The command that adds to it, as this system's boot loader is told."""
        if self.exists("/usr/sbin/grubby"):
            return f'sudo grubby --update-kernel=ALL --args="{arguments}" && sudo reboot'
        if self.exists("/usr/sbin/update-grub"):
            name = arguments.partition("=")[0].replace(".", "-")
            return (
                f"echo 'GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {arguments}\"' | "
                f"sudo tee /etc/default/grub.d/barewire-{name}.cfg && sudo update-grub && sudo reboot"
            )
        return f"# add to the kernel's command line: {arguments}"

    def kernel_version(self) -> tuple[int, int]:
        """Major and minor. Raises OSError and ValueError."""
        major, minor, *_ = self.read("/proc/sys/kernel/osrelease").split(".")
        return int(major), int("".join(c for c in minor.partition("-")[0] if c.isdigit()))

    def cpu_flags(self) -> frozenset[str]:
        """The first core's flags. Raises OSError."""
        for line in self.read("/proc/cpuinfo").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                return frozenset(value.split())
        return frozenset()

    def is_virtual(self) -> bool:
        """Whether a hypervisor runs this machine."""
        try:
            return "hypervisor" in self.cpu_flags() or self.exists("/sys/hypervisor/type")
        except OSError:
            return False

    def memory(self) -> dict[str, int]:
        """/proc/meminfo: bytes, or pages for the counts of huge pages. Raises OSError and ValueError."""
        found = {}
        for line in self.read("/proc/meminfo").splitlines():
            key, _, value = line.partition(":")
            count, *unit = value.split()
            found[key] = int(count) * (1024 if unit else 1)
        return found

    def processes(self) -> frozenset[str]:
        """The names of the programs that run."""
        return frozenset(self.text(f"/proc/{name}/comm") for name in self.names("/proc") if name.isdigit())

    def which(self, program: str) -> str | None:
        """Where a program is on the PATH."""
        for folder in self.environment.get("PATH", "").split(os.pathsep):
            place = self.path(f"{folder}/{program}")
            if folder.startswith("/") and os.access(place, os.X_OK) and place.is_file():
                return f"{folder.rstrip('/')}/{program}"
        return None


def parse_cores(text: str) -> frozenset[int]:
    """`0-3,8` as numbers; empty for none, which the kernel also writes `(null)`. Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        if not part or part == "(null)":
            continue
        first, _, last = part.partition("-")
        last = last or first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < _MAX_CORES):
            raise ValueError(f"{text!r} is no list of cores")
        low, high = int(first), int(last)
        found.update(range(low, high + 1))
    return frozenset(found)


def cores_text(cores: Iterable[int]) -> str:
    """Numbers as the kernel lists them: `0-3,8`."""
    parts: list[str] = []
    numbers = sorted(cores)
    start = 0
    for index, number in enumerate(numbers):
        if index + 1 == len(numbers) or numbers[index + 1] != number + 1:
            first = numbers[start]
            parts.append(f"{first}" if first == number else f"{first}-{number}")
            start = index + 1
    return ",".join(parts)
