"""The configuration of a feed: one TOML file, checked before anything is opened.

Every field's description is the phrase that an error says was expected, and what the example configuration explains.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from . import _time
from ._config_checks import (
    Table,
    calendar_date,
    contain,
    distinct,
    file_name,
    group_id,
    known_protocol,
    multicast,
    network,
    power_of_two,
    unicast,
    wrong,
)
from ._config_clock import ClockConfig
from ._config_reading import read_tables
from ._config_receive import AfXdpConfig, DpdkConfig, IoUringConfig, PacketMmapConfig, ReceiveConfig
from ._config_recovery import RecoveryConfig, RerequestConfig, SnapshotConfig

__all__ = [
    "AfXdpConfig",
    "BookConfig",
    "ClockConfig",
    "Config",
    "DpdkConfig",
    "FeedConfig",
    "IoUringConfig",
    "LineConfig",
    "PacketMmapConfig",
    "ReceiveConfig",
    "RecoveryConfig",
    "RerequestConfig",
    "RingConfig",
    "SequencingConfig",
    "SnapshotConfig",
    "load_config",
]

_MAX_SLOTS = 1 << 28  # 16 GiB of ring
_HELD = 1 << 16
_NETWORK = 'an IPv4 address or network, e.g. "10.1.2.3" or "10.1.0.0/16"'
_HELD_DURING_SNAPSHOT = 1 << 20


class LineConfig(Table):
    """One multicast line of the feed: a `[[lines]]` table."""

    name: Annotated[str, Field(min_length=1, max_length=16, description='a short name, e.g. "A"')]
    group: Annotated[
        str, AfterValidator(multicast), Field(description="a multicast IPv4 address, 224.0.0.0 to 239.255.255.255")
    ]
    port: Annotated[int, Field(ge=1, le=65535, description="a UDP port, 1 to 65535")]
    interface: Annotated[
        str | None,
        Field(
            min_length=1, max_length=15, description="an interface's name such as eth0; left out: the kernel's choice"
        ),
    ] = None
    source: Annotated[
        str | None,
        AfterValidator(lambda value: None if value is None else unicast(value)),
        Field(description="the sender's IPv4 address, to join that source alone; left out: any sender"),
    ] = None
    allow: Annotated[
        list[Annotated[str, AfterValidator(network), Field(description=_NETWORK)]],
        Field(
            max_length=64,
            description="a list of addresses and networks that packets may come from, at most 64; left out: any",
        ),
    ] = []  # noqa: RUF012 (pydantic hands out copies)

    @model_validator(mode="after")
    def _source_is_allowed(self) -> LineConfig:
        if self.source is not None and self.allow and not contain(self.allow, self.source):
            raise wrong(f"source: {self.source} is not in allow, so that nothing would be heard; expected it there")
        return self


class FeedConfig(Table):
    """What is received: the `[feed]` table."""

    name: Annotated[
        str, AfterValidator(file_name), Field(description="letters, digits, '.', '_' or '-', at most 64")
    ] = "feed"
    protocol: Annotated[str, AfterValidator(known_protocol), Field(description="the name of a protocol")]
    publisher_id: Annotated[
        int, Field(ge=0, le=255, description="a number of yours, 0 to 255, that every record carries")
    ] = 1
    date: Annotated[
        dt.date | None,
        BeforeValidator(calendar_date),
        Field(description="the trading day, YYYY-MM-DD; left out: today in New York"),
    ] = None
    records: Annotated[
        list[Literal["mbo", "bbo"]],
        AfterValidator(distinct),
        Field(min_length=1, description='a list of "mbo" (order events and trades) and "bbo" (best bid and offer)'),
    ] = ["mbo", "bbo"]  # noqa: RUF012 (pydantic hands out copies)
    symbols: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=32, description="a symbol")]] | None,
        Field(min_length=1, description='a list of symbols, e.g. ["AAPL", "MSFT"]; left out: all'),
    ] = None


class SequencingConfig(Table):
    """How missing messages are waited for, and silent lines noticed: the `[sequencing]` table."""

    hold_us: Annotated[
        int,
        Field(
            ge=0,
            le=60_000_000,
            description="microseconds to wait for a missing message, which another line may bring, 0 to 60000000",
        ),
    ] = 2000
    capacity: Annotated[
        int | None,
        Field(
            ge=64,
            le=1 << 24,
            description="a number of messages to hold meanwhile, a power of two, 64 to 16777216; left out: "
            f"{_HELD}, or {_HELD_DURING_SNAPSHOT} with a [recovery.snapshot], since it must hold what comes in while "
            "a snapshot is fetched",
        ),
        AfterValidator(lambda value: None if value is None else power_of_two(value)),
    ] = None
    line_timeout_us: Annotated[
        int,
        Field(
            ge=0,
            le=3_600_000_000,
            description="microseconds of silence after which a line counts as down, three heartbeats say, 0 (never) to "
            "3600000000",
        ),
    ] = 3_000_000


class RingConfig(Table):
    """Where events are published: the `[ring]` table."""

    name: Annotated[
        str | None,
        AfterValidator(lambda value: None if value is None else file_name(value)),
        Field(description="letters, digits, '.', '_' or '-', at most 64; left out: this process only"),
    ] = None
    capacity: Annotated[
        int,
        AfterValidator(power_of_two),
        Field(ge=1024, le=_MAX_SLOTS, description=f"a number of 64-byte records, a power of two, 1024 to {_MAX_SLOTS}"),
    ] = 1 << 20
    mode: Annotated[
        Literal[0o600, 0o640],
        Field(description="file permissions, 0o600 (384: you alone) or 0o640 (416: and a group), never others"),
    ] = 0o640
    group: Annotated[
        Annotated[int, Field(ge=0, le=0xFFFF_FFFE)] | None,
        BeforeValidator(group_id),
        Field(description="the name or number of the group that may read; left out: yours"),
    ] = None


class BookConfig(Table):
    """What the books are made for: the `[book]` table. They grow beyond it, at a moment's cost."""

    instruments: Annotated[int, Field(ge=1, le=1 << 22, description="a number of instruments, 1 to 4194304")] = 16384
    orders: Annotated[int, Field(ge=1, le=1 << 30, description="a number of live orders, 1 to 1073741824")] = 1 << 20
    levels: Annotated[int, Field(ge=1, le=1 << 30, description="a number of price levels, 1 to 1073741824")] = 1 << 18


class Config(Table):
    """A whole configuration."""

    feed: Annotated[FeedConfig, Field(description="a [feed] table")]
    lines: Annotated[
        list[LineConfig], Field(min_length=1, max_length=8, description="one [[lines]] table for each line, 1 to 8")
    ]
    receive: Annotated[ReceiveConfig, Field(description="a [receive] table")] = ReceiveConfig()
    sequencing: Annotated[SequencingConfig, Field(description="a [sequencing] table")] = SequencingConfig()
    recovery: Annotated[RecoveryConfig, Field(description="tables [recovery.rerequest] and [recovery.snapshot]")] = (
        RecoveryConfig()
    )
    clock: Annotated[ClockConfig, Field(description="a [clock] table")] = ClockConfig()
    ring: Annotated[RingConfig, Field(description="a [ring] table")] = RingConfig()
    book: Annotated[BookConfig, Field(description="a [book] table")] = BookConfig()

    @model_validator(mode="after")
    def _lines_differ(self) -> Config:
        names = [line.name for line in self.lines]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise wrong(f"lines: two have the name {twice}; expected each to differ")
        # The same packets by two cards are two lines; by a card that nobody named they may be one.
        for number, line in enumerate(self.lines):
            for other in self.lines[:number]:
                same = (line.group, line.port) == (other.group, other.port)
                if same and (line.interface == other.interface or None in (line.interface, other.interface)):
                    raise wrong(
                        f"lines: two have the group and port {line.group}:{line.port}; expected each to differ, or "
                        "each to name another interface"
                    )
        return self

    @property
    def held_messages(self) -> int:
        """How many messages can be held: `sequencing.capacity`, or what it is where that is left out."""
        if self.sequencing.capacity is not None:
            return self.sequencing.capacity
        return _HELD if self.recovery.snapshot is None else _HELD_DURING_SNAPSHOT

    def to_core(self) -> dict[str, Any]:
        """The dictionary that the compiled core takes."""
        return {
            "name": self.feed.name,
            "protocol": self.feed.protocol,
            "publisher_id": self.feed.publisher_id,
            "midnight_ns": _time.midnight_ns(self.feed.date or _time.today()),
            "symbols": self.feed.symbols,
            "records": list(self.feed.records),
            "receive": self.receive.to_core(),
            "lines": [line.model_dump() for line in self.lines],
            "sequencing": {
                "hold_us": self.sequencing.hold_us,
                "capacity": self.held_messages,
                "line_timeout_us": self.sequencing.line_timeout_us,
            },
            "recovery": self.recovery.to_core(),
            "ring": self.ring.model_dump(),
            "book": self.book.model_dump(),
        }


def load_config(source: str | os.PathLike[str] | Mapping[str, Any] | Config) -> Config:
    """A checked configuration from a TOML file's path, TOML text (a string of several lines) or a mapping.

    Raises ConfigError, which names every wrong key, its value and what was expected; OSError.
    """
    return source if isinstance(source, Config) else read_tables(Config, source, "tables [feed] and [[lines]]")
