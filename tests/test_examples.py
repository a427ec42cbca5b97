"""The programs of examples/ run as their first lines say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from conftest import REPOSITORY, Cli

EXAMPLES = REPOSITORY / "examples"
# Addresses of this file's own, so that it may run beside the other tests.
LINE = "239.255.64.31:26731"


@contextmanager
def exchanging() -> Iterator[None]:
    """A simulated exchange on loopback."""
    program = Path(sys.executable).with_name("barewire")
    command: list[str | Path] = [
        program,
        "sim",
        "--line",
        f"{LINE}@lo",
        "--rate",
        "20k",
        "--instruments",
        "50",
        "--live-orders",
        "2000",  # with few to begin with, it trades at once
        "--duration",
        "60",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def exchange() -> Iterator[None]:
    """The same, for the whole of a test."""
    with exchanging():
        yield


@pytest.fixture
def config(tmp_path: Path) -> Path:
    group, port = LINE.split(":")
    path = tmp_path / "feed.toml"
    path.write_text(
        f'[feed]\nprotocol = "itch-5.0"\n[[lines]]\nname = "A"\ngroup = "{group}"\nport = {port}\ninterface = "lo"\n'
        f'[ring]\nname = "examples-{time.time_ns()}"\n'
    )
    return path


@pytest.mark.usefixtures("exchange")
def test_imbalance(config: Path, barewire: Cli) -> None:
    strategy = f"{EXAMPLES / 'imbalance.py'}:Imbalance"
    done = barewire("run", config, "--strategy", strategy, "--duration", "3")
    assert "imbalance: the mid price followed" in done.stdout


@contextmanager
def feed(config: Path) -> Iterator[str]:
    """A feed in a process of its own; the name of its ring."""
    program = Path(sys.executable).with_name("barewire")
    name = config.read_text().split('"')[-2]
    with subprocess.Popen([program, "run", config, "--duration", "30"], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 15
        while not Path(f"/dev/shm/barewire.{name}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            yield name
        finally:
            process.terminate()


def output(*command: str | Path) -> list[str]:
    """The lines that a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.usefixtures("exchange")
def test_follow(config: Path) -> None:
    with feed(config) as name:
        last = output(sys.executable, EXAMPLES / "follow.py", name, "2.5")[-1]
    assert "the feed is alive" in last
    assert int(last.split()[0]) > 100


@pytest.mark.usefixtures("exchange")
def test_follow_goes_on_with_the_next_feed(config: Path) -> None:
    with feed(config) as name:
        command = [sys.executable, "-u", str(EXAMPLES / "follow.py"), name, "5"]
        follower = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert follower.stdout is not None
        lines = [follower.stdout.readline()]
    with follower, feed(config):
        lines += follower.stdout.readlines()
    assert follower.returncode == 0
    said = "".join(lines)
    assert "waiting for the next one" in said
    assert "the feed is back, in epoch" in said
    counts = [int(line.split()[0]) for line in lines if " records, " in line]
    assert 0 < counts[0] < counts[-1]


def test_asyncio(config: Path) -> None:
    # The feed is there first: trades of orders that it has not seen are not told.
    with feed(config) as name, exchanging():
        lines = output(sys.executable, EXAMPLES / "asyncio_quotes.py", name, "2.5")
    assert any(line.startswith("trade ") for line in lines)
    assert any(line.startswith("quote ") for line in lines)
    trades, quotes, rows = (int(word) for word in lines[-1].split() if word.isdigit())
    assert trades > 0
    assert quotes > rows > 0  # it was slow, and told less than there was


@pytest.mark.usefixtures("exchange")
def test_ring_reader(config: Path, tmp_path: Path) -> None:
    """The C reader, which another feed's restart ends: it reads one ring."""
    program = tmp_path / "ring_reader"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", f"-I{REPOSITORY / 'include'}"]
    subprocess.run(["cc", *flags, EXAMPLES / "ring_reader.c", "-o", program], check=True)
    assert len((EXAMPLES / "ring_reader.c").read_text().splitlines()) <= 30
    with feed(config) as name:
        time.sleep(0.5)
        reader = subprocess.Popen([program, name, str(os.geteuid())], stdout=subprocess.PIPE, text=True)
        other = subprocess.run([program, name, "64001"], capture_output=True, text=True, timeout=60, check=False)
        time.sleep(0.5)
    assert (other.returncode, other.stdout) == (1, "")
    assert "Operation not permitted" in other.stderr
    lines = reader.communicate(timeout=60)[0].splitlines()
    assert reader.returncode == 0
    records = [line for line in lines if not line.startswith("lost")]
    assert len(records) > 100
    numbers = [int(line.split()[0]) for line in records]
    assert numbers == sorted(set(numbers))


def test_analysis() -> None:
    lines = output(sys.executable, EXAMPLES / "analysis.py")
    assert sum("shape:" in line for line in lines) == 4
    assert not any("shape: (0," in line for line in lines)


@pytest.mark.usefixtures("exchange")
def test_native(config: Path) -> None:
    command: list[str | Path] = [sys.executable, EXAMPLES / "native.py", config, "1.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(r"^(\d+) quotes, (\d+) of them narrow, (\d+) signals read$", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    quotes, narrow, signals = map(int, found.groups())
    assert quotes >= narrow >= signals > 0
    assert "ns a call on average" in done.stdout


def test_bars(barewire: Cli, tmp_path: Path) -> None:
    day, out = tmp_path / "day.bin", tmp_path / "bars.parquet"
    barewire("sim", "--no-send", "--binaryfile", day, "--messages", "20k", "--instruments", "20")
    subprocess.run([sys.executable, EXAMPLES / "bars.py", day, "2024-07-01", out], check=True, timeout=60)
    bars = pl.read_parquet(out)
    assert len(bars) > 10
    assert ((bars["low"] <= bars["open"]) & (bars["open"] <= bars["high"]) & (bars["volume"] > 0)).all()


def test_pairs(tmp_path: Path) -> None:
    from barewire._study.session import Market, simulator  # two venues that follow the same prices

    lines = [{"group": f"239.255.64.{number}", "port": 26700 + number, "interface": "lo"} for number in (33, 34)]
    paths = []
    for number, line in enumerate(lines):
        paths.append(tmp_path / f"{number}.toml")
        rows = "".join(f"{key} = {value!r}\n" for key, value in line.items())
        book = "instruments = 1024\norders = 8192\nlevels = 8192\n"
        paths[-1].write_text(f'[feed]\nprotocol = "itch-5.0"\n[[lines]]\nname = "A"\n{rows}[book]\n{book}')
    market = Market(seconds=60.0, rate=2_000, live_orders=200)
    venues = [
        simulator(market, 1, number, lines=[line], real_time=True, rate=2_000.0) for number, line in enumerate(lines, 1)
    ]
    command: list[str | Path] = [sys.executable, EXAMPLES / "pairs.py", *paths, "AAPL", "MSFT", "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as example:
        time.sleep(2)  # it listens by then, and hears the symbols
        for venue in venues:
            venue.start()
        said, _ = example.communicate(timeout=60)
        for venue in venues:
            venue.stop()
    assert example.returncode == 0, said
    rows_line, _, ratio_line, position = said.splitlines()
    assert int(rows_line.split()[0]) > 100
    assert int(ratio_line.split()[3]) > 20
    assert position.endswith("MSFT against 1000 AAPL")
