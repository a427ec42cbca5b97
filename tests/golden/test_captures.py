"""Real captures, against what an independent dissector read in them.

Beside each capture stands ``NAME.expected.json``: what tshark printed with the Open Markets Initiative's dissector of
ITCH 5.0 (its edition of 2017). That edition differs from ours in how it writes things, not in what it reads:

- its names are ours without underscores, and ``reason code`` of ``H`` was still called ``reason``;
- prices are decimal fractions; ours stay the integers that they are on the wire (1e-4).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from barewire import _core

from conftest import CAPTURES, Cli
from reference.itch_reference import LAYOUTS, decode, encode
from reference.pcap_reference import CapturedMessage, read_messages

PCAPS: list[Path | None] = [*sorted((CAPTURES / "itch50").glob("*/*.pcap"))]
PREFIX = "nasdaq.nsmequities.totalview.itch.v5.0.2017."
RENAMED = {"reason": "reasoncode"}
PRICES = {  # of the types in these captures
    "price",
    "execution_price",
    "cross_price",
    "auction_collar_reference_price",
    "upper_auction_collar_price",
    "lower_auction_collar_price",
    "far_price",
    "near_price",
    "current_reference_price",
}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def expected_messages(pcap: Path) -> Iterator[dict[str, int | str]]:
    """What the dissector read, under our names, in our units."""
    for frame in json.loads(pcap.with_name(pcap.stem + ".expected.json").read_text()):
        seconds, fraction = frame["time_epoch"].split(".")
        packet = frame["decoded"]["omi." + PREFIX.rstrip(".")]
        sequence = int(packet[PREFIX + "packetheader_tree"][PREFIX + "sequencenumber"])
        for index, tree in enumerate(as_list(packet[PREFIX + "message_tree"])):
            kind = tree[PREFIX + "messageheader_tree"][PREFIX + "messagetype"]
            layout = LAYOUTS[kind]
            name = layout.name.replace("_", "")
            values = {key.removeprefix(PREFIX): value for key, value in tree[f"{PREFIX}{name}_tree"].items()}
            values = {RENAMED.get(key, key): value for key, value in values.items()}
            row: dict[str, int | str] = {
                "message": layout.name,
                "type": kind,
                "sequence": sequence + index,
                "ts_recv": int(seconds) * 1_000_000_000 + int(fraction),
            }
            for field in layout.fields:
                text = values.pop(field.name.replace("_", ""))
                if field.is_text:
                    row[field.name] = text.rstrip(" ")
                else:
                    row[field.name] = int(Decimal(text) * (10_000 if field.name in PRICES else 1))
            assert not values, f"the dissector has more fields: {values}"
            yield row


@pytest.fixture(params=PCAPS or [None], ids=lambda path: "none" if path is None else f"{path.parent.name}/{path.stem}")
def pcap(request: pytest.FixtureRequest, captures: Path) -> Path:
    if request.param is None:
        pytest.fail(f"{captures} has no itch50/*/*.pcap")
    assert isinstance(request.param, Path)
    return request.param


def raw_messages(pcap: Path) -> list[CapturedMessage]:
    return list(read_messages(pcap.read_bytes()))


def test_the_reference_reads_what_the_dissector_read(pcap: Path) -> None:
    read = [decode(raw.message) for raw in raw_messages(pcap)]
    expected = list(expected_messages(pcap))
    assert read == [{k: v for k, v in row.items() if k not in ("sequence", "ts_recv")} for row in expected]
    assert [encode(str(row["type"]), row) for row in expected] == [raw.message for raw in raw_messages(pcap)]


def test_inspect_prints_what_the_dissector_read(pcap: Path, barewire: Cli) -> None:
    printed = barewire("inspect", pcap, "--protocol", "itch-5.0", "--json").stdout.splitlines()
    expected = list(expected_messages(pcap))
    assert len(printed) == len(expected) > 0
    for line, wanted in zip(printed, expected, strict=True):
        row = json.loads(line)
        assert {key: row.get(key) for key in wanted} == wanted


def test_what_inspect_prints_encodes_back_to_the_same_bytes(pcap: Path, barewire: Cli) -> None:
    printed = barewire("inspect", pcap, "--protocol", "itch-5.0", "--json").stdout.splitlines()
    for line, raw in zip(printed, raw_messages(pcap), strict=True):
        row = json.loads(line)
        fields = {field.name: row[field.name] for field in LAYOUTS[row["type"]].fields}
        assert _core.encode("itch-5.0", row["type"], fields) == raw.message
