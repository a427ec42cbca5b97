"""Trading days and their midnights."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barewire import _time
from barewire._errors import ConfigError

from .venue import MIDNIGHT_2020_01_30


def test_midnight_in_winter_summer_and_on_the_day_the_clocks_change() -> None:
    assert _time.midnight_ns(dt.date(2020, 1, 30)) == MIDNIGHT_2020_01_30
    # A real capture: 34,200 s after midnight came at 13:30:00 UTC.
    assert _time.midnight_ns(dt.date(2023, 8, 22)) + 34_200 * 10**9 == 1_692_711_000 * 10**9
    # 2023-11-05 has 25 hours: its midnight is still in summer time.
    assert _time.midnight_ns(dt.date(2023, 11, 6)) - _time.midnight_ns(dt.date(2023, 11, 5)) == 25 * 3600 * 10**9


@given(st.dates(dt.date(1970, 1, 2), dt.date(2100, 1, 1)), st.integers(0, 22 * 3600 * 10**9))
def test_a_time_belongs_to_the_day_whose_midnight_it_follows(date: dt.date, after: int) -> None:
    assert _time.date_of(_time.midnight_ns(date) + after) == date


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("01302020.NASDAQ_ITCH50", dt.date(2020, 1, 30)),
        ("/data/2019/01302020.NASDAQ_ITCH50.gz", dt.date(2020, 1, 30)),
        ("S013020-v50.txt.gz", dt.date(2020, 1, 30)),
        ("aapl-20200130-10k.bin", dt.date(2020, 1, 30)),
        ("itch_2020-01-30.pcap.zst", dt.date(2020, 1, 30)),
        ("20201399.bin", None),
        ("20200230.bin", None),
        ("120200130999.bin", None),
        ("locate-13-10k.bin", None),
    ],
)
def test_dates_in_names(name: str, date: dt.date | None) -> None:
    assert _time.date_from_name(name) == date


@given(st.text())
def test_any_other_text_is_no_date(text: str) -> None:
    try:
        found = _time.parse_date(text)
    except ConfigError as error:
        assert error.key == "date"
        assert error.value == text
    else:
        assert found.isoformat() == text
