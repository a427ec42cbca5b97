"""`barewire doctor` on machines that are not here, each report whole, and on the one that is.

`BAREWIRE_WRITE_GOLDEN=1` writes the reports anew; read what changed.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barewire._doctor import Machine, Report, Wanted, diagnose, dpdk, netlink
from barewire._doctor.machine import cores_text, parse_cores
from barewire._doctor.scene import Line

from . import machines
from .test_cli import config_text
from .venue import free_line
from conftest import skip_or_fail

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
GOLDEN = Path(__file__).parent.parent / "golden" / "doctor"

LINES = (Line("A", "233.54.12.111", 26477, "enp1s0f0"), Line("B", "233.49.196.111", 26478, "enp1s0f0"))


def report_text(report: Report) -> str:
    """All of a report, a line or a few for each finding."""
    out = [report.machine, f"core {report.core}: {report.core_why}", f"interfaces: {', '.join(report.interfaces)}", ""]
    for one in report.findings:
        out += [f"{one.matters:8}{one.topic}.{one.name}: {one.found}", f"{'':10}best: {one.best}"]
        out += [f"{'':10}mend: {one.mend}"] if one.mend else []
    for path in report.paths:
        out += ["", f"{'works' if path.works else 'no':8}{path.path}: {path.how}"]
        out += [f"{'':10}mend: {path.mend}"] if path.mend else []
    return "\n".join(out) + "\n"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("solarflare", Wanted(core=2, is_busy=True)),
        (
            "e810",
            Wanted(lines=LINES, busy_poll_us=50, path="af_xdp", af_xdp_queues=(8,), ring_bytes=1 << 26, is_given=True),
        ),
        ("cloud", Wanted()),
        (
            "laptop",
            Wanted(
                lines=(Line("A", "239.1.1.1", 700, None), Line("B", "239.1.1.2", 7000, "eth7")),
                core=9,
                ring_bytes=1 << 40,
                is_given=True,
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_machine_s_whole_report(tmp_path: Path, name: str, wanted: Wanted) -> None:
    found = report_text(diagnose(getattr(machines, name)(tmp_path), wanted)).replace(str(tmp_path), "")
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("BAREWIRE_WRITE_GOLDEN"):
        golden.write_text(found)
    assert found == golden.read_text()


def test_what_dpdk_lacks_is_said_one_by_one(tmp_path: Path) -> None:
    """From nothing to a card that is bound to vfio, each mended as the report says."""
    machine = machines.solarflare(tmp_path)

    def add(path: str, text: str = "") -> None:
        file = machine.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def said() -> tuple[bool, str, str | None]:
        report = diagnose(machine, Wanted(core=2, path="dpdk"))
        (one,) = (one for one in report.paths if one.path == "dpdk")
        (state,) = (one for one in report.findings if one.name == "dpdk")
        assert one.mend is None or state.mend == one.mend
        return one.works, one.how, one.mend

    assert said() == (False, "libdpdk is not installed", "sudo apt install libdpdk-dev pkg-config")
    add("/usr/lib/x86_64-linux-gnu/pkgconfig/libdpdk.pc", "Name: DPDK\nVersion: 22.11.11")
    built = "DPDK 22.11.11, but barewire's library for it is not built"
    assert said() == (False, built, "make dpdk   # in barewire's sources")
    add(dpdk.LIBRARY)
    works, how, mend = said()
    assert (works, mend) == (True, None)
    assert how.endswith("on virtual devices: no card is bound to a driver of DPDK's")
    for address, kind in (("0000:03:00.0", "0x020000"), ("0000:04:00.0", "0x010802")):
        add(f"/sys/bus/pci/drivers/vfio-pci/{address}/vendor")
        add(f"/sys/bus/pci/devices/{address}/class", kind)
    assert said()[1].endswith("on 0000:03:00.0 (vfio-pci)")


def test_nothing_at_all_can_be_read(tmp_path: Path) -> None:
    """Every finding says so, or has a safe guess; the rest of the report is there."""

    def refuse(*_: object) -> Never:
        raise PermissionError(1, "Operation not permitted")

    nothing = Machine(tmp_path, refuse, refuse, refuse, refuse, refuse, refuse, refuse, refuse, {}, "/usr/bin/python3")
    report = diagnose(nothing, Wanted(lines=LINES, is_given=True))
    assert report.count("unknown") > 10
    assert not report.is_possible
    assert [path.works for path in report.paths] == [True, False, False, False, False, False]


@pytest.mark.parametrize(
    ("clock", "phc", "name", "found", "mend"),
    [
        ({}, {"timescale": "tai_unset", "is_trap": True, "text": "the trap"}, "phc", "; the trap", "sudo phc2sys"),
        ({}, {"timescale": "unrelated"}, "phc", "within 104 ns (precise); nobody sets it", "sudo ptp4l -i ens1f0"),
        ({}, errno.ENODEV, "phc", "cannot be compared", "sudo setfacl -m u:trader:r /dev/ptp0"),
        ({"tai_offset_s": None}, {}, "clock_discipline", "its TAI offset is not set (37 s)", "leapsectz"),
        ({"tai_offset_s": 36}, {}, "clock_discipline", "36 s where 37 s are known", "leapsectz"),
        ({"synchronised": False}, {}, "clock_discipline", "its error is not known", "chronyd"),
        ({"leap": "inserted"}, {}, "clock_discipline", "a leap second is to be inserted", None),
    ],
)
def test_clocks_that_are_not_as_they_should_be(
    tmp_path: Path, clock: dict[str, object], phc: dict[str, object] | int, name: str, found: str, mend: str | None
) -> None:
    """Faked answers: no card here has a clock."""
    machine = machines.solarflare(tmp_path)

    def compare(number: int) -> dict[str, object]:
        if isinstance(phc, int):
            raise OSError(phc, os.strerror(phc))
        return machine.compare_phc(number) | phc

    other = replace(machine, system_clock=lambda: machine.system_clock() | clock, compare_phc=compare)
    [one] = [one for one in diagnose(other, Wanted(core=2)).findings if one.name == name]
    assert found in one.found
    assert (one.matters == "ok") == (mend is None)
    assert (mend or "") in (one.mend or "")


JUNK = (
    b"",
    b"\xff\xfe\0",
    b"-1\n",
    b"x y z\n",
    b"99999999999999999999\n",
    b"0-3,,5-\n",
    b"\n: :\n",
    b"cpu  1 2\n",
    b"A" * 5000,
    b"Iface\neth0 ZZ 0 0 0 0 0 00\n",
)


@pytest.mark.parametrize("name", ["solarflare", "e810", "cloud", "laptop"])
def test_files_that_make_no_sense(tmp_path: Path, name: str) -> None:
    """Whatever /proc and /sys hold, every check and every path has its line."""
    whole = Wanted(lines=LINES[:1], core=1, path="af_xdp", af_xdp_queues=(1,), busy_poll_us=3, is_given=True)
    for seed in range(15):
        random = Random(f"{name} {seed}")
        machine = getattr(machines, name)(tmp_path / str(seed))
        files = sorted(path for path in machine.root.rglob("*") if path.is_file() and path.name != "ifindex")
        for path in random.sample(files, random.randint(1, len(files))):
            path.unlink()
            match random.choice(("junk", "junk", "gone", "folder")):
                case "junk":
                    path.write_bytes(random.choice(JUNK))
                case "folder":
                    path.mkdir()
        report = diagnose(machine, whole)
        assert len(report.paths) == 6, seed
        assert len({(one.topic, one.name) for one in report.findings}) == len(report.findings) > 25, seed


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-3,8", {0, 1, 2, 3, 8}), ("", set()), (" (null)", set()), ("7", {7})],
)
def test_lists_of_cores(text: str, cores: set[int]) -> None:
    assert parse_cores(text.strip()) == cores
    assert parse_cores(cores_text(cores)) == cores


@pytest.mark.parametrize("text", ["x", "3-1", "-1", "0-99999999999", "1,,2-", "\u0663"])
def test_what_is_no_list_of_cores(text: str) -> None:
    try:
        assert max(parse_cores(text), default=0) < 1 << 14
    except ValueError as error:
        assert repr(text) in str(error)


@given(st.binary(max_size=200))
def test_netlink_attributes_of_any_bytes(data: bytes) -> None:
    for value in netlink.attributes(data).values():
        assert len(value) < len(data)


def test_the_kernel_tells_of_loopback() -> None:
    """The real netlink, where it is answered: loopback runs no native programs, a made-up interface is not there."""
    try:
        found = netlink.xdp_features(socket.if_nametoindex("lo"))
    except OSError as error:
        assert error.errno == errno.ENOENT  # before Linux 6.3
        return
    assert not found.is_zero_copy
    assert netlink.xdp_program(socket.if_nametoindex("lo")) == 0
    with pytest.raises(OSError, match="No such device"):
        netlink.xdp_features(1 << 30)


# --- the command ---------------------------------------------------------------------------------


# Once as root, which imports everything: where this Python is installed, nobody may have no business.
AS_NOBODY = """
import contextlib, io, os, sys
from barewire._cli.app import run_command_line
with contextlib.redirect_stdout(io.StringIO()):
    run_command_line(["doctor", "--json"])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(run_command_line(["doctor", "--json"]))
"""


def test_this_machine(barewire: Cli) -> None:
    text = barewire("doctor").stdout
    assert "receive paths" in text
    assert "Traceback" not in text
    found = json.loads(barewire("doctor", "--interface", "lo", "--json").stdout)
    assert found["interfaces"] == ["lo"]
    assert found["possible"] is True
    assert sum(found["counts"].values()) == len(found["findings"])
    assert {path["path"] for path in found["paths"] if path["works"]} >= {"kernel"}
    for finding in found["findings"]:
        assert set(finding) == {"topic", "name", "what", "found", "best", "matters", "mend"}
        assert finding["found"]
        assert finding["best"]
        if finding["matters"] in ("advice", "problem"):
            check = subprocess.run(["bash", "-n", "-c", finding["mend"]], capture_output=True, text=True, check=False)
            assert check.returncode == 0, finding


def test_this_machine_as_nobody() -> None:
    if os.geteuid() != 0:
        skip_or_fail("only root can become nobody")
    done = subprocess.run([sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    works = {path["path"]: path["works"] for path in found["paths"]}
    assert works["kernel"]
    assert not works["packet_mmap"]
    (mend,) = [path["mend"] for path in found["paths"] if path["path"] == "packet_mmap"]
    assert "net_raw" in mend.lower()  # setcap's, or a container's


def test_a_configuration_that_can_run_here_and_one_that_cannot(barewire: Cli, tmp_path: Path) -> None:
    (tmp_path / "feed.toml").write_text(config_text({**free_line(), "interface": "lo"}))
    done = barewire("doctor", "--config", "feed.toml", cwd=tmp_path)
    assert "configuration" in done.stdout
    (tmp_path / "feed.toml").write_text(config_text({**free_line(), "interface": "nosuch0"}))
    done = barewire("doctor", "--config", "feed.toml", "--brief", cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "no interface nosuch0; there are" in done.stdout
    done = barewire("doctor", "-i", "nosuch0", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("barewire: error: --interface 'nosuch0': expected one of: ")
