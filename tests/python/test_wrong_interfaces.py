"""Interfaces that are not there, not up, not Ethernet, or go away, on every receive path: one line that says so.

In network namespaces of the test's own. Needs root.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .namespaces import PROGRAM, WAIT, Net, ip, two_namespaces
from .test_paths import PATHS, configuration, ring_file, ring_name, run, running, send
from conftest import skip_or_fail


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    if os.geteuid() != 0:
        skip_or_fail("needs root: network namespaces")
    with two_namespaces() as made:
        for arguments in (
            ["link", "add", "down0", "type", "veth", "peer", "name", "down1"],
            ["link", "add", "bridge0", "type", "bridge"],
            ["link", "set", "bridge0", "up"],
            ["link", "add", "long0", "mtu", "9000", "type", "veth", "peer", "name", "long1", "mtu", "9000"],
            ["link", "set", "long0", "up"],
            ["tuntap", "add", "tunnel0", "mode", "tun"],
            ["link", "set", "tunnel0", "up"],
        ):
            ip("-n", made.receiver, *arguments)
        yield made


def other_interface(folder: Path, path: str, interface: str) -> Path:
    file = configuration(folder, path)
    file.write_text(file.read_text().replace(f'"{Net.interface}"', f'"{interface}"'))
    return file


def refusal(net: Net, file: Path) -> str:
    """What a feed that does not start says: one line."""
    feed = run(net, file)
    output, errors = feed.communicate(timeout=WAIT)
    assert (feed.returncode, output) == (1, "")
    (line,) = errors.splitlines()
    return line


def report(net: Net, file: Path) -> list[str]:
    """What a feed says that starts, and hears nothing."""
    feed = net.inside(net.receiver, PROGRAM, "run", str(file), "--duration", "0.05", "--json")
    output, errors = feed.communicate(timeout=WAIT)
    assert (feed.returncode, errors) == (0, "")
    found: list[str] = json.loads(output.splitlines()[-1])["receive"]
    return found


# DPDK names devices in its own words, and says itself what is wrong with them.
@pytest.mark.parametrize("path", [path for path in PATHS if path != "dpdk"])
def test_interfaces_that_cannot_be(net: Net, tmp_path: Path, path: str) -> None:
    line = refusal(net, other_interface(tmp_path, path, "none0"))
    assert line.startswith('barewire: error: line A: no interface "none0": this machine has lo, ')
    assert Net.interface in line
    if path in ("packet_mmap", "af_xdp"):
        line = refusal(net, other_interface(tmp_path, path, "tunnel0"))
        assert "line A: tunnel0 carries no Ethernet frames, which this path reads: use the kernel path there" in line


@pytest.mark.parametrize("path", PATHS)
def test_interfaces_that_work_and_are_likely_not_meant(net: Net, tmp_path: Path, path: str) -> None:
    down = report(net, other_interface(tmp_path, path, "down0"))
    assert "line A: down0 is down: nothing comes before it is up" in down
    if path == "af_xdp":
        bridge = report(net, other_interface(tmp_path, path, "bridge0"))
        assert not any(" is down" in line for line in bridge)
        long = report(net, other_interface(tmp_path, path, "long0"))
        assert any("on bridge0: generic XDP, native asked for: the driver refuses it" in line for line in bridge)
        assert any("; packets of 9000 bytes may come, those of more than 3822 are dropped" in line for line in long)


@pytest.mark.parametrize("path", PATHS)
def test_an_interface_that_goes_ends_the_feed_with_a_line(net: Net, tmp_path: Path, path: str) -> None:
    name = ring_name(path)
    ip("-n", net.receiver, "link", "add", "going0", "type", "veth", "peer", "name", "going1")
    for end in ("going0", "going1"):
        ip("-n", net.receiver, "link", "set", end, "up")
    feed = running(net, other_interface(tmp_path, path, "going0"), name)
    try:
        ip("-n", net.receiver, "link", "delete", "going0")
        output, errors = feed.communicate(timeout=WAIT)
    finally:
        feed.kill()
        feed.communicate()
    assert feed.returncode == 1
    (line,) = errors.splitlines()
    expected = "the feed thread died: interface going0 is gone, removed or moved to another namespace: bring it back"
    assert line.startswith(f"barewire: error: {expected}"), line
    assert json.loads(output.splitlines()[-1])["final"]
    assert not ring_file(name).exists()


@pytest.mark.parametrize("path", ["kernel", "af_xdp"])
def test_the_same_group_by_two_cards_is_two_lines(net: Net, tmp_path: Path, path: str) -> None:
    ends = ("second0", "10.99.1.1", net.receiver), ("second1", "10.99.1.2", net.sender)
    ip("link", "add", "second0", "netns", net.receiver, "type", "veth", "peer", "name", "second1", "netns", net.sender)
    for interface, address, namespace in ends:
        ip("-n", namespace, "addr", "add", f"{address}/24", "dev", interface)
        ip("-n", namespace, "link", "set", interface, "up")
    file = configuration(tmp_path, path)
    head, _, second = file.read_text().partition('name = "B"')
    second = second.replace("239.255.64.2", "239.255.64.1", 1).replace("26478", "26477", 1)
    file.write_text(f'{head}name = "B"{second.replace(Net.interface, "second0", 1)}')
    try:
        feed = running(net, file, ring_name(path))
        lines = ["--line=239.255.64.1:26477@" + interface for interface in (net.sending, "second1")]
        sent = send(net, messages=2000, lines=lines)
        output, errors = feed.communicate(timeout=WAIT)
    finally:
        ip("-n", net.receiver, "link", "delete", "second0")
    assert feed.returncode == 0, errors
    heard = json.loads(output.splitlines()[-1])
    assert heard["digests"]["events"] == sent["digests"]["events"]
    assert {line["name"]: line["packets"] for line in heard["lines"]}.keys() == {"A", "B"}
    assert all(line["packets"] > 500 for line in heard["lines"])
