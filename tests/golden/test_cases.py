"""The project's own captures: what is in them was written by hand, see make_cases.py."""

from __future__ import annotations

import json

import pytest

from barewire import _core

from conftest import Cli
from golden.make_cases import CASES, DATE, Case, all_cases, expected_inspect, files
from reference.itch_reference import LAYOUTS

ALL = all_cases()


@pytest.fixture(params=ALL, ids=[one.name for one in ALL])
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    return request.param


def test_the_files_are_what_the_script_makes(case: Case) -> None:
    for name, content in files(case).items():
        assert (CASES / name).read_bytes() == content, f"{name}: run tests/golden/make_cases.py"


def test_inspect(case: Case, barewire: Cli) -> None:
    printed = barewire("inspect", CASES / f"{case.name}.pcap", "--protocol", "itch-5.0", "--json").stdout
    expected = expected_inspect(case)
    rows = [row for row in map(json.loads, printed.splitlines()) if row["type"] in LAYOUTS]
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected, strict=True):
        assert {key: row.get(key) for key in wanted} == wanted


def test_encoding(case: Case) -> None:
    raws = [raw for _, _, raw in case.seen if raw[:1].decode() in LAYOUTS]
    for row, raw in zip(expected_inspect(case), raws, strict=True):
        fields = {field.name: row[field.name] for field in LAYOUTS[str(row["type"])].fields}
        assert _core.encode("itch-5.0", str(row["type"]), fields) == raw


def test_replay(case: Case, barewire: Cli) -> None:
    path = CASES / f"{case.name}.pcap"
    done = barewire("replay", path, "--protocol", "itch-5.0", "--date", DATE, "--records", "bbo", "--output", "-")
    assert done.stdout == (CASES / f"{case.name}.bbo.csv").read_text()
