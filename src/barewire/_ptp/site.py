"""What a site is made of: grandmasters, racks with a boundary clock and hosts, and the networks between them.

Every field's description is the phrase that an error says was expected.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from .._config_checks import Table, file_name, power_of_two, wrong
from .._config_reading import read_tables

__all__ = ["SPINE", "BoundaryClock", "Gnss", "Grandmaster", "Host", "Port", "Profile", "Rack", "Site", "load_site"]

SPINE = "spine"
"""The network that grandmasters and boundary clocks share, where nothing else is said."""

Profile = Literal["udp", "l2", "l2-p2p"]

_NAME = "letters, digits, '.', '_' or '-', at most 64"
_PROFILE = (
    'how PTP is spoken: "udp" (UDP over IPv4, delays end to end), "l2" (Ethernet, end to end) or "l2-p2p" (Ethernet, '
    "delays between neighbours)"
)

Name = Annotated[str, AfterValidator(file_name)]
Interface = Annotated[str, Field(min_length=1, max_length=15)]


class Port(Table):
    """A machine's port on a network."""

    interface: Annotated[Interface, Field(description="an interface's name such as eth0")]
    network: Annotated[Name, Field(description=f"the name of the network that it is plugged into: {_NAME}")]
    timestamping: Annotated[
        Literal["hardware", "software"],
        Field(description='who stamps its PTP packets: "hardware" (the card) or "software" (the kernel)'),
    ] = "hardware"


class Gnss(Table):
    """A receiver whose pulse a second comes in at the card: the `[grandmasters.gnss]` table."""

    serial: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=64,
            description="the serial device on which it says the time (NMEA), such as /dev/ttyS0; left out: it has "
            "none, and the system clock is right to half a second before ts2phc starts",
        ),
    ] = None
    pin: Annotated[int, Field(ge=0, le=63, description="the card's pin that the pulse is at, 0 to 63")] = 0
    channel: Annotated[int, Field(ge=0, le=63, description="the card's channel that stamps it, 0 to 63")] = 0
    cable_ns: Annotated[
        int, Field(ge=0, le=100_000, description="nanoseconds that the pulse takes through its cable, 0 to 100000")
    ] = 0


class Grandmaster(Table):
    """A machine that has the time: a `[[grandmasters]]` table."""

    name: Annotated[Name, Field(description=_NAME)]
    rank: Annotated[int, Field(ge=1, le=64, description="1 for the one to be elected, 2 for its standby, ... to 64")]
    source: Annotated[
        Literal["gnss", "system", "appliance"],
        Field(
            description='where it has the time from: "gnss" (a pulse a second), "system" (its own system clock, which '
            'NTP keeps) or "appliance" (a bought one: its settings are printed, no files are written)'
        ),
    ]
    ports: Annotated[
        list[Port], Field(min_length=1, max_length=16, description="a list of { interface, network }, 1 to 16")
    ]
    gnss: Annotated[Gnss | None, Field(description="a [grandmasters.gnss] table")] = None
    profile: Annotated[Profile | None, Field(description=f"{_PROFILE}; left out: the site's")] = None


class BoundaryClock(Table):
    """A machine that follows on one network and leads on others: a `[racks.boundary_clock]` table."""

    name: Annotated[Name, Field(description=_NAME)]
    ports: Annotated[
        list[Port], Field(min_length=2, max_length=64, description="a list of { interface, network }, 2 to 64")
    ]
    one_clock: Annotated[
        bool,
        Field(description="true (its ports are of one card, with one clock) or false (phc2sys keeps them together)"),
    ] = True
    profile: Annotated[Profile | None, Field(description=f"{_PROFILE}; left out: the site's")] = None


class Host(Table):
    """A machine that follows: a `[[racks.hosts]]` table."""

    name: Annotated[Name, Field(description=_NAME)]
    interface: Annotated[Interface, Field(description="the interface that hears PTP, such as eth0")]
    network: Annotated[
        Name | None, Field(description="the network that it is plugged into; left out: that with the rack's name")
    ] = None
    timestamping: Annotated[
        Literal["hardware", "software"],
        Field(description='who stamps its PTP packets: "hardware" (the card) or "software" (the kernel)'),
    ] = "hardware"
    profile: Annotated[Profile | None, Field(description=f"{_PROFILE}; left out: the site's")] = None


class Rack(Table):
    """A rack: a `[[racks]]` table."""

    name: Annotated[Name, Field(description=_NAME)]
    boundary_clock: Annotated[BoundaryClock, Field(description="a [racks.boundary_clock] table")]
    hosts: Annotated[
        list[Host],
        Field(min_length=1, max_length=1024, description="one [[racks.hosts]] table for each host, 1 to 1024"),
    ]


class SiteTable(Table):
    """What holds for every machine: the `[site]` table."""

    name: Annotated[Name, Field(description=_NAME)]
    domain: Annotated[int, Field(ge=0, le=127, description="the PTP domain, 0 to 127: another one than the venue's")]
    profile: Annotated[Profile, Field(description=_PROFILE)] = "udp"
    trial: Annotated[
        bool,
        Field(
            description="true (clocks are compared and never set, so software stamps do everywhere: to try a plan out) "
            "or false"
        ),
    ] = False
    syncs_per_second: Annotated[
        int,
        AfterValidator(power_of_two),
        Field(ge=1, le=128, description="how often a clock says the time, a power of two, 1 to 128"),
    ] = 8
    announces_per_second: Annotated[
        int,
        AfterValidator(power_of_two),
        Field(
            ge=1,
            le=8,
            description="how often a clock says what it is worth, a power of two, 1 to 8; three missed are a failure",
        ),
    ] = 1
    utc_offset: Annotated[
        int, Field(ge=0, le=255, description="seconds that TAI is ahead of UTC: 37 since 2017 (IERS Bulletin C)")
    ] = 37


class Site(Table):
    """A whole site."""

    site: Annotated[SiteTable, Field(description="a [site] table")]
    grandmasters: Annotated[
        list[Grandmaster],
        Field(min_length=1, max_length=64, description="one [[grandmasters]] table for each grandmaster, 1 to 64"),
    ]
    racks: Annotated[
        list[Rack], Field(min_length=1, max_length=1024, description="one [[racks]] table for each rack, 1 to 1024")
    ]

    @model_validator(mode="after")
    def _names_differ(self) -> Site:
        machines = [one.name for one in self.grandmasters]
        machines += [
            name for rack in self.racks for name in (rack.boundary_clock.name, *(one.name for one in rack.hosts))
        ]
        for what, names in (
            ("machines have the name", machines),
            ("racks have the name", [rack.name for rack in self.racks]),
            ("grandmasters have the rank", [str(one.rank) for one in self.grandmasters]),
        ):
            seen: set[str] = set()
            for name in names:
                if name in seen:
                    raise wrong(f"two {what} {name}; expected each to differ")
                seen.add(name)
        return self


def load_site(source: str | os.PathLike[str] | Mapping[str, Any]) -> Site:
    """A checked site from a TOML file's path, TOML text (a string of several lines) or a mapping.

    Raises ConfigError, which names every wrong key, its value and what was expected; OSError. Whether the plan can work
    is for `plan` to say.
    """
    return read_tables(Site, source, "tables [site], [[grandmasters]] and [[racks]]")
