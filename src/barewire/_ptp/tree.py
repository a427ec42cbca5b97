"""Who can follow whom: the machines and the networks between them as one graph, and why a plan of it cannot work.

A boundary clock, and a grandmaster with several ports, joins its networks: linuxptp makes every machine with several
ports a boundary clock (ptp4l(8), clock_type). A host joins nothing. The election (IEEE 1588-2019, 9.3) compares
priority 1, then the clock's class, accuracy and variance, then priority 2: grandmasters share a priority 1 that no
other clock has, so that of two that work their rank decides, by priority 2, and one that has lost its source makes way
by its class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from .._errors import ConfigError
from .site import BoundaryClock, Grandmaster, Host, Port, Profile, Rack, Site

__all__ = ["Machine", "Tree", "plan"]

Role = Literal["grandmaster", "boundary clock", "host"]

_GRANDMASTER_PRIORITY = 100
_BOUNDARY_PRIORITY = 200
_HOST_PRIORITY = 255
_LONGEST_PATH = 254  # ptp4l's maxStepsRemoved is 255


@dataclass(frozen=True)
class Machine:
    """A machine, and its part in the election."""

    name: str
    role: Role
    ports: tuple[Port, ...]
    profile: Profile
    priority1: int
    priority2: int
    rack: str | None
    table: Grandmaster | BoundaryClock | Host

    @property
    def joins(self) -> bool:
        """Whether time passes through it."""
        return len(self.ports) > 1

    @property
    def stamps_in_software(self) -> bool:
        """Whether any of its ports has no card to stamp its packets."""
        return any(port.timestamping == "software" for port in self.ports)


@dataclass(frozen=True)
class Tree:
    """A plan that can work."""

    site: Site
    machines: tuple[Machine, ...]
    follows: dict[str, str | None] = field(repr=False)
    """From whom each machine has the time while the first grandmaster works; None for grandmasters, which have it."""
    through: dict[str, str] = field(repr=False)
    """On which network."""
    remarks: tuple[str, ...] = ()
    """What works, and is worth knowing."""

    def __getitem__(self, name: str) -> Machine:
        return next(machine for machine in self.machines if machine.name == name)

    def followers(self, name: str) -> list[Machine]:
        """The machines that have the time from this one, in the plan's order."""
        return [machine for machine in self.machines if self.follows[machine.name] == name]

    def steps(self, name: str) -> int:
        """Clocks on the way from the first grandmaster to this machine: its `stepsRemoved`."""
        count = 0
        while (leader := self.follows[name]) is not None:
            count, name = count + 1, leader
        return count


def plan(site: Site) -> Tree:
    """The tree of a site. Raises ConfigError with a line for each reason why the plan cannot work."""
    machines = tuple(_machines(site))
    problems = [*_double_ports(machines), *_mixed_profiles(machines), *_stamps(site, machines), *_sources(machines)]
    loop = _loop(machines)
    if loop:
        problems.append(loop)
    ranked = sorted((one for one in machines if one.role == "grandmaster"), key=lambda one: one.priority2)
    reached = {one.name: _spread(one, machines) for one in ranked}
    problems += _unreached(machines, ranked, reached)
    if problems:
        raise ConfigError("\n".join(problems), key="site", expected="a plan that can work", problems=problems)
    follows: dict[str, str | None] = {}
    through: dict[str, str] = {}
    standbys = {one.name for one in ranked}
    for name, (leader, network) in reached[ranked[0].name].items():
        # A standby waits (its port is PASSIVE) and keeps the time of its own source: its class is below 128.
        follows[name] = None if name in standbys else leader
        if network is not None and name not in standbys:
            through[name] = network
    return Tree(site, machines, follows, through, tuple(_remarks(site, machines, ranked)))


def _machines(site: Site) -> Iterator[Machine]:
    profile = site.site.profile
    for one in sorted(site.grandmasters, key=lambda one: one.rank):
        ports = tuple(one.ports)
        yield Machine(
            one.name, "grandmaster", ports, one.profile or profile, _GRANDMASTER_PRIORITY, one.rank, None, one
        )
    for number, rack in enumerate(site.racks):
        clock = rack.boundary_clock
        ports = tuple(clock.ports)
        # Racks lose the grandmaster together: the first one's clock then leads the others, where they hear it.
        second = min(1 + number, 255)
        yield Machine(
            clock.name, "boundary clock", ports, clock.profile or profile, _BOUNDARY_PRIORITY, second, rack.name, clock
        )
        for host in rack.hosts:
            yield _host(host, rack, profile)


def _host(host: Host, rack: Rack, profile: Profile) -> Machine:
    port = Port(interface=host.interface, network=host.network or rack.name, timestamping=host.timestamping)
    return Machine(host.name, "host", (port,), host.profile or profile, _HOST_PRIORITY, 255, rack.name, host)


def _spread(start: Machine, machines: tuple[Machine, ...]) -> dict[str, tuple[str | None, str | None]]:
    """Every machine that hears `start`, from whom and on which network; the shortest way, as the election has it."""
    on: dict[str, list[Machine]] = {}
    for machine in machines:
        for port in machine.ports:
            on.setdefault(port.network, []).append(machine)
    found: dict[str, tuple[str | None, str | None]] = {start.name: (None, None)}
    edge = [start]
    while edge:
        after: list[Machine] = []
        for machine in edge:
            if machine is not start and not machine.joins:
                continue
            for port in machine.ports:
                for other in on[port.network]:
                    if other.name not in found:
                        found[other.name] = (machine.name, port.network)
                        after.append(other)
        edge = after
    return found


# --- why a plan cannot work ----------------------------------------------------------------------


def _double_ports(machines: tuple[Machine, ...]) -> Iterator[str]:
    for machine in machines:
        for what, used in (
            ("interface", [port.interface for port in machine.ports]),
            ("network", [port.network for port in machine.ports]),
        ):
            twice = next((one for one in used if used.count(one) > 1), None)
            if twice is not None:
                yield f"{machine.name}: two ports on {what} {twice}; expected each port on one of its own"


def _mixed_profiles(machines: tuple[Machine, ...]) -> Iterator[str]:
    first: dict[str, Machine] = {}
    for machine in machines:
        for port in machine.ports:
            other = first.setdefault(port.network, machine)
            if other.profile != machine.profile:
                yield (
                    f'network {port.network}: {other.name} speaks "{other.profile}" and {machine.name} '
                    f'"{machine.profile}"; expected one profile on a network: clocks do not hear each other otherwise'
                )


def _stamps(site: Site, machines: tuple[Machine, ...]) -> Iterator[str]:
    if site.site.trial:
        return
    for machine in machines:
        if machine.stamps_in_software and machine.role == "boundary clock":
            yield (
                f'{machine.name}: timestamping "software" on a boundary clock, which would add tens of microseconds '
                'for its whole rack; expected "hardware", or site.trial = true to try the plan out'
            )
        if machine.stamps_in_software and isinstance(machine.table, Grandmaster) and machine.table.source == "gnss":
            yield (
                f'{machine.name}: timestamping "software" on a grandmaster with source "gnss", whose pulse comes in at '
                'the card\'s clock; expected "hardware"'
            )


def _sources(machines: tuple[Machine, ...]) -> Iterator[str]:
    for machine in machines:
        if isinstance(machine.table, Grandmaster) and (machine.table.source == "gnss") != (
            machine.table.gnss is not None
        ):
            has = "has none" if machine.table.gnss is None else f'is there beside source "{machine.table.source}"'
            yield f'{machine.name}: [grandmasters.gnss] {has}; expected that table with source "gnss", and only with it'


def _loop(machines: tuple[Machine, ...]) -> str | None:
    """The first loop: a machine that joins networks which others join already."""
    parent: dict[str, str] = {}
    joined_by: dict[str, list[str]] = {}

    def root(network: str) -> str:
        while parent.setdefault(network, network) != network:
            network = parent[network]
        return network

    for machine in machines:
        if not machine.joins:
            continue
        roots = [root(port.network) for port in machine.ports]
        if len(set(roots)) < len(roots) and len({port.network for port in machine.ports}) == len(machine.ports):
            networks = ", ".join(port.network for port in machine.ports)
            others = sorted({name for one in roots for name in joined_by.get(one, ())})
            return (
                f"{machine.name}: joins networks {networks}, which {' and '.join(others)} join already: a loop, in "
                "which nobody knows who leads after a failure; expected one way between any two networks"
            )
        first = roots[0]
        names = [*joined_by.pop(first, []), machine.name]
        for other in roots[1:]:
            names += joined_by.pop(other, [])
            parent[other] = first
        joined_by[first] = names
    return None


def _unreached(
    machines: tuple[Machine, ...], ranked: list[Machine], reached: dict[str, dict[str, tuple[str | None, str | None]]]
) -> Iterator[str]:
    for machine in machines:
        deaf = [one for one in ranked if one is not machine and machine.name not in reached[one.name]]
        if not deaf:
            continue
        networks = " and ".join(port.network for port in machine.ports)
        yield (
            f"{machine.name}: no path to {' and '.join(one.name for one in deaf)} from network {networks}; expected "
            "every machine to hear every grandmaster, through a boundary clock that has a port on that network"
        )
    first = reached[ranked[0].name]
    for name in first:
        steps, at = 0, name
        while (leader := first[at][0]) is not None:
            steps, at = steps + 1, leader
        if steps > _LONGEST_PATH:
            yield f"{name}: {steps} clocks from {ranked[0].name}; expected at most {_LONGEST_PATH}"


def _remarks(site: Site, machines: tuple[Machine, ...], ranked: list[Machine]) -> Iterator[str]:
    if len(ranked) == 1:
        yield f"{ranked[0].name} has no standby: without it every rack runs on its own"
    if site.site.trial:
        yield "a trial: clocks are compared and never set"
        return
    for machine in machines:
        if machine.stamps_in_software and machine.role == "host":
            yield f"{machine.name}: stamps in software are good for some ten microseconds; its events say so"
    if site.site.domain == 0:
        yield "domain 0 is what other equipment speaks unless told otherwise; a domain of your own keeps strangers out"
