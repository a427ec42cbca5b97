"""Trading days: dates, and the midnight that a venue's clock counts from.

ITCH timestamps count nanoseconds since midnight US Eastern and carry no date (TotalView-ITCH 5.0, "Data types").
"""

from __future__ import annotations

import datetime as dt
import os
import re
from functools import lru_cache
from zoneinfo import ZoneInfo

from ._errors import ConfigError

__all__ = ["date_from_name", "date_of", "midnight_ns", "parse_date", "today"]

_NANOS = 1_000_000_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@lru_cache(maxsize=1)
def _eastern() -> ZoneInfo:
    return ZoneInfo("America/New_York")


def midnight_ns(date: dt.date) -> int:
    """Midnight US Eastern of `date`, in ns since 1970, UTC."""
    local = dt.datetime(date.year, date.month, date.day, tzinfo=_eastern())
    return (local - _EPOCH) // dt.timedelta(seconds=1) * _NANOS


def date_of(ns: int) -> dt.date:
    """The US Eastern date of a time in ns since 1970, UTC."""
    return (_EPOCH + dt.timedelta(microseconds=ns // 1000)).astimezone(_eastern()).date()


def today() -> dt.date:
    """The date in New York now."""
    return dt.datetime.now(_eastern()).date()


def parse_date(value: str | dt.date) -> dt.date:
    """`YYYY-MM-DD`, or a date as it is. Raises ConfigError."""
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, dt.date):
        return value
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            pass
    expected = "a calendar date as YYYY-MM-DD, e.g. 2020-01-30"
    raise ConfigError(f"date {value!r}: expected {expected}", key="date", value=value, expected=expected)


# As files are named in the field: 01302020.NASDAQ_ITCH50, S013020-v50.txt.gz, aapl-20200130-10k.bin,
# itch_2020-01-30.pcap
_NAME_PATTERNS = (
    (re.compile(r"(?<!\d)(?P<y>(?:19|20)\d\d)[-_.]?(?P<m>0[1-9]|1[0-2])[-_.]?(?P<d>0[1-9]|[12]\d|3[01])(?!\d)"), 0),
    (re.compile(r"(?<!\d)(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01])(?P<y>(?:19|20)\d\d)(?!\d)"), 0),
    (re.compile(r"^S(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01])(?P<y>\d\d)(?!\d)"), 2000),
)


def date_from_name(path: str) -> dt.date | None:
    """The date that a file's name carries, in one of the field's usual spellings; `None` where there is none."""
    name = os.path.basename(path)
    for pattern, century in _NAME_PATTERNS:
        found = pattern.search(name)
        if found:
            try:
                return dt.date(century + int(found["y"]), int(found["m"]), int(found["d"]))
            except ValueError:
                continue
    return None
