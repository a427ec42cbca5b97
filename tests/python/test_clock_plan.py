"""A site's plan: who follows whom, what is refused, and that linuxptp takes the files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barewire import ConfigError
from barewire._ptp import load_site, plan
from barewire._ptp.drawing import svg
from barewire._ptp.linuxptp import files

from .clock_site import CLOCK_OUT_OF_REACH
from .namespaces import PROGRAM, ip


def port(interface: str, network: str, **more: str) -> dict[str, str]:
    return {"interface": interface, "network": network, **more}


def grandmaster(rank: int, **more: Any) -> dict[str, Any]:
    return {"name": f"gm{rank}", "rank": rank, "source": "system", "ports": [port("eth0", "spine")], **more}


def rack(number: int, hosts: int = 2, **clock: Any) -> dict[str, Any]:
    name = f"r{number}"
    ports = [port("eth0", "spine"), port("eth1", name)]
    return {
        "name": name,
        "boundary_clock": {"name": f"{name}-clock", "ports": ports, **clock},
        "hosts": [{"name": f"{name}-h{n}", "interface": "eth0"} for n in range(hosts)],
    }


def site(racks: list[dict[str, Any]], grandmasters: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    both = [grandmaster(1), grandmaster(2)]
    return {
        "site": {"name": "test", "domain": 24, **more},
        "grandmasters": both if grandmasters is None else grandmasters,
        "racks": racks,
    }


def refusal(value: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        plan(load_site(value))
    assert all("\n" not in line for line in refused.value.problems)
    return list(refused.value.problems)


@given(st.integers(1, 4), st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_everybody_follows_through_their_racks_clock(grandmasters: int, racks: list[int]) -> None:
    ranked = [grandmaster(rank) for rank in range(1, grandmasters + 1)]
    tree = plan(load_site(site([rack(n, hosts) for n, hosts in enumerate(racks)], ranked[::-1])))
    for machine in tree.machines:
        leader = tree.follows[machine.name]
        if machine.role == "grandmaster":
            assert leader is None
        elif machine.role == "host":
            assert (leader, tree.through[machine.name]) == (f"{machine.rack}-clock", machine.rack)
            assert tree.steps(machine.name) == 2
        else:
            assert (leader, tree.through[machine.name], tree.steps(machine.name)) == ("gm1", "spine", 1)
    # Who leads is never left to chance: no two clocks that could have the same standing.
    standing = [(m.priority1, m.priority2) for m in tree.machines if m.role != "host"]
    assert len(set(standing)) == len(standing)
    best = sorted((m for m in tree.machines), key=lambda m: (m.priority1, m.priority2))
    assert [m.name for m in best[:grandmasters]] == [f"gm{rank}" for rank in range(1, grandmasters + 1)]


def test_a_rack_behind_a_rack() -> None:
    far = rack(2)
    far["boundary_clock"]["ports"] = [port("eth0", "r1"), port("eth1", "r2")]
    tree = plan(load_site(site([rack(1), far])))
    assert (tree.follows["r2-clock"], tree.steps("r2-h0")) == ("r1-clock", 3)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda s: s["racks"][0]["boundary_clock"]["ports"].__setitem__(0, port("eth0", "elsewhere")),
            "no path to gm1",
        ),
        (lambda s: s["racks"][0]["hosts"][0].__setitem__("network", "elsewhere"), "r1-h0: no path to gm1 and gm2"),
        (
            lambda s: s["grandmasters"][1].__setitem__("ports", [port("eth0", "r1")]) or s["racks"].pop(0),
            "no path to gm2",
        ),
        (lambda s: s["racks"][1]["boundary_clock"]["ports"].append(port("eth2", "r1")), "a loop"),
        (
            lambda s: s["racks"][0]["boundary_clock"]["ports"][1].__setitem__("timestamping", "software"),
            'r1-clock: timestamping "software" on a boundary clock',
        ),
        (
            lambda s: s["racks"][0]["hosts"][0].__setitem__("profile", "l2"),
            'network r1: r1-clock speaks "udp" and r1-h0',
        ),
        (
            lambda s: s["racks"][0]["boundary_clock"]["ports"][1].__setitem__("interface", "eth0"),
            "two ports on interface",
        ),
        (lambda s: s["racks"][0]["boundary_clock"]["ports"].append(port("eth2", "r1")), "two ports on network r1"),
        (lambda s: s["grandmasters"][0].__setitem__("source", "gnss"), "[grandmasters.gnss] has none"),
        (lambda s: s["grandmasters"][0].__setitem__("gnss", {}), '[grandmasters.gnss] is there beside source "system"'),
        (lambda s: s["grandmasters"][1].__setitem__("rank", 1), "two grandmasters have the rank 1"),
        (lambda s: s["racks"][1].__setitem__("name", "r1"), "two racks have the name r1"),
        (lambda s: s["racks"][1]["hosts"][0].__setitem__("name", "gm1"), "two machines have the name gm1"),
        (lambda s: s["site"].__setitem__("domain", 128), "site.domain = 128: expected the PTP domain, 0 to 127"),
        (lambda s: s["site"].__setitem__("syncs_per_second", 3), "a power of two"),
        (lambda s: s["site"].__setitem__("domian", 1), "did you mean domain?"),
        (lambda s: s.pop("racks"), "racks is missing"),
    ],
)
def test_what_cannot_work_is_refused(change: Any, expected: str) -> None:
    value = site([rack(1), rack(2)])
    change(value)
    problems = refusal(value)
    assert any(expected in line for line in problems), problems


def test_a_trial_has_stamps_in_software_and_steers_nothing() -> None:
    soft = rack(1)
    for one in soft["boundary_clock"]["ports"]:
        one["timestamping"] = "software"
    value = site([soft], trial=True)
    written = files(plan(load_site(value)))
    assert all("free_running 1" in machine["ptp4l.conf"] for machine in written.values())
    assert all(set(machine) == {"ptp4l.conf", "barewire-ptp4l.service"} for machine in written.values())
    value["site"]["trial"] = False
    assert any("boundary clock" in line for line in refusal(value))


def test_one_program_steers_a_clock() -> None:
    first = grandmaster(1, source="gnss", gnss={"serial": "/dev/ttyS1", "cable_ns": 50})
    soft = rack(2)
    soft["hosts"][0]["timestamping"] = "software"
    value = site([rack(1, one_clock=False), soft], [first, grandmaster(2), grandmaster(3, source="appliance")])
    written = files(plan(load_site(value)))
    assert "gm3" not in written
    assert {"ts2phc.conf", "barewire-ts2phc.service", "barewire-grandmaster.service"} <= set(written["gm1"])
    assert "barewire-phc2sys.service" not in written["gm1"]
    assert "ts2phc.extts_correction -50" in written["gm1"]["ts2phc.conf"]
    # One that boots without its receiver leads nobody; NTP keeps the standby's clock, and must not be stopped there.
    assert "clockClass 248" in written["gm1"]["ptp4l.conf"]
    assert "-s CLOCK_REALTIME -c eth0" in written["gm2"]["barewire-phc2sys.service"]
    assert "Conflicts" not in written["gm2"]["barewire-phc2sys.service"]
    assert "boundary_clock_jbod 1" in written["r1-clock"]["ptp4l.conf"]
    assert "phc2sys -a -r" in written["r1-clock"]["barewire-phc2sys.service"]
    assert "-s eth0 -c CLOCK_REALTIME" in written["r1-h0"]["barewire-phc2sys.service"]
    assert "Conflicts=" in written["r1-h0"]["barewire-phc2sys.service"]
    assert "barewire-phc2sys.service" not in written["r2-h0"]
    assert "Conflicts=" in written["r2-h0"]["barewire-ptp4l.service"]


def test_the_command(tmp_path: Path) -> None:
    example = subprocess.run([PROGRAM, "clock", "plan", "--example"], capture_output=True, text=True, check=True).stdout
    path = tmp_path / "site.toml"
    path.write_text(example)
    command = [
        PROGRAM,
        "clock",
        "plan",
        str(path),
        "--output",
        str(tmp_path / "out"),
        "--svg",
        str(tmp_path / "tree.svg"),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "├─ rack-1-clock  boundary clock" in shown
    facts = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    names = {machine["name"] for machine in facts["machines"]}
    assert {one.name for one in (tmp_path / "out").iterdir()} == names
    drawn = ET.parse(tmp_path / "tree.svg").getroot()
    assert names <= {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}

    path.write_text(example.replace('network = "spine" }, {', 'network = "nowhere" }, {'))
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "barewire: error: rack-1-clock: no path to gm-1 and gm-2" in failed.stderr
    assert subprocess.run([PROGRAM, "clock", "plan"], capture_output=True, check=False).returncode == 2


# --- linuxptp takes the files --------------------------------------------------------------------


def needs_ptp4l() -> None:
    if os.geteuid() == 0 and shutil.which("ptp4l"):
        return
    assert "CI" not in os.environ, "expected root and linuxptp"
    pytest.skip("needs root and linuxptp")


def test_ptp4l_accepts_every_file_of_five_racks_with_ten_hosts(tmp_path: Path) -> None:
    """Each is started in a namespace with the interfaces that it names, with the kernel's stamps, and sets no clock.

    There is no card here. What ptp4l does not know, or finds out of range, it ends with.
    """
    needs_ptp4l()
    value = site([rack(n, 10) for n in range(1, 6)])
    tree = plan(load_site(value))
    assert len(tree.machines) == 2 + 5 + 50
    assert len(ET.fromstring(svg(tree)).findall("{http://www.w3.org/2000/svg}g")) == 57
    namespace = f"bwp{os.getpid()}"
    ip("netns", "add", namespace)
    try:
        for name in ("eth0", "eth1"):
            ip("-n", namespace, "link", "add", name, "type", "veth", "peer", "name", f"{name}p")
            for end in (name, f"{name}p"):
                ip("-n", namespace, "link", "set", end, "up")
            ip("-n", namespace, "addr", "add", f"10.98.{name[-1]}.1/24", "dev", name)
        for machine, contents in files(tree).items():
            path = tmp_path / f"{machine}.conf"
            path.write_text(contents["ptp4l.conf"])
            overridden = [
                "--time_stamping",
                "software",
                "--free_running",
                "1",
                "--uds_address",
                str(tmp_path / machine),
            ]
            said = listening(namespace, ["ptp4l", "-f", str(path), "-m", "-q", *overridden])
            assert said, machine
    finally:
        ip("netns", "del", namespace)


def listening(namespace: str, command: list[str]) -> bool:
    """Whether it gets as far as listening for others."""
    command = ["ip", "netns", "exec", namespace, *CLOCK_OUT_OF_REACH, *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            end = time.monotonic() + 30
            for line in process.stdout:
                if "INITIALIZING to LISTENING" in line:
                    return True
                if time.monotonic() > end:
                    break
            return False
        finally:
            process.kill()


def test_ts2phc_and_phc2sys_know_every_option(tmp_path: Path) -> None:
    """They get as far as the card, which is not there."""
    needs_ptp4l()
    first = grandmaster(1, source="gnss", gnss={})
    written = files(plan(load_site(site([rack(1, one_clock=False)], [first, grandmaster(2)]))))
    path = tmp_path / "ts2phc.conf"
    path.write_text(written["gm1"]["ts2phc.conf"].replace("eth0", "nocard0"))
    command = [*CLOCK_OUT_OF_REACH, "ts2phc", "-f", str(path), "-s", "generic"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "failed to parse" not in said.stdout + said.stderr
    assert "nocard0" in said.stdout + said.stderr
    for machine in ("gm2", "r1-h0"):
        unit = written[machine]["barewire-phc2sys.service"]
        start = next(line for line in unit.splitlines() if line.startswith("ExecStart="))[10:]
        command = [*CLOCK_OUT_OF_REACH, *start.replace("eth0", "nocard0").split()]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert "unknown clock nocard0" in said.stdout + said.stderr, said
