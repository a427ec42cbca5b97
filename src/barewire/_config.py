"""The configuration of a feed: one TOML file, checked before anything is opened.

Every field's description is the phrase that an error says was expected, and what the example configuration explains.
"""

from __future__ import annotations

import datetime as dt
import difflib
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from . import _time
from ._errors import ConfigError
from ._records import protocols

__all__ = ["BookConfig", "Config", "FeedConfig", "LineConfig", "ReceiveConfig", "RingConfig", "load_config"]

_MAX_SLOTS = 1 << 28  # 16 GiB of ring


def _wrong(message: str) -> PydanticCustomError:
    """A refusal that says more than the field's description does. Braces would be read as a template."""
    return PydanticCustomError("barewire", "{message}", {"message": message})


def _multicast(value: str) -> str:
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        raise _wrong("") from None
    if not address.is_multicast:
        raise _wrong("")
    return str(address)


def _unicast(value: str) -> str:
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        raise _wrong("") from None
    if address.is_multicast or address.is_unspecified:
        raise _wrong("")
    return str(address)


def _known_protocol(value: str) -> str:
    if value not in protocols():
        raise _wrong(f"expected one of: {', '.join(protocols())}")
    return value


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        below = 1 << (value.bit_length() - 1)
        raise _wrong(f"expected a power of two, e.g. {below} or {below * 2}")
    return value


def _file_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise _wrong("")
    return value


def _distinct(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise _wrong("expected each name once")
    return values


def _date(value: object) -> object:
    if isinstance(value, str):
        try:
            return _time.parse_date(value)
        except ConfigError:
            raise _wrong("") from None
    return value


def _cpu(value: int) -> int:
    allowed = sorted(os.sched_getaffinity(0))
    if value not in allowed:
        raise _wrong(f"expected a core that this process may use: {', '.join(map(str, allowed))}")
    return value


def _group_id(value: object) -> object:
    if isinstance(value, str):
        import grp

        try:
            return grp.getgrnam(value).gr_gid
        except KeyError:
            raise _wrong("expected the name or number of a group on this machine") from None
    return value


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=False)


class LineConfig(_Table):
    """One multicast line of the feed: a `[[lines]]` table."""

    name: Annotated[str, Field(min_length=1, max_length=16, description='a short name, e.g. "A"')]
    group: Annotated[
        str, AfterValidator(_multicast), Field(description="a multicast IPv4 address, 224.0.0.0 to 239.255.255.255")
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
        AfterValidator(lambda value: None if value is None else _unicast(value)),
        Field(description="the sender's IPv4 address, to join that source alone; left out: any sender"),
    ] = None


class FeedConfig(_Table):
    """What is received: the `[feed]` table."""

    name: Annotated[
        str, AfterValidator(_file_name), Field(description="letters, digits, '.', '_' or '-', at most 64")
    ] = "feed"
    protocol: Annotated[str, AfterValidator(_known_protocol), Field(description="the name of a protocol")]
    publisher_id: Annotated[
        int, Field(ge=0, le=255, description="a number of yours, 0 to 255, that every record carries")
    ] = 1
    date: Annotated[
        dt.date | None,
        BeforeValidator(_date),
        Field(description="the trading day, YYYY-MM-DD; left out: today in New York"),
    ] = None
    records: Annotated[
        list[Literal["mbo", "bbo"]],
        AfterValidator(_distinct),
        Field(min_length=1, description='a list of "mbo" (order events and trades) and "bbo" (best bid and offer)'),
    ] = ["mbo", "bbo"]
    symbols: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=32, description="a symbol")]] | None,
        Field(min_length=1, description='a list of symbols, e.g. ["AAPL", "MSFT"]; left out: all'),
    ] = None


class ReceiveConfig(_Table):
    """How packets are received: the `[receive]` table."""

    mode: Annotated[
        Literal["blocking", "busy"],
        Field(description='"blocking" (gentle: sleeps until a packet comes) or "busy" (fastest: takes a whole core)'),
    ] = "blocking"
    core: Annotated[
        int | None,
        AfterValidator(lambda value: None if value is None else _cpu(value)),
        Field(description="the core to pin the feed's thread to; left out: not pinned"),
    ] = None
    rcvbuf_bytes: Annotated[
        int, Field(ge=4096, le=1 << 30, description="the socket's receive buffer in bytes, 4096 to 1073741824")
    ] = 16 << 20
    busy_poll_us: Annotated[
        int, Field(ge=0, le=1_000_000, description="microseconds of SO_BUSY_POLL, 0 (off) to 1000000")
    ] = 0
    timestamps: Annotated[bool, Field(description="true (the kernel stamps every packet) or false")] = True


class SequencingConfig(_Table):
    """How missing messages are waited for: the `[sequencing]` table."""

    hold_us: Annotated[
        int,
        Field(
            ge=0,
            le=60_000_000,
            description="microseconds to wait for a missing message, which another line may bring, 0 to 60000000",
        ),
    ] = 2000
    capacity: Annotated[
        int,
        AfterValidator(_power_of_two),
        Field(ge=64, le=1 << 24, description="a number of messages to hold meanwhile, a power of two, 64 to 16777216"),
    ] = 1 << 16


class RingConfig(_Table):
    """Where events are published: the `[ring]` table."""

    name: Annotated[
        str | None,
        AfterValidator(lambda value: None if value is None else _file_name(value)),
        Field(description="letters, digits, '.', '_' or '-', at most 64; left out: this process only"),
    ] = None
    capacity: Annotated[
        int,
        AfterValidator(_power_of_two),
        Field(ge=1024, le=_MAX_SLOTS, description=f"a number of 64-byte records, a power of two, 1024 to {_MAX_SLOTS}"),
    ] = 1 << 20
    mode: Annotated[
        Literal[0o600, 0o640],
        Field(description="file permissions, 0o600 (384: you alone) or 0o640 (416: and a group), never others"),
    ] = 0o640
    group: Annotated[
        Annotated[int, Field(ge=0, le=0xFFFF_FFFE)] | None,
        BeforeValidator(_group_id),
        Field(description="the name or number of the group that may read; left out: yours"),
    ] = None


class BookConfig(_Table):
    """What the books are made for: the `[book]` table. They grow beyond it, at a moment's cost."""

    instruments: Annotated[int, Field(ge=1, le=1 << 22, description="a number of instruments, 1 to 4194304")] = 16384
    orders: Annotated[int, Field(ge=1, le=1 << 30, description="a number of live orders, 1 to 1073741824")] = 1 << 20
    levels: Annotated[int, Field(ge=1, le=1 << 30, description="a number of price levels, 1 to 1073741824")] = 1 << 18


class Config(_Table):
    """A whole configuration."""

    feed: Annotated[FeedConfig, Field(description="a [feed] table")]
    lines: Annotated[
        list[LineConfig], Field(min_length=1, max_length=8, description="one [[lines]] table for each line, 1 to 8")
    ]
    receive: Annotated[ReceiveConfig, Field(description="a [receive] table")] = ReceiveConfig()
    sequencing: Annotated[SequencingConfig, Field(description="a [sequencing] table")] = SequencingConfig()
    ring: Annotated[RingConfig, Field(description="a [ring] table")] = RingConfig()
    book: Annotated[BookConfig, Field(description="a [book] table")] = BookConfig()

    @model_validator(mode="after")
    def _lines_differ(self) -> Config:
        for what, keys in (
            ("name", [line.name for line in self.lines]),
            ("group and port", [f"{line.group}:{line.port}" for line in self.lines]),
        ):
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise _wrong(f"lines: two have the {what} {twice}; expected each to differ")
        return self

    def to_core(self) -> dict[str, Any]:
        """The dictionary that the compiled core takes."""
        return {
            "name": self.feed.name,
            "protocol": self.feed.protocol,
            "publisher_id": self.feed.publisher_id,
            "midnight_ns": _time.midnight_ns(self.feed.date or _time.today()),
            "symbols": self.feed.symbols,
            "records": list(self.feed.records),
            **self.receive.model_dump(),
            "lines": [line.model_dump() for line in self.lines],
            "sequencing": self.sequencing.model_dump(),
            "ring": self.ring.model_dump(),
            "book": self.book.model_dump(),
        }


# --- reading, and saying what is wrong -----------------------------------------------------------


def load_config(source: str | os.PathLike[str] | Mapping[str, Any] | Config) -> Config:
    """A checked configuration from a TOML file's path, TOML text (a string of several lines) or a mapping.

    Raises ConfigError, which names every wrong key, its value and what was expected; OSError.
    """
    if isinstance(source, Config):
        return source
    origin = ""
    if isinstance(source, Mapping):
        data: object = dict(source)
    else:
        try:
            if isinstance(source, str) and "\n" in source:
                data = tomllib.loads(source)
            else:
                origin = f"{os.fspath(source)}: "
                with open(source, "rb") as file:
                    data = tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            raise _error([f"{origin}not TOML: {_lower(str(error))}"], expected="TOML") from None
        except UnicodeDecodeError as error:
            line = f"{origin}not TOML: byte {error.start} is not UTF-8 text; is this a configuration file?"
            raise _error([line], expected="TOML") from None
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        first = details[0]
        raise _error(
            [origin + _problem(detail) for detail in details],
            key=_key(first["loc"]),
            value=None if first["type"] == "missing" else first["input"],
            expected=_expected(first),
        ) from None


def _error(problems: list[str], *, key: str = "", value: object = None, expected: str = "") -> ConfigError:
    return ConfigError("\n".join(problems), key=key, value=value, expected=expected, problems=problems)


def _problem(detail: ErrorDetails) -> str:
    key = _key(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_expected(detail)}"
    if detail["type"] == "missing":
        return f"{key} is missing; expected {_expected(detail)}"
    if not key:
        return _expected(detail)
    return f"{key} = {_toml(detail['input'])}: expected {_expected(detail)}"


def _expected(detail: ErrorDetails) -> str:
    loc = detail["loc"]
    if detail["type"] == "extra_forbidden":
        allowed = list(_model_at(loc[:-1]).model_fields)
        near = difflib.get_close_matches(str(loc[-1]), allowed, n=1)
        return f"did you mean {near[0]}?" if near else f"expected one of: {', '.join(allowed)}"
    if detail["type"] == "barewire" and detail["msg"]:
        return detail["msg"].removeprefix("expected ")
    if detail["type"] == "literal_error" and isinstance(loc[-1], int):
        return str(detail["ctx"]["expected"]).replace("'", '"')
    return _description_at(loc)


def _key(loc: Iterable[int | str]) -> str:
    key = ""
    for part in loc:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part)
            key += f".{name}" if key else name
    return key


def _walk(loc: Iterable[int | str]) -> tuple[type[BaseModel], str]:
    """The innermost table on the way to a value, and the description of the value's own field."""
    model: type[BaseModel] = Config
    description = "tables [feed] and [[lines]]"
    for part in loc:
        if isinstance(part, int) or part not in model.model_fields:
            continue  # a place in a list: the list's description stands
        field = model.model_fields[part]
        description = field.description or description
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model, description


def _model_at(loc: Iterable[int | str]) -> type[BaseModel]:
    return _walk(loc)[0]


def _description_at(loc: Iterable[int | str]) -> str:
    return _walk(loc)[1]


def _toml(value: object) -> str:
    """A value as it stands in the file, near enough, and never longer than a line."""
    if isinstance(value, (str, bool, int, float, list)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    elif isinstance(value, Mapping):
        text = "a table"
    else:
        text = str(value) if isinstance(value, (dt.date, dt.time)) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
