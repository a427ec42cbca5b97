"""Receive paths, each in both modes, between two network namespaces: the same events, and nothing left behind.

A feed (`barewire run`) is in one namespace, the simulator (`barewire sim`) in the other. Needs root.
"""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import barewire
from barewire import _core
from barewire._cli.sim import simulator_config

from . import tracing
from .namespaces import PROGRAM, WAIT, Net, ip, two_namespaces, until
from .venue import free_line
from conftest import skip_or_fail

PATHS = ("kernel", "io_uring", "packet_mmap", "af_xdp", "dpdk")
DPDK_LIBRARY = Path(barewire.__file__).parent / "libbarewire_dpdk.so"
MESSAGES = 50_000
# Bits of linux/capability.h.
NEEDED = {
    "packet_mmap": {"CAP_NET_RAW": 13},
    "af_xdp": {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_PERFMON": 38, "CAP_BPF": 39},
    "dpdk": {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13},
}
# A virtual device over the interface: no card, no huge pages, a ring that a busy machine does not fill.
DPDK = """
        [receive.dpdk]
        device = "net_af_packet,iface={interface},framecnt=8192"
        huge_pages = false
"""
SWITCHS_CLOCK, KERNELS_CLOCK, OWN_CLOCK = 2, 3, 4  # of ts_source


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    if os.geteuid() != 0:
        skip_or_fail("needs root: network namespaces")
    before = ip("netns", "list").split()
    with two_namespaces() as made:
        yield made
    assert not {made.receiver, made.sender} & set(ip("netns", "list").split()), before


@pytest.fixture(autouse=True)
def _one_by_one(request: pytest.FixtureRequest) -> Iterator[None]:
    """Over net_af_packet no runs of datagrams in one piece, which only a sender on the same machine sends."""
    if getattr(request.node, "callspec", None) is None or request.node.callspec.params.get("path") != "dpdk":
        yield
        return
    net: Net = request.getfixturevalue("net")
    ip("-n", net.sender, "link", "set", "dev", net.sending, "gso_max_segs", "1")
    yield
    ip("-n", net.sender, "link", "set", "dev", net.sending, "gso_max_segs", "65535")


def configuration(
    folder: Path,
    path: str,
    mode: str = "blocking",
    *,
    name: str | None = None,
    more: str = "",
    timeout_us: int = 3_000_000,
) -> Path:
    """A feed's file. `more` is of the `[receive]` table."""
    if path == "dpdk" and not DPDK_LIBRARY.exists():
        skip_or_fail("needs DPDK's library: make dpdk")
    file = folder / f"{path}-{mode}.toml"
    file.write_text(
        f"""
        [feed]
        protocol = "itch-5.0"
        [[lines]]
        name = "A"
        group = "239.255.64.1"
        port = 26477
        interface = "{Net.interface}"
        [[lines]]
        name = "B"
        group = "239.255.64.2"
        port = 26478
        interface = "{Net.interface}"
        [sequencing]
        hold_us = 20000
        line_timeout_us = {timeout_us}
        [recovery.rerequest]
        servers = ["{Net.server}:26500"]
        [ring]
        name = "{name or ring_name(path, mode)}"
        capacity = 262144
        [receive]
        path = "{path}"
        mode = "{mode}"
        {more}
        {DPDK if path == "dpdk" else ""}
        """
    )
    return file


def ring_name(path: str, mode: str = "blocking") -> str:
    return f"paths-{os.getpid()}-{path}-{mode}"


def ring_file(name: str) -> Path:
    return Path("/dev/shm") / f"barewire.{name}"


def run(net: Net, file: Path, *more: str) -> subprocess.Popen[str]:
    return net.inside(net.receiver, PROGRAM, "run", str(file), "--duration", str(WAIT), "--json", *more)


def running(net: Net, file: Path, name: str, *more: str) -> subprocess.Popen[str]:
    """A feed that receives: its lines are joined before there is a ring."""
    feed = run(net, file, *more)

    def is_up() -> bool:
        assert feed.poll() is None, feed.communicate()
        try:
            return barewire.Ring.attach(name).state == "alive"
        except (OSError, barewire.RingError):
            return False

    until(is_up, "the feed does not start")
    return feed


def send(net: Net, *more: str, messages: int = MESSAGES, lines: list[str] | None = None) -> dict[str, Any]:
    """A session, sent; the sender's report."""
    lines = lines or [f"--line=239.255.64.{n}:{26476 + n}@{net.sending}" for n in (1, 2)]
    session = ["--messages", str(messages), "--rate", "40k", "--messages-per-packet", "4", "--digest"]
    servers = ["--rerequest", f"{net.server}:26500", "--linger", "0.5"]
    arguments = [PROGRAM, "sim", *lines, *session, *servers, *more, "--json"]
    output, errors = net.inside(net.sender, *arguments).communicate(timeout=WAIT)
    found: dict[str, Any] = json.loads(output) if output else {"error": errors}
    return found


def threads(pid: int) -> dict[str, int]:
    """What each thread of a process holds of capabilities: permitted, effective or inheritable."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
        except (FileNotFoundError, ProcessLookupError):
            continue
        held = int(status["CapPrm"], 16) | int(status["CapEff"], 16) | int(status["CapInh"], 16)
        found[f"{status['Name']} {task.name}"] = held
    return found


def ended(feed: subprocess.Popen[str]) -> dict[str, Any]:
    """A feed's last report."""
    output, errors = feed.communicate(timeout=WAIT)
    assert feed.returncode == 0, errors
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


@pytest.mark.parametrize("mode", ["blocking", "busy"])
@pytest.mark.parametrize("path", PATHS)
def test_every_path_tells_what_was_sent(net: Net, tmp_path: Path, path: str, mode: str) -> None:
    name = ring_name(path, mode)
    feed = running(net, configuration(tmp_path, path, mode), name)
    try:
        assert (net.xdp() is not None) == (path == "af_xdp")
        ring = barewire.Ring.attach(name, oldest=True)
        # All is open: whatever it needed for that is given up, and the session is received without.
        until(lambda: not any(threads(feed.pid).values()), f"capabilities are held: {threads(feed.pid)}")
        assert any(thread.startswith("barewire-feed") for thread in threads(feed.pid))
        sent = send(net)
        heard = ended(feed)
    finally:
        feed.kill()
        feed.communicate()
    assert sent["digests"]["messages_missing"] == 0
    assert heard["digests"] == {key: sent["digests"][key] for key in ("events", "books")}, heard["stats"]
    assert heard["messages"] == sent["messages"]
    assert heard["stats"]["kernel_malformed"] == 0
    # The clocks that the path can have, by a reader in another process.
    batches = list(ring)
    assert sum(batch.lost for batch in batches) == 0
    sources = {int(source) for batch in batches for source in set(batch.mbo["ts_source"].tolist())}
    # What a re-request server brought in is stamped by the kernel as well.
    assert sources - {KERNELS_CLOCK} == {OWN_CLOCK} if path in ("af_xdp", "dpdk") else sources == {KERNELS_CLOCK}
    assert any(line.startswith(("line A", "lines A, B")) for line in heard["receive"])
    assert net.xdp() is None
    assert not ring_file(name).exists()


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_left_by_a_feed_that_cannot_start_or_is_stopped(net: Net, tmp_path: Path, path: str) -> None:
    name = ring_name("shared")
    other = ring_name(path)
    with barewire.Feed.from_config(
        {"feed": {"protocol": "itch-5.0"}, "lines": [free_line()], "ring": {"name": name, "capacity": 1024}}
    ):
        # The path is open by the time that the ring is refused.
        output, errors = run(net, configuration(tmp_path, path, name=name)).communicate(timeout=WAIT)
        assert output == ""
        assert len(errors.splitlines()) == 1, errors
        assert "another producer" in errors
    assert net.xdp() is None
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        feed = running(net, configuration(tmp_path, path), other)
        feed.send_signal(signal_number)
        output, errors = feed.communicate(timeout=WAIT)
        assert net.xdp() is None, signal_number
        assert not list(Path("/dev/shm").glob(f"*paths-{os.getpid()}*")), errors


@pytest.mark.parametrize("path", PATHS)
def test_a_feed_that_was_killed_starts_again_at_once(net: Net, tmp_path: Path, path: str) -> None:
    name = ring_name(path)
    file = configuration(tmp_path, path)
    feed = running(net, file, name)
    sender = threading.Thread(target=send, args=(net,), kwargs={"messages": 20_000})
    sender.start()
    try:
        until(lambda: barewire.Ring.attach(name).stats["messages"] > 1000, "nothing comes")
        feed.kill()
        feed.communicate()
        # No waiting for what the kernel takes away behind the process: the next one has to.
        again = running(net, file, name)
    finally:
        sender.join()
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=WAIT)
    again = running(net, file, name)
    sent = send(net, "--seed", "3", "--session", "SECOND", messages=5000)
    heard = ended(again)
    assert heard["digests"] == {key: sent["digests"][key] for key in ("events", "books")}
    until(lambda: net.xdp() is None, "an XDP program stays")
    assert not ring_file(name).exists()


# The numbers of asm/unistd.h: receiving, of the paths that call the kernel for it; reading the clock, which takes a
# call only where the machine's clock cannot be read without.
RECVMMSG, IO_URING_ENTER, CLOCK_GETTIME = (243, 426, 113) if platform.machine() == "aarch64" else (299, 426, 228)


# A line that goes silent while the other loses nothing; before that, losses, swaps and copies that cost no request.
TROUBLE = ("--impair=A:dead=0.4s-0.7s,reorder=1%/3", "--impair=B:drop=50-90+200-201+500-520,duplicate=1%")


@pytest.mark.parametrize("path", PATHS)
def test_no_system_call_is_made_for_a_packet(net: Net, tmp_path: Path, path: str) -> None:
    file = configuration(tmp_path, path, "busy", timeout_us=100_000)
    feed = running(net, file, ring_name(path, "busy"))
    sent: list[dict[str, Any]] = []
    sender = threading.Thread(target=lambda: sent.append(send(net, *TROUBLE)))
    try:
        until(lambda: not any(threads(feed.pid).values()), "the feed has not begun")
        (thread,) = (int(name.split()[-1]) for name in threads(feed.pid) if name.startswith("barewire-feed"))
        try:
            tracing.seize(thread)
        except PermissionError as error:
            skip_or_fail(f"may not trace: {error}")
        sender.start()
        # A feed that dies or hangs ends the count.
        patience = threading.Timer(WAIT, feed.kill)
        patience.start()
        calls = tracing.count(thread)
        patience.cancel()
        heard = ended(feed)
    finally:
        feed.kill()
        feed.communicate()
        if sender.ident is not None:
            sender.join()
    assert heard["digests"]["events"] == sent[0]["digests"]["events"]
    packets = heard["stats"]["packets"]
    assert packets > 10_000
    assert heard["stats"]["line_failures"] > 0
    assert heard["stats"]["messages_missing"] == heard["stats"]["requests"] == 0
    receiving = {"kernel": RECVMMSG, "io_uring": IO_URING_ENTER}.get(path, -1)
    # Busy, one call looks at the sockets, whether there is something or not; what there is comes with it.
    others = sum(calls.made.values()) - calls.made[receiving] - calls.made[CLOCK_GETTIME]
    assert others < packets // 50, calls
    assert calls.fruitful[receiving] <= packets
    assert (calls.made[receiving] > 0) == (path == "kernel") or path == "io_uring"


# Sends the frames of a file, each behind its length, as they are.
INJECTED = """
import socket, struct, sys, time
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire, open(sys.argv[2], "rb") as frames:
    wire.bind((sys.argv[1], 0))
    while length := frames.read(2):
        wire.send(frames.read(struct.unpack(">H", length)[0]))
        time.sleep(0.0002)
"""


def behind(kind: str, ts: int) -> bytes:
    """What a capture switch writes behind a frame: by Wireshark's packet-metamako.c and packet-exablaze.c."""
    seconds, ns = divmod(ts, 10**9)
    if kind == "metamako":
        return struct.pack(">IIIBHB", 0x12345678, seconds, ns, 1, 7, 3)
    fraction = -(-(ns << 40) // 10**9)
    return struct.pack(">IBBI", 0x12345678, 7, 3, seconds) + fraction.to_bytes(5, "big") + b"\0"


@pytest.mark.parametrize("kind", ["metamako", "exablaze"])
@pytest.mark.parametrize("path", ["packet_mmap", "af_xdp"])
def test_receive_times_of_a_capture_switch_before_the_feed(net: Net, tmp_path: Path, path: str, kind: str) -> None:
    capture, injected = tmp_path / "plain.pcap", tmp_path / "frames"
    _core.Simulator(simulator_config(messages=2000, instruments=20, live_orders=64, pcap=str(capture))).run()
    content, at, begun = capture.read_bytes(), 24, time.time_ns() - 10**10
    stamps: list[int] = []
    frames: list[bytes] = []
    while at < len(content):
        length = struct.unpack_from("<I", content, at + 8)[0]
        frame = content[at + 16 : at + 16 + length]
        at += 16 + length
        if frame[30:34] == bytes([239, 255, 64, 1]):  # line A's
            stamps.append(begun + 1001 * len(stamps))
            frames.append(frame + behind(kind, stamps[-1]))
    frames.insert(1, content[40 : 40 + struct.unpack_from("<I", content, 32)[0]])  # the first once more, without
    injected.write_bytes(b"".join(struct.pack(">H", len(frame)) + frame for frame in frames))
    file = configuration(tmp_path, path, more=f'switch_times = "{kind}"')
    feed = running(net, file, ring_name(path))
    try:
        ring = barewire.Ring.attach(ring_name(path), oldest=True)
        done = net.inside(net.sender, sys.executable, "-c", INJECTED, net.sending, str(injected))
        assert done.communicate(timeout=WAIT) == ("", "")
        heard = ended(feed)
    finally:
        feed.kill()
        feed.communicate()
    assert heard["stats"]["switch_times"] == len(stamps)
    assert (heard["stats"]["switch_times_missing"], heard["stats"]["switch_times_implausible"]) == (1, 0)
    records = [record for batch in ring for record in batch.mbo[["ts_recv", "ts_source"]].tolist()]
    assert len(records) > 1000
    # An Exablaze's fractions are of 2^-40 s.
    assert {source for _, source in records} == {SWITCHS_CLOCK}
    assert {ts for ts, _ in records} <= {stamp + off for stamp in stamps for off in (-1, 0, 1)}


@pytest.mark.parametrize("path", PATHS)
def test_the_end_says_where_packets_went(net: Net, tmp_path: Path, path: str) -> None:
    file = configuration(tmp_path, path)
    # Line A hears nobody who is there.
    file.write_text(file.read_text().replace("port = 26477", 'port = 26477\nallow = ["10.99.0.9", "172.16.0.0/12"]'))
    feed = running(net, file, ring_name(path))
    try:
        sent = send(net, messages=2000)
        heard = ended(feed)
    finally:
        feed.kill()
        feed.communicate()
    assert heard["digests"]["events"] == sent["digests"]["events"]
    stats = heard["stats"]
    counts = {(row["layer"], row["where"], row["what"]): row["value"] for row in heard["layers"]}
    assert counts["socket", "", "from other senders"] == stats["kernel_wrong_source"] > 500
    assert counts["line", "A", "packets"] == 0
    assert counts["feed", "", "packets"] == stats["packets"] > 500
    assert counts["line", "B", "packets"] == stats["packets"] - stats["packets_recovered"]
    # The wire had both lines' and more: what the kernels of both ends have to say to each other.
    assert counts["card", net.interface, "packets"] >= stats["packets"] + stats["kernel_wrong_source"]
    assert counts["ring", "", "records"] == stats["records"]
    assert {row["layer"] for row in heard["layers"] if row["is_loss"]} <= {"card", "driver", "kernel"}


def test_an_interface_has_room_for_one_af_xdp_feed(net: Net, tmp_path: Path) -> None:
    first = running(net, configuration(tmp_path, "af_xdp"), ring_name("af_xdp"))
    program = net.xdp()
    try:
        second = run(net, configuration(tmp_path, "af_xdp", "busy"))
        _, errors = second.communicate(timeout=WAIT)
        assert second.returncode == 1
        (line,) = errors.splitlines()
        assert f"{Net.interface} has an XDP program already (another feed's, or a firewall), which is not" in line
        # The first was not disturbed.
        assert net.xdp() == program
        sent = send(net, messages=5000)
        heard = ended(first)
        assert heard["digests"]["events"] == sent["digests"]["events"]
    finally:
        first.kill()
        first.communicate()


# Starts a feed as nobody, with the capabilities given as numbers; all that needs files is there before.
UNPRIVILEGED = """
import ctypes, os, sys
import barewire
feed = barewire.Feed.from_config(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
bits = sum(1 << int(bit) for bit in sys.argv[2:])
assert libc.prctl(8, 1, 0, 0, 0) == 0  # PR_SET_KEEPCAPS
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
low, high = bits & 0xFFFFFFFF, bits >> 32
assert libc.capset(header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)) == 0
try:
    with feed:
        print("started", *(line for line in feed.receive_report if line.startswith("feed thread: holds")))
except OSError as error:
    print(type(error).__name__, error)
"""


def as_nobody(net: Net, file: Path, *bits: int) -> str:
    done = net.inside(net.receiver, sys.executable, "-c", UNPRIVILEGED, str(file), *map(str, bits))
    output, errors = done.communicate(timeout=WAIT)
    assert not errors, errors
    return output


@pytest.mark.parametrize("path", PATHS)
def test_without_privilege_what_is_missing_is_named_and_is_enough(net: Net, tmp_path: Path, path: str) -> None:
    # Frames that an ordinary limit of locked memory leaves room for.
    frames = "[receive.af_xdp]\nframes = 1024"
    file = configuration(tmp_path, path, name=f"nobody-{random.getrandbits(32):x}", more=frames)
    file.write_text(file.read_text().replace("framecnt=8192", "framecnt=512"))
    needed = NEEDED.get(path, {})
    started = "started feed thread: holds no capability\n"
    assert as_nobody(net, file, *needed.values()) == started
    without = as_nobody(net, file)
    if not needed:
        assert without == started  # as many others do without, too
        file.write_text(file.read_text().replace("26477", "77"))
        needed, without = {"CAP_NET_BIND_SERVICE": 10}, as_nobody(net, file)
        assert as_nobody(net, file, *needed.values()) == started
    assert without.startswith("PermissionError")
    assert len(without.splitlines()) == 1
    names = list(needed)
    assert f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} missing" in without
    assert f"AmbientCapabilities={' '.join(names)} " in without
    assert f"sudo setcap {','.join(names).lower()}+ep {os.path.realpath(sys.executable)}" in without
    # Each by itself is missed.
    for name, bit in needed.items():
        others = [other for other in needed.values() if other != bit]
        assert f"{name} is missing" in as_nobody(net, file, *others) if others else True


def test_capabilities_are_kept_where_that_is_asked_for(net: Net, tmp_path: Path) -> None:
    file = configuration(tmp_path, "packet_mmap", more="drop_capabilities = false")
    feed = running(net, file, ring_name("packet_mmap"))
    try:
        time.sleep(0.2)
        assert all(held & 1 << 13 for held in threads(feed.pid).values())
    finally:
        feed.send_signal(signal.SIGINT)
        feed.communicate(timeout=WAIT)


def test_a_feed_in_a_process_of_others_gives_up_its_own_threads_capabilities_only() -> None:
    before = threads(os.getpid())
    with barewire.Feed.from_config({"feed": {"protocol": "itch-5.0"}, "lines": [free_line()]}):
        during = threads(os.getpid())
        assert [held for name, held in during.items() if name.startswith("barewire-feed")] == [0]
        assert {name: during[name] for name in before if name in during} == {
            name: held for name, held in before.items() if name in during
        }


def test_without_its_library_dpdk_says_how_to_get_it(net: Net, tmp_path: Path) -> None:
    file = configuration(tmp_path, "dpdk", "busy")
    text = file.read_text()
    (tmp_path / "text.so").write_text("no library")
    for library, reason in (("/nonexistent/library.so", "cannot open shared object file"), ("text.so", "too short")):
        file.write_text(text.replace("huge_pages", f'library = "{tmp_path / library}"\nhuge_pages'))
        output, errors = run(net, file).communicate(timeout=WAIT)
        (line,) = errors.splitlines()
        assert output == ""
        assert reason in line
        assert "`apt install libdpdk-dev pkg-config` and `make dpdk` in barewire's sources make it anew" in line


def files_of_dpdk() -> set[Path]:
    """What a process can leave of its shared memory; huge pages are counted, since a file there keeps them."""
    folders = ("/var/run/dpdk", "/tmp/dpdk", "/dev/hugepages")
    # Folders that are made and removed at the start may be another process's just now.
    return {path for folder in folders for path in Path(folder).rglob("*") if not path.is_dir()}


def test_dpdk_leaves_no_files_when_it_is_killed(net: Net, tmp_path: Path) -> None:
    before = files_of_dpdk()
    feed = running(net, configuration(tmp_path, "dpdk", "busy"), ring_name("dpdk", "busy"))
    assert files_of_dpdk() == before
    feed.kill()
    feed.communicate()
    assert files_of_dpdk() == before
    ring_file(ring_name("dpdk", "busy")).unlink()
