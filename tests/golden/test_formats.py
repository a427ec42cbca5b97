"""The same packets in every kind of file: what comes out is the same, but for what the format cannot hold."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from conftest import Cli
from golden.make_cases import CASES, DATE
from reference.itch_reference import write_binaryfile
from reference.pcap_reference import read_frames, read_messages, write_pcap, write_pcapng

SOURCE = CASES / "book_rules.pcap"
Frames = list[tuple[int, bytes]]


def zstd(content: bytes) -> bytes:
    compressed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return compressed


def in_pieces(content: bytes) -> bytes:
    """gzip of several members, as tools that append to a file write it."""
    return b"".join(gzip.compress(content[at : at + 100]) for at in range(0, len(content), 100))


FORMATS: dict[str, Callable[[Frames], bytes]] = {
    "pcap little-endian, ns": write_pcap,
    "pcap big-endian, ns": lambda frames: write_pcap(frames, order=">"),
    "pcap little-endian, us": lambda frames: write_pcap(frames, nanoseconds=False),
    "pcap big-endian, us": lambda frames: write_pcap(frames, order=">", nanoseconds=False),
    "pcapng little-endian, ns": write_pcapng,
    "pcapng big-endian, ns": lambda frames: write_pcapng(frames, order=">"),
    "pcapng little-endian, us": lambda frames: write_pcapng(frames, resolution=6),
    "pcap gzip": lambda frames: gzip.compress(write_pcap(frames)),
    "pcap gzip, several members": lambda frames: in_pieces(write_pcap(frames)),
    "pcap zstd": lambda frames: zstd(write_pcap(frames)),
    "pcapng gzip": lambda frames: gzip.compress(write_pcapng(frames)),
    "pcapng zstd": lambda frames: zstd(write_pcapng(frames)),
}


@pytest.fixture(scope="module")
def frames() -> Frames:
    return list(read_frames(SOURCE.read_bytes()))


@pytest.mark.parametrize("name", FORMATS)
def test_packets(name: str, frames: Frames, barewire: Cli, tmp_path: Path) -> None:
    path = tmp_path / "capture"  # no suffix: the format is found from the contents
    path.write_bytes(FORMATS[name](frames))
    expected = (CASES / "book_rules.inspect.jsonl").read_text().splitlines()
    printed = barewire("inspect", path, "--protocol", "itch-5.0", "--json").stdout.splitlines()
    # The frames are whole microseconds apart: nothing is lost in a format that counts those.
    for line, wanted in zip(printed, map(json.loads, expected), strict=True):
        row = json.loads(line)
        assert {key: row.get(key) for key in wanted} == wanted
    done = barewire("replay", path, "--protocol", "itch-5.0", "--records", "bbo", "--output", "-")
    assert done.stdout == (CASES / "book_rules.bbo.csv").read_text()


@pytest.mark.parametrize("compress", [bytes, gzip.compress, in_pieces, zstd], ids=["plain", "gzip", "members", "zstd"])
def test_binaryfile(compress: Callable[[bytes], bytes], barewire: Cli, tmp_path: Path) -> None:
    messages = [captured.message for captured in read_messages(SOURCE.read_bytes())]
    path = tmp_path / "day"
    path.write_bytes(compress(write_binaryfile(messages)))
    done = barewire("replay", path, "--protocol", "itch-5.0", "--date", DATE, "--records", "bbo", "--output", "-")
    assert done.stdout == (CASES / "book_rules.bbo.csv").read_text()


def test_standard_input(frames: Frames, tmp_path: Path) -> None:
    import subprocess
    import sys

    program = Path(sys.executable).with_name("barewire")
    for content in (write_pcap(frames), gzip.compress(write_pcapng(frames)), zstd(write_pcap(frames))):
        command: list[str | Path] = [program, "replay", "-", "--protocol", "itch-5.0", "--output", "-"]
        done = subprocess.run(command, input=content, capture_output=True, check=True, timeout=60, cwd=tmp_path)
        assert done.stdout.decode() == (CASES / "book_rules.bbo.csv").read_text()


def test_a_cut_capture_is_used_as_far_as_it_is_whole(frames: Frames, barewire: Cli, tmp_path: Path) -> None:
    rows = (CASES / "book_rules.bbo.csv").read_text().splitlines(keepends=True)
    whole = write_pcap(frames)
    last = len(frames[-1][1]) + 16
    path = tmp_path / "cut.pcap"
    for cut in (1, last // 2, last - 16, last - 1):
        path.write_bytes(whole[:-cut])
        done = barewire("replay", path, "--protocol", "itch-5.0", "--output", "-", check=False)
        # The last packet holds messages 18 to 22.
        assert done.stdout == "".join(rows[:1] + [row for row in rows[1:] if int(row.split(",")[0]) < 18]), cut
        at = len(whole) - last
        assert f"cut within the record at byte {at}" in done.stderr, done.stderr


def test_a_file_that_is_something_else(barewire: Cli, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("This is no capture, whatever its name.\n" * 10)
    for command in ("inspect", "replay"):
        done = barewire(command, path, "--protocol", "itch-5.0", check=False)
        assert done.returncode not in (0, 101)
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1 and "This is no captu" in done.stderr
