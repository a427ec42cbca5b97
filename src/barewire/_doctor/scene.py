"""What a feed would have here: its interfaces, its core, and what a configuration asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .machine import Machine

if TYPE_CHECKING:
    from .._config import Config

__all__ = ["Card", "Line", "Scene", "Wanted", "cards", "likely", "multicast_interface"]

_DEFAULT_RCVBUF_BYTES = 16 << 20  # [receive] rcvbuf_bytes, left out


@dataclass(frozen=True)
class Line:
    """One line of a feed."""

    name: str
    group: str
    port: int
    interface: str | None


@dataclass(frozen=True)
class Wanted:
    """What matters here of a feed's configuration."""

    lines: tuple[Line, ...] = ()
    core: int | None = None
    is_busy: bool = False
    path: str = "kernel"
    af_xdp_attach: str = "auto"
    af_xdp_transfer: str = "auto"
    af_xdp_queues: tuple[int, ...] = ()
    rcvbuf_bytes: int = _DEFAULT_RCVBUF_BYTES
    busy_poll_us: int = 0
    ring_name: str | None = None
    ring_bytes: int = 0
    is_given: bool = False

    @classmethod
    def of(cls, config: Config) -> Wanted:
        """From a checked configuration."""
        receive = config.receive
        return cls(
            lines=tuple(Line(line.name, line.group, line.port, line.interface) for line in config.lines),
            core=receive.core,
            is_busy=receive.mode == "busy",
            path=receive.path,
            af_xdp_attach=receive.af_xdp.attach,
            af_xdp_transfer=receive.af_xdp.transfer,
            af_xdp_queues=tuple(receive.af_xdp.queues or ()),
            rcvbuf_bytes=receive.rcvbuf_bytes,
            busy_poll_us=receive.busy_poll_us,
            ring_name=config.ring.name,
            ring_bytes=config.ring.capacity * 64,
            is_given=True,
        )


@dataclass(frozen=True)
class Card:
    """One interface, as the checks on it see it."""

    machine: Machine
    wanted: Wanted
    name: str
    core: int
    driver: str
    """The driver's name; empty where it does not say."""

    def file(self, path: str) -> str:
        """A file of its folder in /sys."""
        return f"/sys/class/net/{self.name}/{path}"

    @property
    def is_hardware(self) -> bool:
        """Whether a device stands behind it: not loopback, a bridge, a veth, ..."""
        return self.machine.exists(self.file("device"))

    @property
    def node(self) -> int:
        """Its NUMA node; -1 where there is none."""
        return _node(self.machine, self.name)

    def isolated(self) -> frozenset[int]:
        """The cores that the scheduler leaves alone; none where that cannot be read."""
        return _isolated(self.machine)

    def irqs(self) -> list[int]:
        """The interrupts of its queues that are in use."""
        for folder in ("device/msi_irqs", "device/../msi_irqs"):  # a virtio device's belong to what carries it
            names = self.machine.names(self.file(folder))
            if names:
                break
        used = {}
        for line in self.machine.text("/proc/interrupts").splitlines():
            number, _, rest = line.partition(":")
            used[number.strip()] = not rest.rstrip().endswith("-config")  # a virtio device's, which is no queue's
        return sorted(int(name) for name in names if name.isdigit() and used.get(name))


def _node(machine: Machine, interface: str) -> int:
    try:
        return machine.number(f"/sys/class/net/{interface}/device/numa_node")
    except (OSError, ValueError):
        return -1


def _isolated(machine: Machine) -> frozenset[int]:
    try:
        return machine.cores("/sys/devices/system/cpu/isolated")
    except (OSError, ValueError):
        return frozenset()


@dataclass(frozen=True)
class Scene:
    """The whole: what the checks on the machine see."""

    machine: Machine
    wanted: Wanted
    interfaces: tuple[str, ...]
    core: int
    core_why: str
    drivers: tuple[str, ...] = ()

    @property
    def node(self) -> int:
        """The NUMA node of the first interface that has one; -1 for none."""
        return next((node for name in self.interfaces if (node := _node(self.machine, name)) >= 0), -1)

    @classmethod
    def of(cls, machine: Machine, wanted: Wanted, asked: Sequence[str]) -> Scene:
        """Chooses interfaces and core where nobody did."""
        named = [*asked, *(line.interface or multicast_interface(machine) or "" for line in wanted.lines)]
        chosen = tuple(dict.fromkeys(name for name in named if name in machine.names("/sys/class/net")))
        if not named:
            chosen = tuple(likely(machine))
        scene = cls(machine, wanted, chosen, 0, "")
        core, why = _choose_core(machine, wanted, scene.node)
        return cls(machine, wanted, chosen, core, why)


def likely(machine: Machine) -> Iterator[str]:
    """The interfaces with a device behind them; where there is none, those that are up, without loopback."""
    there = machine.names("/sys/class/net")
    hardware = [name for name in there if machine.exists(f"/sys/class/net/{name}/device")]
    yield from hardware or (name for name in there if name != "lo" and _is_up(machine, name))


def _is_up(machine: Machine, interface: str) -> bool:
    try:
        return bool(int(machine.read(f"/sys/class/net/{interface}/flags"), 16) & 1)
    except (OSError, ValueError):
        return False


def multicast_interface(machine: Machine) -> str | None:
    """Where the kernel would join a group without being told: by its route to 224.0.0.0, in the main table."""
    best: tuple[int, str] | None = None
    for row in machine.text("/proc/net/route").splitlines()[1:]:
        fields = row.split()
        if len(fields) < 8:
            continue
        try:
            destination, mask = (int.from_bytes(bytes.fromhex(text), "little") for text in (fields[1], fields[7]))
            is_up = int(fields[3], 16) & 1
        except ValueError:
            continue
        if is_up and 0xE000_0000 & mask == destination and (best is None or mask > best[0]):
            best = mask, fields[0]
    return None if best is None else best[1]


def _choose_core(machine: Machine, wanted: Wanted, node: int) -> tuple[int, str]:
    if wanted.core is not None and wanted.core in machine.online():
        return wanted.core, "receive.core"
    online = machine.online()
    near = (machine.node_cores(node) & online) or online
    isolated = _isolated(machine) & online
    if isolated:
        return min(isolated & near or isolated), "the first isolated core"
    return max(near), "a suggestion: none is configured" + (", the card's node" if near != online else "")


def cards(scene: Scene) -> Iterator[Card]:
    """The interfaces to look at."""
    from . import ethtool

    for name in scene.interfaces:
        try:
            driver = ethtool.driver(scene.machine.ioctl, name).name
        except OSError:
            driver = ""
        yield Card(scene.machine, scene.wanted, name, scene.core, driver)
