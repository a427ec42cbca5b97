"""The programs of examples/ run as their first lines say."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from conftest import REPOSITORY, Cli

EXAMPLES = REPOSITORY / "examples"
# Addresses of this file's own, so that it may run beside the other tests.
LINE = "239.255.64.31:26731"


@pytest.fixture
def exchange() -> Iterator[None]:
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
        "--duration",
        "60",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield
    process.terminate()
    process.wait(timeout=10)


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


@pytest.mark.usefixtures("exchange")
def test_follow(config: Path) -> None:
    program = Path(sys.executable).with_name("barewire")
    name = config.read_text().split('"')[-2]
    with subprocess.Popen([program, "run", config, "--duration", "20"], stdout=subprocess.DEVNULL) as feed:
        deadline = time.monotonic() + 15
        while not Path(f"/dev/shm/barewire.{name}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        command: list[str | Path] = [sys.executable, EXAMPLES / "follow.py", name, "2.5"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        feed.terminate()
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert "the feed is alive" in last
    assert int(last.split()[0]) > 100


def test_bars(barewire: Cli, tmp_path: Path) -> None:
    day, out = tmp_path / "day.bin", tmp_path / "bars.parquet"
    barewire("sim", "--no-send", "--binaryfile", day, "--messages", "20k", "--instruments", "20")
    subprocess.run([sys.executable, EXAMPLES / "bars.py", day, "2024-07-01", out], check=True, timeout=60)
    bars = pl.read_parquet(out)
    assert len(bars) > 10
    assert ((bars["low"] <= bars["open"]) & (bars["open"] <= bars["high"]) & (bars["volume"] > 0)).all()
