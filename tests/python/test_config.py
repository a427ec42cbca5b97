"""The configuration: what is wrong is named, with what would be right."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import barewire
from barewire._config import Config, load_config
from barewire._defaults import DEFAULT_GLIMPSE, DEFAULT_LINES, DEFAULT_REREQUEST

GOOD: dict[str, Any] = {
    "feed": {"protocol": "itch-5.0"},
    "lines": [{"name": "A", "group": "239.255.64.1", "port": 26477, "interface": "lo"}],
}


def with_value(key: str, value: object) -> dict[str, Any]:
    """GOOD with one value changed or added; `key` as in error messages."""
    table, _, name = key.partition(".")
    if table.startswith("lines["):
        return {**GOOD, "lines": [{**GOOD["lines"][0], name: value}]}
    return {**GOOD, table: {**GOOD.get(table, {}), name: value}} if name else {**GOOD, table: value}


CORES = ", ".join(map(str, sorted(os.sched_getaffinity(0))))

WRONG = [
    ("feed.protocol", "itch", 'feed.protocol = "itch": expected one of: itch-5.0'),
    ("feed.protocol", 5, "feed.protocol = 5: expected the name of a protocol"),
    ("feed.name", "a/b", "feed.name = \"a/b\": expected letters, digits, '.', '_' or '-', at most 64"),
    (
        "feed.publisher_id",
        256,
        "feed.publisher_id = 256: expected a number of yours, 0 to 255, that every record carries",
    ),
    (
        "feed.date",
        "30/1/2020",
        'feed.date = "30/1/2020": expected the trading day, YYYY-MM-DD; left out: today in New York',
    ),
    (
        "feed.records",
        [],
        'feed.records = []: expected a list of "mbo" (order events and trades) and "bbo" (best bid and offer)',
    ),
    ("feed.records", ["mbo", "mbo"], 'feed.records = ["mbo", "mbo"]: expected each name once'),
    ("feed.symbols", "AAPL", 'feed.symbols = "AAPL": expected a list of symbols, e.g. ["AAPL", "MSFT"]; left out: all'),
    (
        "lines[0].group",
        "10.0.0.1",
        'lines[0].group = "10.0.0.1": expected a multicast IPv4 address, 224.0.0.0 to 239.255.255.255',
    ),
    ("lines[0].port", "26477", 'lines[0].port = "26477": expected a UDP port, 1 to 65535'),
    ("lines[0].port", 0, "lines[0].port = 0: expected a UDP port, 1 to 65535"),
    (
        "lines[0].source",
        "239.0.0.1",
        'lines[0].source = "239.0.0.1": expected the sender\'s IPv4 address, to join that source alone; '
        "left out: any sender",
    ),
    (
        "lines[0].allow",
        "10.1.0.0/16",
        'lines[0].allow = "10.1.0.0/16": expected a list of addresses and networks that packets may come from, '
        "at most 64; left out: any",
    ),
    (
        "lines[0].allow",
        ["10.1.0.0/33"],
        'lines[0].allow[0] = "10.1.0.0/33": expected a list of addresses and networks that packets may come from, '
        "at most 64; left out: any",
    ),
    (
        "lines[0].allow",
        ["10.0.0.1", "10.1.2.3/16"],
        "lines[0].allow[1] = \"10.1.2.3/16\": expected the network's first address, 10.1.0.0/16, or the host's alone, "
        "10.1.2.3",
    ),
    (
        "lines[0].allow",
        ["239.255.64.1"],
        'lines[0].allow[0] = "239.255.64.1": expected whom packets come from, which is never a group',
    ),
    (
        "lines[0].interface",
        "",
        "lines[0].interface = \"\": expected an interface's name such as eth0; left out: the kernel's choice",
    ),
    (
        "receive.mode",
        "fast",
        'receive.mode = "fast": expected "blocking" (gentle: sleeps until a packet comes) or '
        '"busy" (fastest: takes a whole core)',
    ),
    ("receive.core", 4096, f"receive.core = 4096: expected a core that this process may use: {CORES}"),
    (
        "receive.rcvbuf_bytes",
        1.5,
        "receive.rcvbuf_bytes = 1.5: expected the socket's receive buffer in bytes, 4096 to 1073741824",
    ),
    (
        "receive.timestamps",
        "yes",
        'receive.timestamps = "yes": expected whose clock says when packets came: "auto" (the card\'s where it '
        "stamps already, else the kernel's, else the feed's own), "
        '"hardware" (the card is set up for it), "kernel" or "user"',
    ),
    (
        "receive",
        {"path": "dpdk"},
        'receive = a table: expected a [receive.dpdk] table with the device, e.g. device = "0000:03:00.0"',
    ),
    (
        "receive",
        {"dpdk": {"device": "net af_packet"}},
        'receive.dpdk.device = "net af_packet": expected a device as DPDK has it, "0000:03:00.0" or '
        '"net_af_packet,iface={interface}" ({interface} is the line\'s), or a table of such by interface: '
        '{eth0 = "0000:03:00.0"}',
    ),
    (
        "receive",
        {"dpdk": {"queues": 65}},
        "receive.dpdk.queues = 65: expected receive queues of each device, 1 to 64",
    ),
    ("ring.capacity", 5000, "ring.capacity = 5000: expected a power of two, e.g. 4096 or 8192"),
    (
        "ring.mode",
        0o1777,
        "ring.mode = 1023: expected file permissions, 0o600 (384: you alone) or 0o640 (416: and a group), never others",
    ),
    (
        "ring.group",
        "no such group",
        'ring.group = "no such group": expected the name or number of a group on this machine',
    ),
    ("book.orders", 0, "book.orders = 0: expected a number of live orders, 1 to 1073741824"),
    (
        "sequencing.line_timeout_us",
        -1,
        "sequencing.line_timeout_us = -1: expected microseconds of silence after which a line counts as down, three "
        "heartbeats say, 0 (never) to 3600000000",
    ),
    ("recovery", 5, "recovery = 5: expected tables [recovery.rerequest] and [recovery.snapshot]"),
    ("recovery.snapsot", {}, "recovery.snapsot: unknown key; did you mean snapshot?"),
    ("receive.mod", "busy", "receive.mod: unknown key; did you mean mode?"),
    (
        "receive.xyz",
        1,
        "receive.xyz: unknown key; expected one of: path, mode, core, rcvbuf_bytes, busy_poll_us, timestamps, "
        "switch_times, drop_capabilities, io_uring, packet_mmap, af_xdp, dpdk",
    ),
    (
        "receive.switch_times",
        "metamako",
        'receive.switch_times = "metamako": expected path "packet_mmap", "af_xdp" or "dpdk" beside it, since '
        "sockets see no trailers",
    ),
    ("fed", {}, "fed: unknown key; did you mean feed?"),
    ("lines", [], "lines = []: expected one [[lines]] table for each line, 1 to 8"),
    ("lines", {}, "lines = a table: expected one [[lines]] table for each line, 1 to 8"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG, ids=[f"{key}={value!r}"[:40] for key, value, _ in WRONG])
def test_what_is_wrong_is_named_in_one_line(key: str, value: object, message: str) -> None:
    with pytest.raises(barewire.ConfigError) as caught:
        load_config(with_value(key, value))
    assert caught.value.problems == (message,)
    assert str(caught.value) == message
    # Of a list or a table, the place in it.
    assert caught.value.key.startswith(key)
    for part in re.findall(r"[a-z_0-9]+", caught.value.key.removeprefix(key)):
        value = value[int(part)] if isinstance(value, list) else value[part]  # type: ignore[index]
    assert caught.value.value == value
    assert caught.value.expected in message


SERVER = '"ADDRESS:PORT" with an IPv4 address of one machine, e.g. "10.0.0.1:26500"'
WRONG_RECOVERY = [
    (
        {"rerequest": {}},
        "recovery.rerequest.servers is missing; expected a list of the venue's re-request servers, e.g. "
        '["10.0.0.1:26500"], 1 to 8',
    ),
    *(
        ({"snapshot": {"servers": [server]}}, f"recovery.snapshot.servers[0] = {json.dumps(server)}: expected {SERVER}")
        for server in ("10.0.0.1", "10.0.0.1:0", "10.0.0.1:65536", "239.0.0.1:1", "0.0.0.0:1", "venue:1", ":1", 5)
    ),
    (
        {"rerequest": {"servers": ["10.0.0.1:1", "10.0.0.1:01"]}},
        'recovery.rerequest.servers = ["10.0.0.1:1", "10.0.0.1:01"]: expected each name once',
    ),
    (
        {"rerequest": {"servers": ["10.0.0.1:1"], "timeout": 5}},
        "recovery.rerequest.timeout: unknown key; did you mean timeout_us?",
    ),
    (
        {"rerequest": {"servers": ["10.0.0.1:1"], "attempts": 0}},
        "recovery.rerequest.attempts = 0: expected how often the same messages are asked for in vain, 1 to 255",
    ),
    (
        {"snapshot": {"servers": ["10.0.0.1:1"], "sequence": "after"}},
        'recovery.snapshot.sequence = "after": expected what the snapshot\'s number means: "next" (the first message '
        'it does not hold) or "last" (the last one it holds)',
    ),
    # A password is no business of a log's.
    (
        {"snapshot": {"servers": ["10.0.0.1:1"], "password": "longer than ten"}},
        'recovery.snapshot.password = "...": expected the login\'s password, at most 10 ASCII characters',
    ),
]


@pytest.mark.parametrize(("tables", "message"), WRONG_RECOVERY, ids=[message[:50] for _, message in WRONG_RECOVERY])
def test_what_is_wrong_with_recovery_is_named(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(barewire.ConfigError) as caught:
        load_config({**GOOD, "recovery": tables})
    assert caught.value.problems == (message,)
    assert "longer than ten" not in repr(vars(caught.value))


def test_a_password_is_not_shown() -> None:
    config = load_config({**GOOD, "recovery": {"snapshot": {"servers": ["10.0.0.1:1"], "password": "secret"}}})
    assert "secret" not in repr(config)
    assert config.to_core()["recovery"]["snapshot"]["password"] == "secret"


def test_every_problem_has_its_line() -> None:
    with pytest.raises(barewire.ConfigError) as caught:
        load_config("[feed]\nprotocol = 'x'\n[ring]\ncapacity = 3\n")
    assert [line.split(" ")[0] for line in caught.value.problems] == ["feed.protocol", "lines", "ring.capacity"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"name": "A"}, "two have the name A"),
        ({"name": "B"}, "two have the group and port 239.255.64.1:26477"),
    ],
)
def test_lines_differ(other: dict[str, Any], message: str) -> None:
    with pytest.raises(barewire.ConfigError, match=message):
        load_config({**GOOD, "lines": [GOOD["lines"][0], {**GOOD["lines"][0], **other}]})


def test_the_same_group_by_another_card_is_another_line() -> None:
    first = GOOD["lines"][0]
    config = load_config({**GOOD, "lines": [first, {**first, "name": "B", "interface": "eth7"}]})
    assert [line.interface for line in config.lines] == ["lo", "eth7"]
    # By whichever card the routing table names it may be the same.
    nameless = {key: value for key, value in first.items() if key != "interface"}
    with pytest.raises(barewire.ConfigError, match="or each to name another interface"):
        load_config({**GOOD, "lines": [first, {**nameless, "name": "B"}]})


def test_senders_that_contradict_each_other_are_refused() -> None:
    line = {**GOOD["lines"][0], "source": "10.0.0.1"}
    with pytest.raises(barewire.ConfigError, match=r"source: 10.0.0.1 is not in allow, so that nothing would be heard"):
        load_config({**GOOD, "lines": [{**line, "allow": ["10.0.0.2", "10.1.0.0/16"]}]})
    config = load_config({**GOOD, "lines": [{**line, "allow": ["10.0.0.1/32", "10.1.0.0/255.255.0.0"]}]})
    assert config.to_core()["lines"][0]["allow"] == ["10.0.0.1", "10.1.0.0/16"]
    with pytest.raises(barewire.ConfigError, match="at most 64"):
        load_config({**GOOD, "lines": [{**line, "allow": ["10.0.0.1"] * 65}]})


@pytest.mark.parametrize("text", ["[feed\nx", "=\n", "[feed]\nprotocol = 'itch-5.0\n"])
def test_text_that_is_not_toml_says_where(text: str) -> None:
    with pytest.raises(barewire.ConfigError, match=r"not TOML: .*(at line \d|at end of document)"):
        load_config(text)


def test_a_file_is_named_in_each_line(tmp_path: Path) -> None:
    path = tmp_path / "feed.toml"
    path.write_text("[feed]\nprotocol = 3\n")
    with pytest.raises(barewire.ConfigError) as caught:
        load_config(path)
    assert all(line.startswith(f"{path}: ") for line in caught.value.problems)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(barewire.ConfigError, match="byte 0 is not UTF-8"):
        load_config(str(path))
    with pytest.raises(FileNotFoundError):
        load_config(tmp_path / "no.toml")


def test_the_example_is_what_the_simulator_sends_to() -> None:
    config = load_config(barewire.EXAMPLE_CONFIG)
    found = [(line.name, line.group, line.port, line.interface) for line in config.lines]
    assert found == [tuple(line) for line in DEFAULT_LINES]
    # With the names and servers of its recovery tables uncommented it finds the simulator's servers.
    text = re.sub(r"^# (\[recovery|servers)", r"\1", barewire.EXAMPLE_CONFIG, flags=re.MULTILINE)
    recovery = load_config(text).recovery
    assert recovery.rerequest is not None
    assert recovery.snapshot is not None
    assert (recovery.rerequest.servers, recovery.snapshot.servers) == ([DEFAULT_REREQUEST], [DEFAULT_GLIMPSE])
    # What it shows as commented-out defaults are the defaults.
    lines = barewire.EXAMPLE_CONFIG.splitlines()
    shown: dict[str, dict[str, Any]] = {}
    table = ""
    for line in lines:
        if line.startswith(("[", "# [")):
            table = line.removeprefix("# ").split()[0].strip("[]")
        elif line.startswith("# ") and " = " in line and table not in ("feed", "lines"):
            shown[table] = {**shown.get(table, {}), **tomllib.loads(line[2:])}
    shown["receive"].pop("core")
    shown["receive"].pop("switch_times")
    shown["ring"].pop("group")
    shown["clock"].pop("ptp_socket")
    shown["recovery.rerequest"].pop("local")
    assert shown["sequencing"].pop("capacity") == load_config(GOOD).held_messages
    bare = load_config(text)
    paths = {"receive.io_uring", "receive.packet_mmap", "receive.af_xdp", "receive.dpdk"}
    assert set(shown) == paths | {"receive", "clock", "ring", "sequencing", "recovery.rerequest", "recovery.snapshot"}
    for name, values in shown.items():
        there = bare.model_dump()
        for part in name.split("."):
            there = there[part]
        assert values
        if name in paths:
            assert set(values) == set(there)
            values = {key: value for key, value in values.items() if there[key] is not None}
        assert values == {key: there[key] for key in values}


def test_what_the_core_gets() -> None:
    config = load_config({**GOOD, "feed": {"protocol": "itch-5.0", "date": "2020-01-30", "symbols": ["AAPL"]}})
    core = config.to_core()
    assert core["midnight_ns"] == 1_580_360_400_000_000_000
    assert core["symbols"] == ["AAPL"]
    assert core["lines"] == [{**GOOD["lines"][0], "source": None, "allow": []}]
    assert load_config({**GOOD, "feed": {"protocol": "itch-5.0", "date": dt.date(2020, 1, 30)}}).feed.date == dt.date(
        2020, 1, 30
    )
    assert load_config(config) is config


def test_what_the_core_gets_of_recovery() -> None:
    bare = load_config(GOOD).to_core()
    assert bare["recovery"] == {"rerequest": None, "snapshot": None}
    assert bare["sequencing"] == {"hold_us": 2000, "capacity": 1 << 16, "line_timeout_us": 3_000_000}
    servers = {"servers": ["10.0.0.1:26500"]}
    core = load_config(
        {**GOOD, "recovery": {"rerequest": servers, "snapshot": {**servers, "sequence": "last"}}}
    ).to_core()
    assert core["recovery"] == {
        "rerequest": {
            "servers": ["10.0.0.1:26500"],
            "local": None,
            "max_messages": 1000,
            "per_second": 1000,
            "timeout_ns": 20_000_000,
            "attempts": 3,
            "give_up_ns": 1_000_000_000,
            "max_gap": 50_000,
        },
        "snapshot": {
            "servers": ["10.0.0.1:26500"],
            "username": "",
            "password": "",
            "timeout_ns": 10_000_000_000,
            "attempts": 2,
            "retry_ns": 30_000_000_000,
            "max_bytes": 1 << 30,
            "last_included": True,
        },
    }
    # It has to hold what comes in while a snapshot is fetched.
    assert core["sequencing"]["capacity"] == 1 << 20
    given = {**GOOD, "sequencing": {"capacity": 4096}, "recovery": {"snapshot": servers}}
    assert load_config(given).to_core()["sequencing"]["capacity"] == 4096


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
tables = st.sampled_from(["feed", "lines", "receive", "sequencing", "recovery", "ring", "book"])
keys = st.sampled_from(
    sorted({name for table in Config.model_fields.values() for name in getattr(table.annotation, "model_fields", ())})
)


@given(st.dictionaries(tables, st.dictionaries(keys, values, max_size=4) | values, max_size=5))
def test_nothing_else_is_ever_raised(data: dict[str, Any]) -> None:
    merged = {**GOOD, **data}
    try:
        load_config(merged)
    except barewire.ConfigError as error:
        assert error.problems
        assert all(line and "\n" not in line for line in error.problems)
