"""`bench latency`, `rate` and `burst`: short runs of each. What they measure is not asserted; that it adds up is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, skip_or_fail

LATENCY = ("bench", "latency", "--rate", "20k", "--messages-per-packet", "4", "--duration", "0.3", "--json")
DOCUMENTED = {
    "path",
    "mean_us",
    "stddev_us",
    "p50_us",
    "p99_us",
    "trimmed_mean_us",
    "trimmed_stddev_us",
    "sent",
    "lost",
    "rate_msgs_per_s",
    "stolen_pct",
}


def adds_up(run: dict[str, Any]) -> None:
    assert run["sent"] > 0
    assert run["sent"] == run["received"] + run["lost"]
    assert run["samples"] <= run["received"]
    assert run["packets"] * run["messages_per_packet"] == pytest.approx(run["sent"])


def installed() -> str:
    program = shutil.which("barewire", path=str(Path(sys.executable).parent))
    assert program is not None
    return program


def strays() -> list[str]:
    """Interfaces of a benchmark that are outside its namespaces. What others make meanwhile is theirs."""
    return [name for name in os.listdir("/sys/class/net") if name.startswith("bw-")]


def namespaces(pid: int) -> set[str]:
    """The network namespaces that a process has: those of its threads, and those it has open."""
    found = set()
    for pattern in ("task/*/ns/net", "fd/*"):
        for link in Path(f"/proc/{pid}").glob(pattern):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("net:"):
                found.add(target)
    return found


def everybodys_namespaces() -> set[str]:
    return set().union(*(namespaces(int(pid)) for pid in os.listdir("/proc") if pid.isdigit()))


def test_the_json_is_as_documented_and_adds_up(barewire: Cli) -> None:
    paths = "legacy,kernel,io_uring,packet_mmap,af_xdp"
    result = json.loads(barewire(*LATENCY, "--paths", paths, "--runs", "2").stdout)
    rows = {row["path"]: row for row in result["results"]}
    if os.geteuid() == 0 and result["network"] != "veth":
        skip_or_fail(f"no namespaces: {result['loopback_because']}")
    assert set(rows) | set(result["left_out"]) == set(paths.split(","))
    if result["network"] == "veth":
        assert not result["left_out"]
    for row in rows.values():
        assert set(row) >= DOCUMENTED
        adds_up(row)
        assert len(row["runs"]) == 2
        assert row["sent_all_runs"] == sum(run["sent"] for run in row["runs"])
        for run in row["runs"]:
            adds_up(run)
        assert row["p90_us"] in [run["p90_us"] for run in row["runs"]]
        assert row["inconclusive"] == all(run["stolen_pct"] > 5 for run in row["runs"])
        above = [share for share, _ in row["ccdf"]]
        assert above == sorted(above, reverse=True)
        assert set(row["of_legacy"]) >= {"mean_us", "stddev_us", "p50_us"}
    assert rows["legacy"]["of_legacy"]["mean_us"] == 1
    assert result["messages_per_packet"] == 4
    assert set(result["machine"]) == {"cpu", "cores", "virtual", "kernel"}
    assert not strays()


def test_people_get_a_table_and_a_picture(barewire: Cli, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = [argument for argument in LATENCY if argument != "--json"]
    said = barewire(*arguments, "--paths", "legacy,kernel", "--runs", "1", "--plot", tmp_path / "plot").stdout
    for word in ("kernel, best", "legacy, best", "median", "mean 99%", "stolen %", "of legacy"):
        assert word in said
    assert (tmp_path / "plot/latency.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "plot/latency.html").read_text()
    assert "<svg" in page
    assert "kernel, best" in page
    assert "<script" not in page
    assert "src=" not in page


def test_rate_and_burst(barewire: Cli) -> None:
    arguments = ("--paths", "legacy,kernel", "--json", "--duration")
    found = json.loads(barewire("bench", "rate", *arguments, "0.1", "--rate", "20k", "--most", "80k").stdout)
    for row in found["results"]:
        assert row["lost"] == 0
        assert row["rate_msgs_per_s"] <= 80_000 * 1.1
        assert row["limited_by"] in ("host", "sender", "receiver", "most asked for")
    found = json.loads(barewire("bench", "burst", *arguments, "0.01", "--rate", "10k").stdout)
    for row in found["results"]:
        assert 0 <= row["burst_ms"] <= 10
        assert row["asked_msgs_per_s"] == 100_000
        assert row["survives_10_ms"] == (row["burst_ms"] >= 10)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--paths", "kernel,telepathy"), "--paths 'kernel,telepathy': expected names out of legacy, kernel"),
        (("--pin", "0"), "--pin '0': expected two cores, SENDER,RECEIVER"),
        (("--pin", "0,99999"), "--pin '0,99999': expected two cores"),
        (("--rate", "fast"), "--rate 'fast': expected a whole number"),
    ],
)
def test_wrong_options_are_named(barewire: Cli, arguments: tuple[str, ...], says: str) -> None:
    failed = barewire("bench", "latency", *arguments, check=False)
    assert failed.returncode == 2
    assert failed.stderr.startswith(f"barewire: error: {says}")
    assert failed.stderr.count("\n") == 1


def test_what_is_left_out_says_what_it_lacks() -> None:
    drop = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    if drop and shutil.which("setpriv") is None:
        skip_or_fail("no setpriv to drop root's capabilities with")
    command = [*drop, installed(), *LATENCY, "--paths", "kernel,packet_mmap,af_xdp", "--runs", "1"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "over loopback instead of a veth pair: network namespaces need CAP_SYS_ADMIN" in ran.stderr
    for path in ("packet_mmap", "af_xdp"):
        (said,) = (line for line in ran.stderr.splitlines() if f"{path} is left out: " in line)
        assert "CAP_" in said
    result = json.loads(ran.stdout)
    assert [row["path"] for row in result["results"]] == ["kernel"]
    assert set(result["left_out"]) == {"packet_mmap", "af_xdp"}
    adds_up(result["results"][0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_was_ended(number: signal.Signals) -> None:
    if os.geteuid() != 0:
        skip_or_fail("namespaces need root")
    command = [installed(), "bench", "latency", "--paths", "af_xdp", "--rate", "10k", "--duration", "60"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    own = os.readlink("/proc/self/ns/net")
    try:
        until = time.monotonic() + 60
        made: set[str] = set()
        while len(made) < 2:
            assert running.poll() is None and time.monotonic() < until, running.stderr and running.stderr.read()
            time.sleep(0.05)
            made = namespaces(running.pid) - {own}
        time.sleep(0.5)
        running.send_signal(number)
        _, stderr = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    assert stderr == ""
    assert not made & everybodys_namespaces()
    assert not strays()
