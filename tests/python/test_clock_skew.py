"""Clocks compared by packets: known offsets and drifts are found again, and so is the one host that is wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import barewire
from barewire import ConfigError
from barewire import _sightings_live as live
from barewire._sightings import read_sightings
from barewire._sightings_live import Collector, Teller
from barewire._skew import Sightings, SkewReport, estimate

from .namespaces import PROGRAM, until

BASE = 1_700_000_000_000_000_000


class SimulatedSite:
    """Hosts that see the same packets: each by a clock of its own, over a path with queueing, and not all of them."""

    def __init__(self, seed: int, hosts: int = 50, packets: int = 4_000, seconds: float = 30.0) -> None:
        self.random = np.random.default_rng(seed)
        self.sent = np.sort(self.random.uniform(0, seconds * 1e9, packets))
        self.offset_ns = self.random.uniform(-300, 300, hosts)
        self.drift_ppb = self.random.uniform(-5, 5, hosts)
        self.queueing_ns = self.random.uniform(50, 300, hosts)
        self.middle = (self.sent[0] + self.sent[-1]) / 2

    def plant(self) -> str:
        """Makes one host's clock wrong by some microseconds; its name."""
        bad = int(self.random.integers(len(self.offset_ns)))
        self.offset_ns[bad] += self.random.choice([-1, 1]) * self.random.uniform(2_500, 6_000)
        return f"h{bad}"

    def sightings(self) -> dict[str, Sightings]:
        """What every host saw. Queueing is below a microsecond."""
        found = {}
        for host, (offset, drift, usual) in enumerate(
            zip(self.offset_ns, self.drift_ppb, self.queueing_ns, strict=True)
        ):
            queued = np.minimum(self.random.exponential(usual, self.sent.size), 999.0)
            times = self.sent + 4_000 + queued + offset + drift * (self.sent - self.middle) / 1e9
            seen = self.random.random(self.sent.size) > 0.02
            numbers = np.arange(1, self.sent.size + 1, dtype=np.uint64)[seen]
            found[f"h{host}"] = Sightings(numbers, (np.round(times[seen]).astype(np.int64) + BASE).astype(np.uint64))
        return found

    def errors(self, report: SkewReport) -> np.ndarray:
        """How far each host's offset is from the truth."""
        found = np.array([one.offset_ns for one in report.hosts])
        return found - (self.offset_ns - np.median(self.offset_ns))


def test_every_offset_and_the_bad_host_over_a_hundred_seeds() -> None:
    within = []
    for seed in range(100):
        site = SimulatedSite(seed)
        bad = site.plant()
        report = estimate(site.sightings())
        errors = site.errors(report)
        assert np.abs(errors).max() < 100, seed
        drifts = np.array([one.drift_ppb for one in report.hosts]) - (site.drift_ppb - np.median(site.drift_ppb))
        assert np.abs(drifts).max() < 5, seed
        assert [one.host for one in report.wrong] == [bad], seed
        within += [abs(error) <= one.confidence_ns for error, one in zip(errors, report.hosts, strict=True)]
    assert np.mean(within) >= 0.95


def test_nobody_is_wrong_where_nobody_is() -> None:
    for seed in range(20):
        assert not estimate(SimulatedSite(seed, hosts=10).sightings()).wrong


@pytest.mark.parametrize("hosts", [2, 3, 5])
def test_a_few_hosts(hosts: int) -> None:
    site = SimulatedSite(7, hosts)
    report = estimate(site.sightings())
    pair = report.pairs[0]
    truth = site.offset_ns[0] - site.offset_ns[1]
    assert abs(pair.offset_ns - truth) <= pair.confidence_ns
    assert all((one.is_wrong is None) == (hosts < 3) for one in report.hosts)
    assert len(report.pairs) == hosts * (hosts - 1) // 2


def test_a_clock_that_was_set_is_wrong_though_its_line_is_not() -> None:
    site = SimulatedSite(3, hosts=12)
    seen = site.sightings()
    late = seen["h4"].ts_recv.astype(np.int64)
    late[: late.size // 2] -= 2_000
    late[late.size // 2 :] += 2_000
    # Around the same middle: only the parts tell.
    seen["h4"] = Sightings(seen["h4"].sequence, late.astype(np.uint64))
    report = estimate(seen)
    assert [one.host for one in report.wrong] == ["h4"]


def test_a_known_path_is_taken_out() -> None:
    site = SimulatedSite(11, hosts=9)
    seen = site.sightings()
    far = Sightings(seen["h2"].sequence, seen["h2"].ts_recv + np.uint64(3_000))
    assert [one.host for one in estimate({**seen, "h2": far}).wrong] == ["h2"]
    report = estimate({**seen, "h2": far}, paths_ns={"h2": 3_000})
    assert not report.wrong
    assert np.abs(site.errors(report)).max() < 100


@settings(max_examples=30)
@given(st.data())
def test_any_hosts_are_either_compared_or_refused(data: st.DataObject) -> None:
    hosts = data.draw(st.integers(0, 4))
    seen = {}
    for host in range(hosts):
        size = data.draw(st.integers(0, 200))
        numbers = data.draw(st.integers(0, 2**64 - 1 - size)) if data.draw(st.booleans()) else 1
        times = data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=size, max_size=size))
        sequence = np.arange(numbers, numbers + size, dtype=np.uint64)
        seen[f"h{host}"] = Sightings(sequence, np.array(times, np.uint64))
    try:
        report = estimate(seen)
    except ConfigError as refused:
        assert "expected" in str(refused)
    else:
        assert len(report.hosts) == hosts
        assert all(np.isfinite([one.offset_ns, one.confidence_ns]).all() for one in report.hosts)


def test_the_command_reads_what_run_and_replay_write(tmp_path: Path) -> None:
    site = SimulatedSite(5, hosts=4, packets=2_000)
    site.offset_ns[:] = [0, 100, -100, 5_000]
    for host, one in site.sightings().items():
        times = pa.array(one.ts_recv, mask=np.arange(one.ts_recv.size) == 3)
        pq.write_table(pa.table({"sequence": one.sequence, "ts_recv": times}), tmp_path / f"{host}.parquet")
    files = [str(tmp_path / f"h{n}.parquet") for n in range(4)]
    done = subprocess.run([PROGRAM, "clock", "skew", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if line.endswith("wrong")] == ["h3"]
    json_of = subprocess.run(
        [PROGRAM, "clock", "skew", *files[:3], "--json"], capture_output=True, text=True, check=True
    )
    assert [one["host"] for one in json.loads(json_of.stdout)["hosts"]] == ["h0", "h1", "h2"]
    for arguments, expected in (
        ([files[0]], "two hosts or more"),
        ([files[0], files[0]], "each host once"),
        ([*files, "--path-ns", "h9=5"], "expected one of: h0, h1, h2, h3"),
        ([*files, "--path-ns", "h1=far"], "a number of nanoseconds"),
        ([*files, "--path-ns", "h1=nan"], "a number of nanoseconds"),
        ([str(tmp_path / "none.parquet"), files[0]], "no such file"),
    ):
        failed = subprocess.run([PROGRAM, "clock", "skew", *arguments], capture_output=True, text=True, check=False)
        assert failed.returncode in (1, 2)
        assert expected in failed.stderr.lower() or expected in failed.stderr, failed.stderr
        assert failed.stderr.count("\n") == 1


def test_captures_of_one_session(tmp_path: Path) -> None:
    """Two hosts' captures of the same packets; one's clock is 7 us ahead."""
    first = tmp_path / "one.pcap"
    made = [PROGRAM, "sim", "--no-send", "--messages", "5000", "--pcap", str(first), "--seed", "3"]
    subprocess.run(made, check=True, capture_output=True)
    data = bytearray(first.read_bytes())
    at = 24
    while at < len(data):
        fraction = int.from_bytes(data[at + 4 : at + 8], "little") + 7_000
        second = int.from_bytes(data[at : at + 4], "little") + fraction // 10**9
        data[at : at + 4] = second.to_bytes(4, "little")
        data[at + 4 : at + 8] = (fraction % 10**9).to_bytes(4, "little")
        at += 16 + int.from_bytes(data[at + 8 : at + 12], "little")
    (tmp_path / "two.pcap").write_bytes(data)
    command = [PROGRAM, "clock", "skew", str(first), f"ahead={tmp_path / 'two.pcap'}", "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert report["pairs"][0]["offset_ns"] == pytest.approx(-7_000, abs=1)


def test_a_collector_keeps_what_makes_sense() -> None:
    collector = Collector("127.0.0.1", 0)
    try:
        for garbage in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff" * 2_000,
            b"[" * 1_023 + b"\n",
            b'{"sightings": 2}\n',
            b'{"sightings": 1, "host": "x"}\n',
            b'{"sightings": 2, "host": "x"}\n' + b"\xff" * 8,
        ):
            before = collector.refused
            with socket.create_connection(("127.0.0.1", collector.port)) as stranger:
                stranger.sendall(garbage)
            until(lambda before=before: collector.refused > before, "refused")  # type: ignore[misc]
        site = SimulatedSite(1, hosts=3, packets=500, seconds=5)
        seen = site.sightings()
        for host, one in seen.items():
            teller = Teller("127.0.0.1", collector.port, host)
            teller.tell(np.stack([one.sequence, one.ts_recv - np.uint64(4_000), one.ts_recv], axis=1))
            teller.close()
        until(lambda: sum(one.sequence.size for one in collector.seen(60).values()) >= 1_400, "all is told")
        same = {host: Sightings(one.sequence, one.ts_recv) for host, one in collector.seen(60).items()}
        assert np.abs(site.errors(estimate(same))).max() < 200
        time.sleep(0.3)
        assert not collector.seen(0.2)
    finally:
        collector.close()


def test_of_long_recordings_the_same_part_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a packet's messages are, and however long each recording is."""
    monkeypatch.setattr("barewire._sightings._MOST", 10_000)
    found = {}
    for host, packets in (("whole", 200_000), ("start", 60_000), ("short", 9_000)):
        first = np.arange(packets, dtype=np.uint64) * np.uint64(20) + np.uint64(1)
        path = tmp_path / f"{host}.parquet"
        pq.write_table(pa.table({"sequence": first, "ts_recv": first + np.uint64(BASE)}), path, row_group_size=7_000)
        found[host] = read_sightings(path, "itch-5.0").sequence
    assert found["short"].size == 9_000
    for host in ("whole", "start"):
        assert 4_000 <= found[host].size <= 10_000
    # A quarter of the time has a quarter of them.
    quarters = np.histogram(found["whole"], 4, (0, 200_000 * 20))[0]
    assert quarters.min() > 0.2 * found["whole"].size
    for host, end in (("start", 60_000 * 20), ("short", 9_000 * 20)):
        assert np.isin(found["whole"][found["whole"] < end], found[host]).all()


def rows_of(seen: Sightings) -> np.ndarray:
    """As a host tells it; the venue's time is made of the number."""
    return np.stack([seen.sequence, seen.sequence * np.uint64(1_000), seen.ts_recv], axis=1)


def test_the_latest_are_those_that_came_last_whatever_the_hosts_clocks_say() -> None:
    """A host that is an hour ahead had made all the others' sightings old."""
    collector = Collector("127.0.0.1", 0)
    tellers = []
    try:
        seen = SimulatedSite(1, hosts=3, packets=500, seconds=5).sightings()
        hour = np.uint64(3_600 * 10**9)
        seen["h1"] = Sightings(seen["h1"].sequence, seen["h1"].ts_recv + hour)
        for host, one in seen.items():
            tellers.append(Teller("127.0.0.1", collector.port, host))
            tellers[-1].tell(rows_of(one))
        until(lambda: sum(one.sequence.size for one in collector.seen(60).values()) >= 1_400, "all is told")
        report = estimate(collector.seen(60))
        assert [one.host for one in report.wrong] == ["h1"]
        assert report.wrong[0].offset_ns == pytest.approx(3_600e9, abs=10_000)
    finally:
        for teller in tellers:
            teller.close()
        collector.close()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_host_that_hears_something_else_does_not_keep_the_others_from_being_compared() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [PROGRAM, "clock", "skew", "--listen", f"127.0.0.1:{port}", "--interval", "0.5", "--json"]
    tellers = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert process.stdout is not None
            until(lambda: listens(port), "it listens")
            seen = SimulatedSite(1, hosts=3, packets=500).sightings()
            seen["h1"] = Sightings(seen["h1"].sequence + np.uint64(10**6), seen["h1"].ts_recv)
            # The stranger first: the others are there once two hosts are compared.
            for host in ("h1", "h0", "h2"):
                tellers.append(Teller("127.0.0.1", port, host))
                tellers[-1].tell(rows_of(seen[host]))
            report = json.loads(process.stdout.readline())
            assert [one["host"] for one in report["hosts"]] == ["h0", "h2"]
            process.terminate()
            assert "left out: h1: expected 64 packets or more" in process.stderr.read()
        finally:
            process.kill()
            for teller in tellers:
                teller.close()


def test_a_host_tells_of_many_batches_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had sent a block for each, thousands a second, and the collector had copied all it kept for each of them."""
    monkeypatch.setattr(live, "_KEPT", 1_000)
    monkeypatch.setattr(live, "_SMALL", 64)
    sent = []
    send = Teller._send

    def counted(teller: Teller) -> None:
        sent.append(teller)
        send(teller)

    monkeypatch.setattr(Teller, "_send", counted)
    rows = rows_of(SimulatedSite(1, hosts=1, packets=3_000).sightings()["h0"])
    numbers = rows[:, 0].tolist()
    collector = Collector("127.0.0.1", 0)
    try:
        teller = Teller("127.0.0.1", collector.port, "h")
        began = time.monotonic()
        for begin in range(0, len(rows), 7):
            teller.tell(rows[begin : begin + 7])
        seconds = time.monotonic() - began
        teller.close()
        until(lambda: "h" in collector.seen(60) and collector.seen(60)["h"].sequence[-1] == numbers[-1], "all is told")
        assert collector.seen(60)["h"].sequence.tolist() == numbers[-1_000:]
        assert len(sent) <= 2 + seconds / live._GATHERED_S
        # Whatever the sizes of blocks.
        sizes = (1, 63, 64, 700, 5, 1_500, 2)
        for size in sizes:
            collector._keep("h", rows[:size])
        kept = [number for size in sizes for number in numbers[:size]]
        assert collector.seen(60)["h"].sequence.tolist() == kept[-1_000:]
        assert sum(map(len, collector._blocks["h"])) < 1_000 + 1_500 + 64
    finally:
        collector.close()


def test_a_host_with_nothing_to_tell_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector had hung up after a quiet minute."""
    monkeypatch.setattr(live, "_STILL_THERE_S", 0.1)
    monkeypatch.setattr(live, "_SILENCE_S", 0.5)
    collector = Collector("127.0.0.1", 0)
    try:
        teller = Teller("127.0.0.1", collector.port, "h")
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            teller.tell(live.NOTHING)
            time.sleep(0.05)
        teller.tell(rows_of(SimulatedSite(1, hosts=1, packets=100).sightings()["h0"]))
        time.sleep(0.25)
        teller.tell(live.NOTHING)
        until(lambda: "h" in collector.seen(60), "told")
        assert not collector.refused
        teller.close()
    finally:
        collector.close()


@pytest.mark.parametrize("hosts", [3, 10])
def test_a_clock_that_was_never_set_leaves_the_others_where_they_are(hosts: int) -> None:
    """It believes that it is 1970: packets that another host missed had been put half a century away."""
    site = SimulatedSite(1, hosts=hosts)
    seen = site.sightings()
    never = seen["h1"].ts_recv - np.uint64(BASE) + np.uint64(10**9)
    report = estimate({**seen, "h1": Sightings(seen["h1"].sequence, never)})
    assert [one.host for one in report.wrong] == ["h1"]
    assert report.wrong[0].offset_ns == pytest.approx(10**9 - BASE, abs=1e6)
    others = [row for row in range(hosts) if row != 1]
    errors = np.array([one.offset_ns for one in report.hosts])[others] - site.offset_ns[others]
    assert np.ptp(errors) < 200
    assert report.seconds == pytest.approx(30, abs=1)


def test_sessions_whose_numbers_begin_again_are_not_mixed() -> None:
    """Hosts that heard two sessions, one of them only the second: by numbers alone they are hours apart."""
    site = SimulatedSite(2, hosts=4, packets=1_000)
    seen = {}
    for host, first in site.sightings().items():
        later = first.ts_recv + np.uint64(7_200 * 10**9)
        sent = first.sequence * np.uint64(10**6)
        second = Sightings(first.sequence, later, sent + np.uint64(7_200 * 10**9))
        if host == "h2":
            seen[host] = second
            continue
        both = np.concatenate([sent, second.session])
        seen[host] = Sightings(
            np.concatenate([first.sequence, first.sequence]), np.concatenate([first.ts_recv, later]), both
        )
    report = estimate(seen)
    assert not report.wrong
    assert report.packets > 1_900
    assert max(one.worst_ns for one in report.hosts) < 1_000
    mixed = {host: Sightings(one.sequence, one.ts_recv) for host, one in seen.items()}
    assert [one.host for one in estimate(mixed).wrong] == ["h2"]


@pytest.mark.parametrize("days", [1, 200, 19_000])
def test_a_clock_that_is_off_by_days_is_wrong_and_not_alone(days: int) -> None:
    """A venue tells the time of day, and the host's clock which day it is: its `ts_event` is off by days as well."""
    site = SimulatedSite(3, hosts=3, packets=1_000)
    seen = site.sightings()
    sent = {host: one.sequence * np.uint64(10**6) + np.uint64(BASE) for host, one in seen.items()}
    seen = {host: replace(one, session=sent[host]) for host, one in seen.items()}
    day, hour = np.uint64(86_400 * 10**9), np.uint64(3_600 * 10**9)
    back = np.uint64(days) * day
    # Midnight in winter is not midnight in summer.
    midnight = back + (hour if days > 100 else np.uint64(0))
    seen["h1"] = Sightings(seen["h1"].sequence, seen["h1"].ts_recv - back, sent["h1"] - midnight)
    report = estimate(seen)
    assert [one.host for one in report.wrong] == ["h1"]
    assert report.wrong[0].offset_ns == pytest.approx(-days * 86_400e9, abs=1e5)


def later_by(path: Path, ns: int, written: Path) -> None:
    """A copy of a capture whose clock is ahead."""
    data = bytearray(path.read_bytes())
    at = 24
    while at < len(data):
        second, fraction = divmod(int.from_bytes(data[at + 4 : at + 8], "little") + ns, 10**9)
        second += int.from_bytes(data[at : at + 4], "little")
        data[at : at + 8] = second.to_bytes(4, "little") + fraction.to_bytes(4, "little")
        at += 16 + int.from_bytes(data[at + 8 : at + 12], "little")
    written.write_bytes(data)


def test_a_capture_of_two_sessions(tmp_path: Path) -> None:
    """The second host's began with the second session."""
    made = [tmp_path / f"{n}.pcap" for n in (1, 2)]
    for number, path in enumerate(made, 1):
        command = [PROGRAM, "sim", "--no-send", "--messages", "5000", "--pcap", str(path), "--seed", str(number)]
        subprocess.run([*command, "--session", f"S{number}"], check=True, capture_output=True)
    later_by(made[1], 3_600 * 10**9, tmp_path / "second.pcap")
    both = tmp_path / "both.pcap"
    both.write_bytes(made[0].read_bytes() + (tmp_path / "second.pcap").read_bytes()[24:])
    later_by(tmp_path / "second.pcap", 7_000, tmp_path / "ahead.pcap")
    command = [PROGRAM, "clock", "skew", str(both), str(tmp_path / "ahead.pcap"), "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert report["pairs"][0]["offset_ns"] == pytest.approx(-7_000, abs=1)


@pytest.mark.parametrize("records", ["bbo", "mbo"])
def test_what_replay_writes_is_compared(tmp_path: Path, records: str) -> None:
    """Its Parquet files had no receive times."""
    first = tmp_path / "one.pcap"
    made = [PROGRAM, "sim", "--no-send", "--messages", "20000", "--pcap", str(first), "--seed", "3"]
    subprocess.run(made, check=True, capture_output=True)
    later_by(first, 7_000, tmp_path / "two.pcap")
    for name in ("one", "two"):
        written = ["--records", records, "--output", str(tmp_path / f"{name}.parquet")]
        subprocess.run([PROGRAM, "replay", str(tmp_path / f"{name}.pcap"), *written], check=True, capture_output=True)
    command = [PROGRAM, "clock", "skew", str(tmp_path / "one.parquet"), str(tmp_path / "two.parquet"), "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert report["pairs"][0]["offset_ns"] == pytest.approx(-7_000, abs=1)


def test_what_was_recovered_was_not_heard(tmp_path: Path) -> None:
    """Its receive time is that of a server's answer."""
    seen = SimulatedSite(4, hosts=1, packets=200).sightings()["h0"]
    flags = np.where(seen.sequence % 5 == 0, 2, np.where(seen.sequence % 7 == 0, 32 | 128, 128)).astype(np.uint8)
    path = tmp_path / "h.parquet"
    pq.write_table(pa.table({"sequence": seen.sequence, "ts_recv": seen.ts_recv, "flags": flags}), path)
    found = read_sightings(path, "itch-5.0").sequence
    assert found.size > 100
    assert not ((found % 5 == 0) | (found % 7 == 0)).any()
    whole = path.read_bytes()
    for damaged, expected in ((whole[: len(whole) // 2], "a whole Parquet file"), (b"PAR1", "a whole Parquet file")):
        path.write_bytes(damaged)
        with pytest.raises(barewire.FormatError, match=expected):
            read_sightings(path, "itch-5.0")
    pq.write_table(pa.table({"sequence": seen.sequence}), path)
    with pytest.raises(barewire.FormatError, match="found no ts_recv"):
        read_sightings(path, "itch-5.0")


# Lines of its own: other tests may be at work on the example's.
LINES = {'"239.255.64.1"': '"239.255.64.78"', "26477": "26578", '"239.255.64.2"': '"239.255.64.79"', "26478": "26579"}


def test_live_hosts_are_compared(tmp_path: Path) -> None:
    """Two feeds of one session on this machine, which have one clock."""
    name = f"skew-{os.getpid()}"
    feeds = []
    for number in (1, 2):
        config = barewire.EXAMPLE_CONFIG.replace('name = "nasdaq-sim"', f'name = "{name}-{number}"')
        for other, line in LINES.items():
            config = config.replace(other, line)
        path = tmp_path / f"{number}.toml"
        path.write_text(config)
        feeds.append(str(path))
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{probe.getsockname()[1]}"
    try:
        for feed in feeds:
            start("run", feed)
        until(lambda: all(Path(f"/dev/shm/barewire.{name}-{n}").exists() for n in (1, 2)), "the rings are there")
        report = start("clock", "skew", "--listen", at, "--interval", "0.5", "--json")
        time.sleep(1.0)
        for number in (1, 2):
            start("clock", "tell", f"{name}-{number}", "--to", at, "--host", f"h{number}", "--every", "5")
        start("sim", "--rate", "5000", "--duration", "30", "--line", "239.255.64.78:26578@lo")
        assert report.stdout is not None
        found = json.loads(report.stdout.readline())
        assert [one["host"] for one in found["hosts"]] == ["h1", "h2"]
        assert abs(found["pairs"][0]["offset_ns"]) < 1e6
        assert found["packets"] >= 64
    finally:
        # Not killed: a feed that is would leave its ring behind.
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.communicate(timeout=30)
