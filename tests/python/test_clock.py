"""The clock behind receive times: what a feed says of it, over every receive path, is what its records carry.

No card here stamps packets: hardware times are tested with made-up stamps beside the code that takes them (crates/io).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import barewire
from barewire._clock import clock_of

from .namespaces import Net, two_namespaces, until
from .test_paths import configuration, ended, ring_name, running, send
from .venue import free_line
from conftest import skip_or_fail

UNKNOWN = 2**64 - 1


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    if os.geteuid() != 0:
        skip_or_fail("needs root: network namespaces")
    with two_namespaces() as made:
        yield made


@pytest.mark.parametrize(
    ("path", "asked", "source"),
    [
        ("kernel", "hardware", "kernel"),
        ("kernel", "user", "user"),
        ("io_uring", "hardware", "kernel"),
        ("packet_mmap", "hardware", "kernel"),
        ("packet_mmap", "user", "user"),
        ("af_xdp", "hardware", "user"),
    ],
)
def test_a_feed_stamps_by_the_clock_that_it_tells_of(
    net: Net, tmp_path: Path, path: str, asked: str, source: str
) -> None:
    name = ring_name(path)
    feed = running(net, configuration(tmp_path, path, more=f'timestamps = "{asked}"'), name)
    try:
        ring = barewire.Ring.attach(name, oldest=True)
        sent = send(net, messages=4000)
        heard = ended(feed)
    finally:
        feed.kill()
        feed.communicate()
    assert heard["digests"]["events"] == sent["digests"]["events"]
    told = [line for line in heard["receive"] if line.startswith("line")]
    by = {"kernel": "receive times by the kernel", "user": "receive times by the feed thread"}
    assert told
    assert all(by[source] in line for line in told), told
    why = "no hardware stamps: the card or its driver has none"
    assert all((why in line) == (asked == "hardware") for line in told), told
    assert heard["clock"]["source"] == ring.clock.source == source
    assert ring.clock.bound_ns == 0 if source == "kernel" else ring.clock.bound_ns is not None
    batches = list(ring)
    sources = {code for batch in batches for code in set(batch.mbo["ts_source"].tolist())}
    assert sources == {code for code, known in barewire.TS_SOURCES.items() if known == source}
    assert not any((batch.mbo["flags"] & 8).any() for batch in batches)
    # The stream says the same, before anything else.
    first = batches[0].status[0]
    assert (first["code"], first["state"]) == (b"K", str(min(sources)).encode())
    # And as of the last time that it changed (the machine's own clock may have been set right meanwhile), the bound.
    changes = [record for batch in batches for record in batch.status if record["code"] == b"K"]
    assert (changes[-1]["value"] == UNKNOWN) == (ring.clock.total_ns is None)


def test_a_feed_s_clock_and_its_records_of_it() -> None:
    config = {"feed": {"protocol": "itch-5.0"}, "lines": [free_line()], "ring": {"capacity": 1024}}
    feed = barewire.Feed.from_config(config)
    assert feed.clock == barewire.Clock("none", None, None)
    with feed:
        batch = feed.read(timeout=5.0)
        assert batch is not None
        until(lambda: feed.clock.source == "kernel", "the feed says nothing of its clock")
        assert feed.clock.bound_ns == 0
        [event] = batch.events()
        assert isinstance(event, barewire.StatusEvent)
        assert (event.code_name, event.state, event.symbol) == ("clock", "3", "")
        total = feed.clock.total_ns
        assert event.value == (UNKNOWN if total is None else event.value)


@pytest.mark.parametrize(
    ("stats", "clock", "text"),
    [
        ({}, barewire.Clock("none", None, None), "none, of unknown error; the system's own error is not known"),
        (
            {"clock_source": 1, "clock_bound_ns": 312, "clock_utc_bound_ns": 4_500_000},
            barewire.Clock("nic", 312, 4_500_000),
            "nic, within 312 ns of the system; within 4,500 us of UTC",
        ),
        (
            {"clock_source": 2, "clock_bound_ns": UNKNOWN, "clock_utc_bound_ns": 5},
            barewire.Clock("capture", None, 5),
            "capture, of unknown error; within 5 ns of UTC",
        ),
        (
            {"clock_source": 4, "clock_bound_ns": 0, "clock_utc_bound_ns": UNKNOWN},
            barewire.Clock("user", 0, None),
            "user, within 0 ns of the system; the system's own error is not known",
        ),
        (
            {"clock_source": 99, "clock_bound_ns": UNKNOWN, "clock_utc_bound_ns": 5},
            barewire.Clock("none", None, None),
            "none, of unknown error; the system's own error is not known",
        ),
    ],
)
def test_what_statistics_tell_of_a_clock(stats: dict[str, int], clock: barewire.Clock, text: str) -> None:
    assert clock_of(stats) == clock
    assert str(clock) == text
    known = clock.bound_ns is not None and clock.utc_bound_ns is not None
    assert clock.total_ns == ((clock.bound_ns or 0) + (clock.utc_bound_ns or 0) if known else None)
