"""What latency is worth: the sessions it is measured on, the measure itself, and what people type."""

from __future__ import annotations

import csv
import datetime as dt
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from barewire import ConfigError
from barewire._study import latency as latencies
from barewire._study import model
from barewire._study.arbitrage import ArbitrageRules, run_arbitrage
from barewire._study.latency import of_ccdf, of_mean
from barewire._study.pairs import PairRules, expected_error_pct, hedge_ratio, run_pair
from barewire._study.session import DEFAULT_PAIR, Market, Quotes, Session, simulated

from conftest import REPOSITORY

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
SHORT = Market(seconds=4.0)
NONE = of_mean(0, 0)


@pytest.fixture(scope="module")
def sessions() -> list[Session]:
    return [simulated(SHORT, seed, DEFAULT_PAIR) for seed in range(1, 7)]


# --- the simulated market ------------------------------------------------------------------------


def _moves(quotes: Quotes, grid: np.ndarray) -> np.ndarray:
    """Returns on a grid, found by going through the quotes one by one."""
    prices, place = [], 0
    for when in grid.tolist():
        while place + 1 < len(quotes) and quotes.ns[place + 1] <= when:
            place += 1
        prices.append((quotes.bid[place] + quotes.ask[place]) / 2)
    return np.diff(np.log(prices))


def test_quotes_have_the_hedge_ratio_that_is_said_to_be_true(sessions: list[Session]) -> None:
    """By total least squares of long returns, of all seeds together: ticks hardly matter over 50 ms."""
    both = [
        np.stack(
            [_moves(session.venues[0][symbol], np.arange(0, session.span_ns, 50_000_000)) for symbol in DEFAULT_PAIR]
        )
        for session in sessions
    ]
    a, b = np.concatenate(both, axis=1)
    truth = sessions[0].truth
    assert truth is not None
    assert float(np.corrcoef(a, b)[0, 1]) > 0.8
    assert abs(float(a @ b / (b @ b)) / truth.hedge_ratio - 1) < 0.15


def test_the_second_venue_follows_by_its_lag(sessions: list[Session]) -> None:
    """The shift at which two venues' moves agree best is the lag."""
    shifts = np.arange(-600_000, 900_001, 50_000)
    total = np.zeros(len(shifts))
    for session in sessions:
        first, second = (venue["MSFT"] for venue in session.venues)
        grid = np.arange(1_000_000, session.span_ns - 1_000_000, 100_000)
        lead = _moves(first, grid)
        total += [float(lead @ _moves(second, grid + shift)) for shift in shifts]
    found = int(shifts[np.argmax(total)])
    assert abs(found - SHORT.venue_lag_ns) <= 100_000, dict(zip(shifts.tolist(), total.tolist(), strict=True))


def test_sessions_are_their_seeds(sessions: list[Session]) -> None:
    again = simulated(SHORT, 1, DEFAULT_PAIR)
    for venue, other in zip(sessions[0].venues, again.venues, strict=True):
        for symbol in DEFAULT_PAIR:
            assert np.array_equal(venue[symbol].ns, other[symbol].ns)
            assert np.array_equal(venue[symbol].bid, other[symbol].bid)
    assert not np.array_equal(sessions[0].venues[0]["AAPL"].bid, sessions[1].venues[0]["AAPL"].bid)
    for session in sessions:
        for venue in session.venues:
            for quotes in venue.values():
                assert np.all(quotes.bid < quotes.ask)
                assert np.all(np.diff(quotes.ns) >= 0)


def test_processes_share_a_path_by_the_clock_alone(barewire: Cli, tmp_path: Path) -> None:
    """Two exchanges live at once, in processes of their own: their prices stay together."""
    program = Path(sys.executable).with_name("barewire")
    shape = "--instruments 2 --live-orders 500 --volatility 1000 --rate 20k --seed 5 -d 3"
    started = []
    for venue in (1, 2):
        line = f"--line 239.255.77.{venue}:26777@lo --venue {venue} --binaryfile {tmp_path / str(venue)}.bin"
        command = [str(program), "sim", *line.split(), *shape.split()]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    assert [process.wait(60) for process in started] == [0, 0]
    levels = []
    for venue in (1, 2):
        bbo = ["-o", "-", "--records", "bbo", "--symbols", "MSFT", "--date"]
        today = dt.datetime.now(ZoneInfo("America/New_York")).date().isoformat()
        text = barewire("replay", f"{venue}.bin", *bbo, today, cwd=tmp_path).stdout
        rows = [row for row in csv.DictReader(text.splitlines()) if row["bid_price"] and row["ask_price"]]
        levels.append(
            (
                np.array([int(row["ts_event"]) for row in rows]),
                np.array([float(row["bid_price"]) + float(row["ask_price"]) for row in rows]) / 2e9,
            )
        )
    # From the first trading on, in which the opening's messages are past, to where the earlier one ends.
    begin = max(int(ns[len(ns) // 4]) for ns, _ in levels)
    grid = np.arange(begin, min(int(ns[-1]) for ns, _ in levels) - 100_000_000, 5_000_000)
    first, second = (price[np.searchsorted(ns, grid, "right") - 1] for ns, price in levels)
    assert len(grid) > 50
    # Paths of their own would be dollars apart by now, so far do they stray in half a day.
    assert float(np.ptp(first)) > 0.015
    assert float(np.abs(first - second).mean()) < 0.2


# --- latency -------------------------------------------------------------------------------------


def test_measured_latencies_come_back_with_their_quantiles() -> None:
    random = np.random.default_rng(4)
    sample = np.sort(random.gamma(3.0, 20.0, 5_000))
    ccdf = [(above, float(np.quantile(sample, 1 - above))) for above in np.logspace(0, -3, 121)]
    measured = of_ccdf("gamma", ccdf, correlation_ns=100_000)
    # Far enough apart for each to be a draw of its own, then bursts, where they are alike.
    apart = np.arange(200_000, dtype=np.int64) * 200_000
    drawn = measured.draw(apart, random)
    for share in (0.1, 0.5, 0.9, 0.99):
        assert abs(float(np.quantile(drawn, share)) / 1e3 / float(np.quantile(sample, share)) - 1) < 0.03
    assert abs(float(np.corrcoef(drawn[1:], drawn[:-1])[0, 1])) < 0.02
    close = measured.draw(np.arange(200_000, dtype=np.int64) * 10_000, random)
    assert float(np.corrcoef(close[1:], close[:-1])[0, 1]) > 0.7
    assert abs(float(np.quantile(close, 0.5)) / 1e3 / float(np.quantile(sample, 0.5)) - 1) < 0.05


def test_the_log_normal_has_its_mean_and_deviation() -> None:
    made = of_mean(250, 45)
    assert abs(made.mean_ns / 250e3 - 1) < 1e-3
    assert abs(made.deviation_ns / 45e3 - 1) < 1e-2


def test_a_feed_keeps_its_order() -> None:
    times = np.cumsum(np.random.default_rng(1).integers(0, 50_000, 10_000)).astype(np.int64)
    arrived, kept = latencies.seen(times, of_mean(250, 200), np.random.default_rng(2))
    assert np.all(np.diff(arrived) >= 0)
    assert np.all(arrived >= times)
    assert kept.all()
    lossy = of_mean(250, 200, burst_loss=0.5)
    lost = ~latencies.seen(times, lossy, np.random.default_rng(2))[1]
    assert 0.005 < lost.mean() < 0.2


# --- the pair ------------------------------------------------------------------------------------


def test_without_latency_a_hedge_has_no_error(sessions: list[Session]) -> None:
    for latency in (NONE, of_mean(250, 0)):
        found = run_pair(sessions[0], DEFAULT_PAIR, latency, PairRules(order_ns=0), np.random.default_rng(1))
        assert found["hedge_error_pct"] == 0
    instant = run_pair(sessions[0], DEFAULT_PAIR, NONE, PairRules(order_ns=0), np.random.default_rng(1))
    assert instant["fills"] > 20
    assert instant["failed_hedges"] == 0


def test_more_jitter_means_more_error(sessions: list[Session]) -> None:
    errors = []
    for deviation in (3, 45, 180):
        found = [
            run_pair(session, DEFAULT_PAIR, of_mean(400, deviation), PairRules(), np.random.default_rng(seed))
            for seed, session in enumerate(sessions)
        ]
        errors.append(np.mean([row["hedge_error_pct"] for row in found]))
    assert errors[0] < errors[1] < errors[2]


def test_continuous_prices_have_the_error_that_theory_says() -> None:
    """Two random walks with one ratio, quoted without ticks every 5 us: the slope shrinks by E|L1 - L2| / interval."""
    random = np.random.default_rng(8)
    steps = random.standard_normal(1_000_000) * 1e-6
    ns = np.arange(len(steps), dtype=np.int64) * 5_000
    price = np.exp(np.cumsum(steps))
    latency = of_mean(250, 45)
    first, second = ((latencies.seen(ns, latency, random)[0], price) for _ in range(2))
    span = int(ns[-1])
    for interval_ns in (500_000, 1_000_000, 2_500_000):
        slope = hedge_ratio(first, second, span, interval_ns, round(latency.mean_ns))
        expected = expected_error_pct(latency, interval_ns)
        assert abs(100 * (1 - slope) - expected) < 0.25 * expected + 0.2
    assert 4.5 < expected_error_pct(latency, 1_000_000) < 5.5
    assert 1.8 < expected_error_pct(latency, 2_500_000) < 2.2


# --- the arbitrage -------------------------------------------------------------------------------


def test_without_latency_every_opportunity_is_captured(sessions: list[Session]) -> None:
    rules = ArbitrageRules(order_ns=0)
    found = [run_arbitrage(session, "AAPL", NONE, rules, np.random.default_rng(1)) for session in sessions]
    assert sum(row["opportunities"] for row in found) > 30
    for row in found:
        assert row["captured"] == row["opportunities"] == row["attempts"]
        assert row["phantom"] == row["one_legged"] == 0
        assert row["arbitrage_pnl"] >= 0


def test_more_latency_captures_less(sessions: list[Session]) -> None:
    captured = []
    for mean in (5, 60, 150, 400):
        rows = [
            run_arbitrage(session, "AAPL", of_mean(mean, mean / 10), ArbitrageRules(), np.random.default_rng(seed))
            for seed, session in enumerate(sessions)
        ]
        captured.append(sum(row["captured"] for row in rows))
        for row in rows:
            assert row["captured"] + row["lost_to_rivals"] + row["phantom"] <= row["attempts"]
    assert captured[0] > captured[1] > captured[2] > captured[3]


# --- confidence ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 6, 20])
def test_intervals_hold_the_mean_as_often_as_they_say(count: int) -> None:
    """Of few seeds, too, where resampling alone gives intervals that are much too narrow."""
    random = np.random.default_rng(3)
    held = 0
    for trial in range(300):
        low, high = model.interval(random.gamma(4.0, 1.0, count), seed=trial)
        held += low <= 4.0 <= high
    assert 0.88 < held / 300 < 0.99


def test_students_quantiles_are_those_of_the_tables() -> None:
    for freedom, quantile in ((1, 12.7062), (10, 2.22814), (11, 2.20099), (19, 2.09302), (60, 2.00030), (999, 1.96234)):
        assert model._student(freedom) == pytest.approx(quantile, rel=1e-4)


# --- the command ---------------------------------------------------------------------------------

QUICK = ("--seeds", "2", "-d", "1")


def test_study_for_programs(barewire: Cli, tmp_path: Path) -> None:
    bench = {
        "results": [
            {"path": "legacy", "mean_us": 300.0, "ccdf": [[1.0, 100.0], [0.5, 290.0], [0.001, 900.0]]},
            {"path": "af_xdp", "mean_us": 4.0, "ccdf": [[1.0, 2.0], [0.5, 4.0], [0.001, 9.0]]},
        ]
    }
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    arguments = ["study", "--before", "bench.json", "--after", "bench.json:af_xdp", *QUICK, "--json", "-o", "page.html"]
    found = json.loads(barewire(*arguments, cwd=tmp_path).stdout)
    assert [found["latency"][role]["name"] for role in ("before", "after")] == ["legacy", "af_xdp"]
    assert found["latency"]["before"]["p50_us"] == pytest.approx(290)
    for name in ("hedge_error_pct", "failed_pct", "captured_pct", "arbitrage_pnl"):
        assert set(found["results"][name]) == {"before", "after", "difference"}
    assert found["true_hedge_ratio"] == pytest.approx(0.9557, abs=1e-3)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 1
    assert not re.search(r"""(?:src|href)=["']https?:""", page.replace("xmlns:xlink", ""))
    for line in found["assumptions"]:
        assert html.escape(line) in page


def test_recordings_are_studied_too(barewire: Cli, tmp_path: Path) -> None:
    for venue in (1, 2):
        barewire(
            "sim", "--no-send", "--venue", str(venue), "--trading", "2", "--simulated-rate", "5k",
            "--volatility", "1000", "--instruments", "2", "--live-orders", "1k", "--messages-per-packet", "1",
            "--pcap", f"{venue}.pcap", cwd=tmp_path,
        )  # fmt: skip
    found = json.loads(
        barewire("study", "1.pcap", "2.pcap", "--pair", "AAPL,MSFT", "--seeds", "2", "--json", cwd=tmp_path).stdout
    )
    assert found["true_hedge_ratio"] is None
    assert found["results"]["opportunities"]["before"]["mean"] > 0
    assert found["results"]["fills"]["before"]["mean"] > 10
    one = barewire("study", "1.pcap", "--strategy", "pairs", "--seeds", "2", cwd=tmp_path).stdout
    assert "hedge ratio's error" in one
    assert "captured" not in one
    two = barewire("study", "1.pcap", "--seeds", "2", cwd=tmp_path, check=False)
    assert (two.returncode, len(two.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--before", "soon"], "expected MEAN/DEVIATION"),
        (["--before", "0us/3us"], "a mean above 0"),
        (["--after", "x.json"], "wrote (FILE:PATH chooses)"),
        (["--before", "wrong.json"], "'barewire bench latency --json'"),
        (["--before", "words.json"], "'barewire bench latency --json'"),
        (["--before", "no-mean.json"], "'barewire bench latency --json'"),
        (["--before", "nan.json"], "x: expected a ccdf"),
        (["--before", "for-ever.json"], "x: expected latencies of 0 to 60 s"),
        (["--before", "99999999999999999ms/1us"], "expected a mean of 60 s at most"),
        (["--before", "1us/20us"], "a deviation of 10 times that at most"),
        (["--pair", "AAPL"], "two symbols"),
        (["--pair", "AAPL,NOBODY"], "NOBODY is not simulated"),
        (["--strategy", "luck"], "pairs, arbitrage or both"),
        (["a.pcap", "b.pcap", "c.pcap"], "at most two venues"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments: list[str], expected: str, barewire: Cli, tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text('{"results": [1]}')
    (tmp_path / "words.json").write_text('{"results": [{"path": "x", "mean_us": 1, "ccdf": [["a", 1], [0, 2]]}]}')
    (tmp_path / "no-mean.json").write_text('{"results": [{"path": "x", "ccdf": [[1, 1], [0, 2]]}]}')
    (tmp_path / "nan.json").write_text('{"results": [{"path": "x", "mean_us": 1, "ccdf": [[NaN, 1], [0, 2]]}]}')
    (tmp_path / "for-ever.json").write_text('{"results": [{"path": "x", "mean_us": 1, "ccdf": [[1, 1], [0, 1e300]]}]}')
    done = barewire("study", *arguments, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert expected in done.stderr


@pytest.mark.parametrize("ccdf", [[], [[0.5, 3.0]], [[0.5, 3.0], [0.1, 2.0]], [[0.5, -1.0], [0.1, 2.0]]])
def test_impossible_distributions_are_refused(ccdf: list[tuple[float, float]]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        of_ccdf("x", ccdf)


def test_a_report_that_cannot_be_written_is_told_before_the_work(barewire: Cli, tmp_path: Path) -> None:
    done = barewire("study", "--seeds", "1000", "-d", "3600", "-o", "nowhere/page.html", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr == "barewire: error: nowhere/page.html: no such file or directory\n"


def _still(count: int = 100) -> Quotes:
    ns = np.arange(count, dtype=np.int64) * 1_000_000
    price, size = np.full(count, 10.0), np.full(count, 100)
    return Quotes(ns, price, price + 0.01, size, size)


def test_a_leg_that_never_moves_has_no_error() -> None:
    """It has no slope to be off from: nothing is divided by nothing."""
    moving = _still()
    moving.bid[::2] += 0.01
    for first, second in ((_still(), moving), (moving, _still()), (_still(), _still())):
        session = Session(({"A": first, "B": second},), 100_000_000)
        found = run_pair(session, ("A", "B"), of_mean(250, 45), PairRules(), np.random.default_rng(1))
        assert np.isnan(found["hedge_error_pct"])


def test_each_recording_needs_its_own_leg_only(barewire: Cli, tmp_path: Path) -> None:
    """A pair across venues: neither lists the other's instrument."""
    for name, instruments in (("one", "1"), ("two", "2")):
        barewire(
            "sim", "--no-send", "--venue", "1", "--trading", "2", "--simulated-rate", "5k", "--volatility", "1000",
            "--instruments", instruments, "--live-orders", "1k", "--messages-per-packet", "1",
            "--pcap", f"{name}.pcap", cwd=tmp_path,
        )  # fmt: skip
    done = barewire("study", "one.pcap", "two.pcap", "--strategy", "pairs", "--seeds", "2", cwd=tmp_path)
    assert "hedge ratio's error" in done.stdout
    both = barewire("study", "one.pcap", "--strategy", "pairs", "--seeds", "2", cwd=tmp_path, check=False)
    assert "MSFT has no quotes in one.pcap" in both.stderr


def test_venues_are_told_apart_live(barewire: Cli) -> None:
    done = barewire("sim", "--venue-lag", "5", check=False)
    assert done.returncode == 2
    assert "expected --venue beside it" in done.stderr


def test_the_arbitrage_example() -> None:
    program = [sys.executable, str(REPOSITORY / "examples" / "arbitrage.py"), "4"]
    lines = subprocess.run(program, check=True, capture_output=True, text=True).stdout.splitlines()
    found = [[int(number) for number in re.findall(r"(\d+) (?:opportunities|caught)", line)] for line in lines]
    assert len(found) == 3
    (seen, best), (_, bypass), (_, old) = found
    assert seen >= best >= bypass > old
