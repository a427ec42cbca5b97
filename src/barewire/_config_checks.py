"""What a value of the configuration may be: checks that several tables share, and the base of all tables."""

from __future__ import annotations

import ipaddress
import os
import re

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from . import _time
from ._errors import ConfigError
from ._records import protocols

__all__ = [
    "Table",
    "calendar_date",
    "contain",
    "cpu",
    "distinct",
    "file_name",
    "group_id",
    "known_protocol",
    "multicast",
    "network",
    "power_of_two",
    "server",
    "soup_text",
    "unicast",
    "wrong",
]


def wrong(message: str) -> PydanticCustomError:
    """A refusal that says more than the field's description does. Braces would be read as a template."""
    return PydanticCustomError("barewire", "{message}", {"message": message})


def multicast(value: str) -> str:
    """A multicast IPv4 address."""
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        raise wrong("") from None
    if not address.is_multicast:
        raise wrong("")
    return str(address)


def unicast(value: str) -> str:
    """An IPv4 address of one machine."""
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        raise wrong("") from None
    if address.is_multicast or address.is_unspecified:
        raise wrong("")
    return str(address)


def network(value: str) -> str:
    """The IPv4 address of one machine, or a network of such."""
    try:
        found = ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        raise wrong("") from None
    address, _, length = value.partition("/")
    if length and address != str(found.network_address):
        raise wrong(f"expected the network's first address, {found}, or the host's alone, {address}")
    if found.is_multicast or (found.prefixlen == 32 and found.network_address.is_unspecified):
        raise wrong("expected whom packets come from, which is never a group")
    return str(found.network_address) if found.prefixlen == 32 else str(found)


def contain(networks: list[str], address: str) -> bool:
    """Whether one of the networks has the address."""
    return any(ipaddress.IPv4Address(address) in ipaddress.IPv4Network(known) for known in networks)


def server(value: object) -> str:
    """ADDRESS:PORT of one machine."""
    address, _, port = str(value).rpartition(":")
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535:
        try:
            return f"{unicast(address)}:{int(port)}"
        except PydanticCustomError:
            pass
    raise wrong('expected "ADDRESS:PORT" with an IPv4 address of one machine, e.g. "10.0.0.1:26500"')


def soup_text(value: str) -> str:
    """What a SoupBinTCP login packet can carry: fields padded with spaces."""
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise wrong("")
    return value


def known_protocol(value: str) -> str:
    """A protocol's name."""
    if value not in protocols():
        raise wrong(f"expected one of: {', '.join(protocols())}")
    return value


def power_of_two(value: int) -> int:
    """A power of two."""
    if value & (value - 1):
        below = 1 << (value.bit_length() - 1)
        raise wrong(f"expected a power of two, e.g. {below} or {below * 2}")
    return value


def file_name(value: str) -> str:
    """A name that is safe as a file's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise wrong("")
    return value


def distinct(values: list[str]) -> list[str]:
    """A list that names nothing twice."""
    if len(set(values)) < len(values):
        raise wrong("expected each name once")
    return values


def calendar_date(value: object) -> object:
    """A date, from text where it is text."""
    if isinstance(value, str):
        try:
            return _time.parse_date(value)
        except ConfigError:
            raise wrong("") from None
    return value


def cpu(value: int) -> int:
    """A core that this process may run on."""
    allowed = sorted(os.sched_getaffinity(0))
    if value not in allowed:
        raise wrong(f"expected a core that this process may use: {', '.join(map(str, allowed))}")
    return value


def group_id(value: object) -> object:
    """A group's number, from its name where it is one."""
    if isinstance(value, str):
        import grp

        try:
            return grp.getgrnam(value).gr_gid
        except KeyError:
            raise wrong("expected the name or number of a group on this machine") from None
    return value


class Table(BaseModel):
    """A table of the file: no other keys, no conversions, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=False)
