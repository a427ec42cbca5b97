"""A bad network, lost messages, servers that bring them back: what a strategy sees is what was sent, or it is told.

The simulator sends over multicast on loopback and writes every message to a BinaryFILE; a feed hears what its network
leaves. The file, replayed, is the truth.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import barewire
from barewire import _core
from barewire._cli.sim import simulator_config
from barewire._impair import Given, parse_impairments

from .venue import free_line

PROGRAM = str(Path(sys.executable).parent / "barewire")
SNAPSHOT = 32
STALE = 4


def free_port(kind: socket.SocketKind) -> int:
    """A port on loopback that nobody uses."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Exchange(NamedTuple):
    """A simulator, the lines it sends to, and its file."""

    simulator: _core.Simulator
    lines: list[dict[str, Any]]
    file: Path
    rerequest: str
    glimpse: str

    def feed(self, *, rerequest: dict[str, Any] | None = None, snapshot: dict[str, Any] | None = None) -> barewire.Feed:
        """A feed that hears it, with the simulator's servers where the tables are given."""
        recovery = {}
        if rerequest is not None:
            # Generous: the machine may be taken away for a while in any test.
            bounds = {"attempts": 50, "give_up_us": 20_000_000, "timeout_us": 50_000}
            recovery["rerequest"] = {"servers": [self.rerequest], **bounds, **rerequest}
        if snapshot is not None:
            recovery["snapshot"] = {"servers": [self.glimpse], **snapshot}
        return barewire.Feed.from_config(
            {
                "feed": {"protocol": "itch-5.0"},
                "lines": self.lines,
                "sequencing": {"hold_us": 2000, "line_timeout_us": 600_000},
                "recovery": recovery,
                "ring": {"capacity": 1 << 20},
                "book": {"instruments": 128, "orders": 1 << 15, "levels": 1 << 14},
            }
        )


@contextmanager
def exchange(
    folder: Path,
    *impair: str,
    rerequest_fault: str | None = None,
    glimpse_fault: str | None = None,
    **options: Any,
) -> Iterator[Exchange]:
    """An exchange of 100,000 messages a second, not yet started."""
    lines = [free_line("A"), free_line("B")]
    impairments = parse_impairments([Given("impair", text) for text in impair], "AB")

    def server(fault: str | None, kind: socket.SocketKind) -> dict[str, Any] | None:
        at = {"address": "127.0.0.1", "port": free_port(kind), "fault": fault, "delay_ns": 5_000_000}
        return None if fault is None else at

    rerequest = server(rerequest_fault, socket.SOCK_DGRAM)
    glimpse = server(glimpse_fault, socket.SOCK_STREAM)
    file = folder / "sent.bin"
    given = {"seed": 7, "instruments": 40, "live_orders": 3000, "rate": 100_000.0, "messages": 80_000, **options}
    simulator = _core.Simulator(
        simulator_config(
            real_time=True,
            lines=[{key: line[key] for key in ("group", "port", "interface")} for line in lines],
            binaryfile=str(file),
            impairments=impairments and [one.to_core() for one in impairments],
            rerequest=rerequest,
            glimpse=glimpse,
            **given,
        )
    )
    where = [f"127.0.0.1:{at['port'] if at else 1}" for at in (rerequest, glimpse)]
    yield Exchange(simulator, lines, file, *where)


class Heard(NamedTuple):
    """What a feed told."""

    feed: barewire.Feed
    events: list[tuple[Any, ...]]
    gaps: list[barewire.GapEvent]
    statuses: list[barewire.StatusEvent]


COMPARED = ["sequence", "instrument_id", "action", "side", "order_id", "price", "size"]


def hear(feed: barewire.Feed, venue: Exchange, *, begun: bool = False) -> tuple[Heard, dict[str, Any]]:
    """A session from its begin, or from now on, to its end: what was told, and the simulator's report."""
    batches = []
    with feed:
        if not begun:
            venue.simulator.start()
        for batch in feed:
            assert batch.lost == 0
            batches.append(batch)
    report = venue.simulator.stop()
    mbo = [batch.mbo[batch.mbo["flags"] & SNAPSHOT == 0] for batch in batches]
    events = [row for rows in mbo for row in rows[COMPARED].tolist()]
    others = [event for batch in batches for event in batch.events() if event.kind > 2]
    gaps = [event for event in others if isinstance(event, barewire.GapEvent)]
    statuses = [event for event in others if isinstance(event, barewire.StatusEvent)]
    assert feed.ended
    check_sums(feed.stats.as_dict())
    return Heard(feed, events, gaps, statuses), report


def check_sums(stats: dict[str, int]) -> None:
    """Every packet and message is in exactly one counter."""
    names = list(stats)
    for total, first, last in (
        ("packets", "packets_delivered", "packets_refused"),
        ("messages", "messages_duplicate", "book_out_of_capacity"),
    ):
        assert stats[total] == sum(stats[name] for name in names[names.index(first) : names.index(last) + 1])


def truth(venue: Exchange, gaps: list[barewire.GapEvent]) -> tuple[barewire.Replay, list[tuple[Any, ...]]]:
    """What was sent, without what the gaps name."""
    replay = barewire.replay(venue.file, records="mbo", date="2026-01-05")
    rows = np.concatenate([batch.mbo[COMPARED] for batch in replay])
    seen = np.ones(len(rows), np.bool_)
    for gap in gaps:
        seen &= (rows["sequence"] < gap.sequence) | (rows["sequence"] >= gap.sequence + gap.count)
    return replay, rows[seen].tolist()


def check_all_but(heard: Heard, venue: Exchange, report: dict[str, Any]) -> None:
    """Every message was delivered, once and in order, but those that the gaps name.

    What a message does to an order whose own messages were lost is another thing than with the whole stream. To a new
    order it always does the same.
    """
    stats = heard.feed.stats
    assert sum(gap.count for gap in heard.gaps) == stats.messages_missing
    assert stats.messages - stats.messages_duplicate == report["messages"] - stats.messages_missing
    numbers = [event[0] for event in heard.events]
    assert numbers == sorted(numbers)
    sent = truth(venue, heard.gaps)[1]
    assert set(numbers) <= {event[0] for event in sent}
    alone = Counter(event[0] for event in sent)
    added = [event for event in sent if event[2] == b"A" and alone[event[0]] == 1]
    of_added = {event[0] for event in added}
    assert [event for event in heard.events if event[0] in of_added] == added
    assert len(added) > 1000


def check_books(feed: barewire.Feed, replay: barewire.Replay) -> None:
    """Every book is that of the file: its orders, in their priority."""
    symbols = set(replay.symbols.known())
    assert symbols == set(feed.symbols.known())
    assert len(symbols) > 10
    for symbol in symbols:
        assert feed.book(symbol).orders().tolist() == replay.book(symbol).orders().tolist(), symbol
    assert feed.digest() == replay.digest()


# --- asking again --------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["none", "partial", "slow"])
def test_what_both_lines_lose_is_asked_for(tmp_path: Path, fault: str) -> None:
    impair = ["loss=10%", "B:loss=20%,jitter=300us,duplicate=2%,reorder=3%/4"]
    with exchange(tmp_path, *impair, rerequest_fault=fault, different_cuts=True) as venue:
        heard, report = hear(venue.feed(rerequest={}), venue)
        stats = heard.feed.stats
        assert (heard.gaps, stats.messages_missing) == ([], 0)
        replay, sent = truth(venue, [])
        assert heard.events == sent
        check_books(heard.feed, replay)
    assert stats.messages_recovered > 0
    assert stats.requests > 0
    assert report["rerequest"]["answered"] > 0
    assert report["rerequest"]["messages"] >= stats.messages_recovered
    a, b = report["impaired"]
    assert a["lost"] > a["sent"] * 0.05
    assert b["lost"] > b["sent"] * 0.1
    assert (a["duplicated"], a["reordered"], a["delayed"]) == (0, 0, 0)
    assert min(b["duplicated"], b["reordered"], b["delayed"]) > 0
    lines = {line.name: line for line in heard.feed.lines()}
    # The venue ends a session three times; who has heard the first need not wait for the others.
    assert a["arrived"] - 2 <= lines["A"].packets <= a["arrived"]
    assert b["arrived"] - 2 <= lines["B"].packets <= b["arrived"]
    assert lines["A"].first_copies + lines["B"].first_copies + stats.messages_recovered >= report["messages"]
    assert lines["B"].lagging > 0
    assert 0 < lines["B"].lag_p50_ns <= lines["B"].lag_p99_ns <= lines["B"].lag_max_ns


@pytest.mark.parametrize("fault", ["silent", "wrong", None])
def test_what_nobody_brings_is_declared_to_the_message(tmp_path: Path, fault: str | None) -> None:
    with exchange(tmp_path, "loss=10%", "B:jitter=200us", rerequest_fault=fault, messages=60_000) as venue:
        asked = None if fault is None else {"attempts": 2, "timeout_us": 2000}
        heard, report = hear(venue.feed(rerequest=asked), venue)
        stats = heard.feed.stats
        assert len(heard.gaps) == stats.gaps > 0
        assert {gap.reason_name for gap in heard.gaps} <= {"sequence_jump", "session_end"}
        check_all_but(heard, venue, report)
    if fault != "wrong":  # which tells the truth now and then, as liars do
        assert stats.messages_recovered == 0
    if fault is None:
        assert (stats.requests, report["rerequest"]) == (0, None)
    else:
        assert stats.requests_unanswered > 0
        assert report["rerequest"]["requests"] > 0


def test_a_server_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    with exchange(tmp_path, "loss=10%", rerequest_fault="none", messages=60_000) as venue:
        nobody = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
        feed = venue.feed(rerequest={"servers": [nobody, venue.rerequest], "timeout_us": 5000})
        heard, _ = hear(feed, venue)
        assert (heard.gaps, heard.events) == ([], truth(venue, [])[1])
    assert heard.feed.stats.requests_unanswered > 0


# --- snapshots -----------------------------------------------------------------------------------


def test_both_lines_dead_for_a_second(tmp_path: Path) -> None:
    with exchange(tmp_path, "loss=0.1%", "dead=500ms-1500ms", glimpse_fault="none", messages=220_000) as venue:
        heard, report = hear(venue.feed(snapshot={}), venue)
        stats = heard.feed.stats
        replay, sent = truth(venue, heard.gaps)
        assert heard.events == sent
        check_books(heard.feed, replay)
    assert stats.snapshots_loaded > 0
    assert stats.messages_snapshot > 1000
    assert stats.recovery_longest_ns > 0
    assert report["glimpse"] is not None
    told = [status.code_name for status in heard.statuses]
    assert told.count("line_down") == told.count("line_up") == stats.line_failures == 2
    assert {status.value for status in heard.statuses if status.code_name == "line_down"} == {0, 1}
    assert told.count("recovered") == stats.snapshots_loaded
    assert {gap.reason_name for gap in heard.gaps} == {"snapshot"}
    longest = max(heard.gaps, key=lambda gap: gap.count)
    assert longest.count > 10_000
    assert not any(gap.flags & STALE for gap in heard.gaps)
    assert [line.times_down for line in heard.feed.lines()] == [1, 1]


def test_a_late_join_is_made_whole_by_a_snapshot(tmp_path: Path) -> None:
    with exchange(tmp_path, glimpse_fault="none", rate=50_000.0) as venue:
        venue.simulator.start()
        while venue.simulator.progress()["messages"] < 20_000:
            time.sleep(0.01)
        heard, _ = hear(venue.feed(snapshot={}), venue, begun=True)
        replay, sent = truth(venue, heard.gaps)
        assert heard.events == sent
        check_books(heard.feed, replay)
    (gap,) = heard.gaps
    assert gap.sequence == 1
    assert gap.count >= 20_000
    assert [status.code_name for status in heard.statuses].count("recovered") == 1


@pytest.mark.parametrize("fault", ["silent", "partial", "wrong"])
def test_a_snapshot_that_cannot_be_had_costs_no_message_that_came(tmp_path: Path, fault: str) -> None:
    impair = "drop=100-120"
    with exchange(tmp_path, impair, glimpse_fault=fault, messages=60_000, messages_per_packet=10) as venue:
        heard, report = hear(venue.feed(snapshot={"attempts": 1, "timeout_s": 0.3, "retry_s": 0}), venue)
        check_all_but(heard, venue, report)
    stats = heard.feed.stats
    assert (stats.snapshots_loaded, stats.snapshots_failed) == (0, 1)
    (gap,) = heard.gaps
    assert gap.reason_name == "sequence_jump"
    assert gap.count == stats.messages_missing == 210


# --- the command line ----------------------------------------------------------------------------


def test_sim_and_run_lose_nothing(tmp_path: Path) -> None:
    lines = [free_line("A"), free_line("B")]
    rerequest = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    glimpse = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    tables = "".join(
        "[[lines]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in line.items()) for line in lines
    )
    (tmp_path / "feed.toml").write_text(
        f'[feed]\nprotocol = "itch-5.0"\n{tables}'
        f'[recovery.rerequest]\nservers = ["{rerequest}"]\nattempts = 50\ngive_up_us = 20_000_000\n'
        f'[recovery.snapshot]\nservers = ["{glimpse}"]\n'
    )
    run = subprocess.Popen(
        [PROGRAM, "run", "feed.toml", "--json", "--interval", "0.2"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    assert run.stdout.readline()  # it listens
    where = [part for line in lines for part in ("--line", f"{line['group']}:{line['port']}@lo")]
    options = [
        "--rate",
        "50k",
        "-n",
        "100k",
        "--seed",
        "3",
        "--loss",
        "10%",
        "--burst-loss",
        "B:1%/20%",
        "--delay-jitter",
        "B:100us",
        "--line-skew",
        "50us",
    ]
    options += ["--rerequest-fault", "slow:2ms"]
    sim = subprocess.run(
        [PROGRAM, "sim", *where, "--json", *options, "--rerequest", rerequest, "--glimpse", glimpse],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(sim.stdout)
    out, _ = run.communicate(timeout=60)
    final = json.loads(out.splitlines()[-1])
    assert final["final"]
    assert final["messages"] == report["messages"] > 100_000
    assert (final["messages_missing"], final["stats"]["messages_missing"]) == (0, 0)
    assert final["stats"]["messages_recovered"] > 0
    assert [line["name"] for line in final["lines"]] == ["A", "B"]
    assert report["impaired"][1]["delayed"] > 0
    assert report["rerequest"]["answered"] > 0


def test_a_session_s_report_says_what_was_impaired_and_served() -> None:
    line = free_line("A")
    where = f"{line['group']}:{line['port']}@lo"
    rerequest = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    arguments = ["--line", where, "--rate", "max", "-n", "20k", "--loss", "A:50%", "--rerequest", rerequest]
    done = subprocess.run([PROGRAM, "sim", *arguments, "--linger", "0"], capture_output=True, text=True, check=True)
    assert "line A: " in done.stdout
    assert "re-requests: 0" in done.stdout
    assert "snapshots" not in done.stdout
    taken = subprocess.run(
        [PROGRAM, "sim", *arguments[:-1], "203.0.113.1:26500"], capture_output=True, text=True, check=False
    )
    assert taken.returncode == 1
    (problem,) = taken.stderr.splitlines()
    assert problem.startswith("barewire: error: rerequest 203.0.113.1:26500: cannot listen there")


@pytest.mark.parametrize("impair", [[], ["--loss", "20%", "--delay-jitter", "B:500us", "--duplicate", "2%"]])
def test_the_simulator_s_digests_are_those_of_its_capture(tmp_path: Path, impair: list[str]) -> None:
    pcap = str(tmp_path / "day.pcap")

    def run(*arguments: str) -> dict[str, Any]:
        done = subprocess.run([PROGRAM, *arguments, "--json"], capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    small = ["--instruments", "20", "--live-orders", "1k", "-n", "20k", "--seed", "5"]
    sent = run("sim", "--no-send", "--pcap", pcap, *small, *impair, "--digest")
    heard = run("replay", pcap, "--digest")
    assert heard["digests"] == {key: sent["digests"][key] for key in ("events", "books")}
    assert heard["stats"]["messages_missing"] == sent["digests"]["messages_missing"]
    assert bool(impair) is (sent["digests"]["messages_missing"] > 0)


# --- recorded captures ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of both lines, a few packets a millisecond."""
    path = tmp_path_factory.mktemp("day") / "day.pcap"
    files = {"pcap": str(path), "binaryfile": str(path.with_suffix(".bin"))}
    config = simulator_config(messages=30_000, instruments=20, live_orders=1000, messages_per_packet=3, **files)
    _core.Simulator(config).run()
    return path


def digests(path: Path, *impair: str, **options: Any) -> tuple[str, str, barewire.FeedStats]:
    """Of the events and of the final books, with the counters."""
    replay = barewire.replay(path, impair=impair, digest=True, **options)
    for _ in replay:
        pass
    check_sums(replay.stats.as_dict())
    return replay.events_digest(), replay.digest(), replay.stats


def test_the_same_seed_the_same_losses(day: Path) -> None:
    whole = digests(day)
    lossy = digests(day, "loss=10%", seed=1)
    assert lossy == digests(day, "loss=10%", seed=1)
    assert lossy[2].messages_missing > 0
    other = digests(day, "loss=10%", seed=2)
    assert len({whole[0], lossy[0], other[0]}) == 3


@pytest.mark.parametrize(
    "impair",
    [
        ["A:loss=100%"],
        ["A:loss=20%"],
        ["duplicate=30%", "reorder=20%/10", "jitter=1ms"],
        ["A:drop=1-3+50+100-200", "B:drop=4-40+210-250"],
        ["A:burst=5%/20%", "B:delay=500us", "B:duplicate=10%"],
        ["A:dead=0s-1s+2s-3s", "B:dead=1s-2s"],
    ],
    ids=" ".join,
)
def test_what_one_line_loses_the_other_brings(day: Path, impair: list[str]) -> None:
    whole = digests(day)
    # What is held back comes after 10 ms at the latest.
    found = digests(day, *impair, seed=5, hold_us=20_000)
    assert found[2].messages_missing == 0
    assert found[:2] == whole[:2]


def test_a_fixed_loss_is_a_gap_to_the_message(day: Path) -> None:
    replay = barewire.replay(day, impair="drop=11-20")
    gaps = [event for batch in replay for event in batch.events() if isinstance(event, barewire.GapEvent)]
    whole = barewire.replay(day)
    numbers = [number for batch in whole for number in batch.records["sequence"].tolist()]
    (gap,) = gaps
    assert gap.reason_name == "sequence_jump"
    assert gap.count == replay.stats.messages_missing
    assert min(numbers) <= gap.sequence < gap.sequence + gap.count <= max(numbers)
    assert [line.name for line in replay.lines()] == ["A", "B"]
    whole_packets = [line.packets for line in whole.lines()]
    assert [line.packets for line in replay.lines()] == [packets - 10 for packets in whole_packets]


def test_digests_on_the_command_line(day: Path) -> None:
    def run(*arguments: str) -> str:
        done = subprocess.run([PROGRAM, "replay", str(day), *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    plain = run("--digest")
    events, books = (line.split() for line in plain.splitlines())
    assert (events[0], books[0]) == ("events", "books")
    assert plain == run("--digest", "--loss", "A:10%", "--seed", "9")
    lossy = json.loads(run("--impair", "loss=20%", "--seed", "9", "--stats", "--json"))
    assert lossy["stats"]["messages_missing"] > 0
    assert lossy["digests"]["books"] != books[1]
    assert lossy["lines"][0]["packets"] > 0
    text = run("--stats", "--line-skew", "1ms")
    (row,) = [line.split() for line in text.splitlines() if line.startswith("B ")]
    # Every packet of B came a millisecond behind A's.
    assert float(row[5].replace(",", "")) >= 1000


SERVERS = [
    "rerequest",
    "rerequest:partial",
    "rerequest:silent,rerequest:slow:1ms",
    "rerequest:wrong,rerequest:wrong,rerequest",
]


@pytest.mark.parametrize("servers", SERVERS)
def test_one_line_and_a_server_lose_nothing(day: Path, tmp_path: Path, servers: str) -> None:
    # One line, as real captures have it; and messages without packets or numbers.
    alone = tmp_path / "day.bin"
    messages = day.with_suffix(".bin")
    alone.write_bytes(messages.read_bytes())
    for path, options in ((day, {"port": 26477, "group": "239.255.64.1"}), (alone, {"date": "2026-01-05"})):
        whole = digests(path, **options)
        found = digests(path, "loss=5%", "jitter=100us", recover=servers, seed=11, **options)
        assert found[:2] == whole[:2]
        assert found[2].messages_missing == 0
        assert found[2].messages_recovered > 0


def test_a_snapshot_makes_the_final_books_right(day: Path) -> None:
    whole = digests(day)
    found = digests(day, "loss=5%", recover="glimpse:silent,glimpse", seed=3)
    assert found[2].snapshots_loaded > 0
    assert found[2].snapshots_failed > 0
    assert found[0] != whole[0]
    assert found[1] == whole[1]


def test_one_capture_as_two_lines(day: Path) -> None:
    options = {"port": 26477, "group": "239.255.64.1"}
    whole = digests(day, **options)
    found = digests(day, "A:loss=50%", "A:delay=1ms", lines=2, **options)
    assert found[2].messages_missing == 0
    assert found[:2] == whole[:2]
    assert found[2].line_b_packets > found[2].line_a_packets > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"impair": "los=1%"}, "impair 'los=1%': unknown key 'los'; did you mean loss?"),
        ({"impair": "B:loss=1%", "lines": 1}, "impair 'B:loss=1%': no line B; expected A alone"),
        ({"recover": "snapshot"}, "recover 'snapshot': expected rerequest or glimpse, or with a fault"),
        ({"recover": "glimpse:lazy"}, "recover glimpse: 'lazy': expected none, slow:50ms, partial, silent or wrong"),
        ({"recover": "glimpse:slow"}, "recover glimpse: 'slow': expected none, slow:50ms, partial, silent or wrong"),
        ({"lines": 9}, "lines 9: expected a number of lines, 1 to 8"),
        ({"seed": -1}, "seed -1: expected a whole number from 0 to 2^64 - 1"),
        ({"hold_us": 1.5}, "hold_us 1.5: expected a whole number of microseconds, 0 to 60000000"),
    ],
)
def test_wrong_arguments_are_named(day: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(barewire.ConfigError, match=re.escape(message)):
        barewire.replay(day, **options)
    with pytest.raises(barewire.ConfigError, match=r"expected barewire\.replay\(\.\.\., digest=True\)"):
        barewire.replay(day).events_digest()


def test_real_captures_on_a_bad_network(captures: Path) -> None:
    files = [path for path in sorted((captures / "itch50").rglob("*")) if path.suffix in (".pcap", ".bin")]
    assert len(files) > 10
    recovered = 0
    for path in files:
        # Over a network even where it does nothing: packets without numbers get them there.
        whole = digests(path, "loss=0%", date="2020-01-30")
        network = ["loss=10%", "reorder=5%", "duplicate=5%", "jitter=100us"]
        found = digests(path, *network, recover="rerequest:partial,rerequest", seed=4, date="2020-01-30")
        assert found[:2] == whole[:2], path
        assert whole[1] == digests(path, date="2020-01-30")[1], path
        recovered += found[2].messages_recovered
    assert recovered > 1000
