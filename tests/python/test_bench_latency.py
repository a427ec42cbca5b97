"""Short runs of `bench latency` and its kin. It is asserted that they add up, not what they measure."""

from __future__ import annotations

import ctypes
import json
import os
import platform
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


def bpf_objects(pid: int) -> set[tuple[str, int]]:
    """The BPF programs and maps that a process has open."""
    found = set()
    for path in Path(f"/proc/{pid}/fdinfo").glob("*"):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(":")
            if name in ("prog_id", "map_id"):
                found.add((name, int(value)))
    return found


def existing_bpf_objects() -> set[tuple[str, int]]:
    """All that the kernel has: BPF_PROG_GET_NEXT_ID and BPF_MAP_GET_NEXT_ID of bpf(2)."""
    number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    libc = ctypes.CDLL(None)
    found = set()
    for name, command in (("prog_id", 11), ("map_id", 12)):
        attribute = (ctypes.c_uint32 * 3)()
        while libc.syscall(number, command, ctypes.byref(attribute), ctypes.sizeof(attribute)) == 0:
            found.add((name, attribute[1]))
            attribute[0] = attribute[1]
    return found


def everybodys_namespaces() -> set[str]:
    return set().union(*(namespaces(int(pid)) for pid in os.listdir("/proc") if pid.isdigit()))


def test_the_json_is_as_documented_and_adds_up(barewire: Cli) -> None:
    paths = "legacy,legacy_tcp,kernel,io_uring,packet_mmap,af_xdp"
    result = json.loads(barewire(*LATENCY, "--paths", paths, "--runs", "2").stdout)
    rows = {row["path"]: row for row in result["results"]}
    if os.geteuid() == 0 and result["network"] != "veth":
        skip_or_fail(f"no namespaces: {result['loopback_because']}")
    assert set(rows) | set(result["left_out"]) == set(paths.split(","))
    if result["network"] == "veth":
        assert not result["left_out"]
        assert (result["sender"], result["no_program_because"]) == ("program", None)
    for row in rows.values():
        assert row["sender"] == ("tcp" if row["path"] == "legacy_tcp" else result["sender"])
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
    limits = ("host", "sender", "receiver", "most asked for", "longest asked for")
    sizes = ("--messages-per-packet", "1,30")
    found = json.loads(barewire("bench", "rate", *arguments, "0.1", "--rate", "20k", "--most", "80k", *sizes).stdout)
    rows = {(row["path"], row["most_messages_per_packet"]): row for row in found["results"]}
    assert set(rows) == {(path, size) for path in ("legacy", "kernel") for size in (1, 30)}
    for (_, size), row in rows.items():
        assert row["lost"] == 0
        assert row["rate_msgs_per_s"] <= 80_000 * 1.1
        assert row["limited_by"] in limits
        assert row["messages_per_packet"] <= size
        reference = rows["legacy", size]["rate_msgs_per_s"]
        assert row["times_legacy"] == (pytest.approx(row["rate_msgs_per_s"] / reference) if reference else None)
    found = json.loads(barewire("bench", "burst", *arguments, "0.01", "--rate", "10k").stdout)
    for row in found["results"]:
        assert 0 <= row["burst_ms"] <= 10
        assert row["asked_msgs_per_s"] == 100_000
        assert row["survives"] == (row["burst_ms"] >= 10)
        assert row["limited_by"] in limits
        assert row["lost_of_longest"] <= row["sent_of_longest"]


@pytest.mark.parametrize("sender", ["program", "udp"])
def test_sustain(barewire: Cli, sender: str) -> None:
    if sender == "program" and os.geteuid() != 0:
        skip_or_fail("a program in the kernel needs root")
    arguments = ("--paths", "kernel,legacy_tcp", "--rate", "50k", "--duration", "0.3", "--sender", sender, "--json")
    ran = barewire("bench", "sustain", *arguments, check=False)
    rows = json.loads(ran.stdout)["results"]
    for row in rows:
        adds_up(row)
        assert row["samples"] == row["packets"] or row["lost"]
        assert row["asked_msgs_per_s"] == 50_000
        assert row["limited_by"] in ("nobody", "sender", "receiver")
        assert row["limited_by"] == "receiver" or row["lost"] == 0
    # A machine that others use may be too slow; what is lost or late is never passed over.
    assert ran.returncode == any(row["limited_by"] != "nobody" for row in rows)


def test_drain(barewire: Cli) -> None:
    paths = "legacy,kernel,af_xdp" if os.geteuid() == 0 else "legacy,kernel"
    arguments = ("--paths", paths, "--packets", "300", "--rounds", "2", "--json")
    rows = {row["path"]: row for row in json.loads(barewire("bench", "drain", *arguments).stdout)["results"]}
    assert set(rows) == set(paths.split(","))
    for row in rows.values():
        assert (row["sent"], row["lost"]) == (pytest.approx(600, abs=4), 0)
        assert row["packets_per_s"] >= row["median_packets_per_s"] > 0
        assert row["times_legacy"] == pytest.approx(row["packets_per_s"] / rows["legacy"]["packets_per_s"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--paths", "kernel,telepathy"),
            "--paths 'kernel,telepathy': expected names out of legacy, legacy_tcp, kernel",
        ),
        (("--pin", "0"), "--pin '0': expected two cores, SENDER,RECEIVER"),
        (("--pin", "0,99999"), "--pin '0,99999': expected two cores"),
        (("--rate", "fast"), "--rate 'fast': expected a whole number"),
        (("--sender", "pigeon"), "--sender 'pigeon': expected one of auto, program, udp"),
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
    assert "sent by a UDP socket instead of a program in the kernel" in ran.stderr
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
        # Program and maps of the receiver, and of the sender.
        loaded: set[tuple[str, int]] = set()
        while len({thing for thing in loaded if thing[0] == "prog_id"}) < 2:
            assert running.poll() is None and time.monotonic() < until
            time.sleep(0.05)
            loaded = bpf_objects(running.pid)
        time.sleep(0.2)
        running.send_signal(number)
        _, stderr = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    assert stderr == ""
    assert not made & everybodys_namespaces()
    assert not strays()
    # The kernel lets go of them a little later.
    assert loaded
    while remaining := loaded & existing_bpf_objects():
        assert time.monotonic() < until, remaining
        time.sleep(0.05)
