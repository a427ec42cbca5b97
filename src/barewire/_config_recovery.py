"""The part of the configuration that says what is done about messages that no line brought."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ._config_checks import Table, distinct, server, soup_text, unicast

__all__ = ["RecoveryConfig", "RerequestConfig", "SnapshotConfig"]

_MAX_SERVERS = 8

_Server = Annotated[str, BeforeValidator(server)]


class RerequestConfig(Table):
    """Who is asked for missing messages, once waiting has not brought them: the `[recovery.rerequest]` table.

    MoldUDP64 request packets over UDP. Left out: nobody is asked.
    """

    servers: Annotated[
        list[_Server],
        AfterValidator(distinct),
        Field(
            min_length=1,
            max_length=_MAX_SERVERS,
            description=f'a list of the venue\'s re-request servers, e.g. ["10.0.0.1:26500"], 1 to {_MAX_SERVERS}',
        ),
    ]
    local: Annotated[
        str | None,
        AfterValidator(lambda value: None if value is None else unicast(value)),
        Field(description="this machine's IPv4 address to ask from; left out: the kernel's choice"),
    ] = None
    max_messages: Annotated[
        int, Field(ge=1, le=65_534, description="the most messages that one request may ask for, 1 to 65534")
    ] = 1000
    per_second: Annotated[int, Field(ge=1, le=1_000_000, description="the most requests in a second, 1 to 1000000")] = (
        1000
    )
    timeout_us: Annotated[
        int,
        Field(
            ge=100,
            le=60_000_000,
            description="microseconds to wait for an answer before asking again, 100 to 60000000",
        ),
    ] = 20_000
    attempts: Annotated[
        int, Field(ge=1, le=255, description="how often the same messages are asked for in vain, 1 to 255")
    ] = 3
    give_up_us: Annotated[
        int,
        Field(
            ge=1000,
            le=600_000_000,
            description="microseconds after which a gap is no longer asked for, whatever came of it, 1000 to 600000000",
        ),
    ] = 1_000_000
    max_gap: Annotated[
        int,
        Field(
            ge=1,
            le=1 << 32,
            description="a number of messages; a longer gap is left to the snapshot at once, 1 to 4294967296",
        ),
    ] = 50_000


class SnapshotConfig(Table):
    """Where the books are fetched from when messages cannot be had: the `[recovery.snapshot]` table.

    GLIMPSE 5.0 over SoupBinTCP. Left out: what was not re-sent is lost, and the books stay flagged.
    """

    servers: Annotated[
        list[_Server],
        AfterValidator(distinct),
        Field(
            min_length=1,
            max_length=_MAX_SERVERS,
            description=f'a list of the venue\'s snapshot servers, e.g. ["10.0.0.1:26501"], 1 to {_MAX_SERVERS}',
        ),
    ]
    username: Annotated[
        str, AfterValidator(soup_text), Field(max_length=6, description="the login's name, at most 6 ASCII characters")
    ] = ""
    password: Annotated[
        str,
        AfterValidator(soup_text),
        Field(max_length=10, repr=False, description="the login's password, at most 10 ASCII characters"),
    ] = ""
    timeout_s: Annotated[
        float, Field(gt=0, le=3600, description="seconds that one fetch may take, above 0 to 3600")
    ] = 10.0
    attempts: Annotated[
        int, Field(ge=1, le=255, description="fetches in a row, one server after the other, 1 to 255")
    ] = 2
    retry_s: Annotated[
        float,
        Field(
            ge=0, le=86_400, description="seconds to the next try after as many have failed, 0 (none is made) to 86400"
        ),
    ] = 30.0
    max_bytes: Annotated[
        int,
        Field(ge=1 << 16, le=1 << 36, description="the most bytes of a snapshot, 65536 to 68719476736"),
    ] = 1 << 30
    sequence: Annotated[
        Literal["next", "last"],
        Field(
            description='what the snapshot\'s number means: "next" (the first message it does not hold) or '
            '"last" (the last one it holds)'
        ),
    ] = "next"


class RecoveryConfig(Table):
    """What is done about messages that no line brought."""

    rerequest: Annotated[RerequestConfig | None, Field(description="a [recovery.rerequest] table")] = None
    snapshot: Annotated[SnapshotConfig | None, Field(description="a [recovery.snapshot] table")] = None

    def to_core(self) -> dict[str, Any]:
        """The dictionary that the compiled core takes; times in ns."""
        rerequest, snapshot = self.rerequest, self.snapshot
        return {
            "rerequest": rerequest
            and {
                "servers": rerequest.servers,
                "local": rerequest.local,
                "max_messages": rerequest.max_messages,
                "per_second": rerequest.per_second,
                "timeout_ns": rerequest.timeout_us * 1000,
                "attempts": rerequest.attempts,
                "give_up_ns": rerequest.give_up_us * 1000,
                "max_gap": rerequest.max_gap,
            },
            "snapshot": snapshot
            and {
                "servers": snapshot.servers,
                "username": snapshot.username,
                "password": snapshot.password,
                "timeout_ns": round(snapshot.timeout_s * 1e9),
                "attempts": snapshot.attempts,
                "retry_ns": round(snapshot.retry_s * 1e9),
                "max_bytes": snapshot.max_bytes,
                "last_included": snapshot.sequence == "last",
            },
        }
