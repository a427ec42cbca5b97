"""Layouts: numpy sees what Rust declared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import barewire
from barewire import _core, _events, _records

from .venue import add, directory

DTYPES = {
    "mbo": barewire.MBO_DTYPE,
    "bbo": barewire.BBO_DTYPE,
    "gap": barewire.GAP_DTYPE,
    "status": barewire.STATUS_DTYPE,
}
EVENTS: dict[str, tuple[str, ...]] = {
    "mbo": barewire.MboEvent._fields,
    "bbo": barewire.BboEvent._fields,
    "gap": barewire.GapEvent._fields,
    "status": barewire.StatusEvent._fields,
}


@pytest.mark.parametrize("kind", DTYPES)
def test_dtypes_follow_the_tables(kind: str) -> None:
    dtype = DTYPES[kind]
    assert dtype.itemsize == 64
    assert dtype.fields is not None
    for row in _core.record_layouts()[kind]:
        if row["kind"] == "bytes":
            assert row["name"] not in dtype.fields
            continue
        field, offset = dtype.fields[row["name"]][:2]
        assert (offset, field.itemsize) == (row["offset"] + 8, row["len"])
        assert field.str[0] in ("|" if row["len"] == 1 or row["kind"] == "text" else "<")
    assert dtype.fields["ring_sequence"][1] == 0


@pytest.mark.parametrize("kind", EVENTS)
def test_events_have_the_fields_of_the_table_in_order(kind: str) -> None:
    named = [row.name for row in barewire.fields(kind) if row.kind != "bytes"]
    assert [*named, "symbol"] == list(EVENTS[kind])


def test_what_all_kinds_share_is_shared() -> None:
    common = barewire.RECORD_DTYPE.fields
    assert common is not None
    for dtype in DTYPES.values():
        assert dtype.fields is not None
        for name, place in common.items():
            if name == "payload":
                assert place[1] == place[1] // 8 * 8 == 64 - place[0].itemsize
                continue
            assert dtype.fields[name][:2] == place[:2]
    assert common["kind"][1] == _events.KIND_AT


def test_message_dtypes_read_messages() -> None:
    dtypes = barewire.message_dtypes("itch-5.0")
    message = add(7, "B", 100, 1_234_500, locate=3, symbol="AAPL", at=5)
    read = np.frombuffer(message, dtypes["A"])[0]
    assert (int(read["order_reference_number"]), int(read["shares"]), int(read["price"])) == (7, 100, 1_234_500)
    assert bytes(read["stock"]).rstrip() == b"AAPL"
    times = barewire.u48(np.frombuffer(message * 3, dtypes["A"])["timestamp"])
    assert times.tolist() == [34_200_000_000_005] * 3
    for code, dtype in dtypes.items():
        assert dtype.itemsize == _core.protocols()["itch-5.0"]["messages"][code]["len"]
    assert np.frombuffer(directory(1, "MSFT"), dtypes["R"])["round_lot_size"].tolist() == [100]


def test_an_unknown_protocol_is_told_with_those_that_are_known() -> None:
    with pytest.raises(barewire.ProtocolError, match=r"'itch'; expected one of: itch-5\.0") as caught:
        barewire.message_dtypes("itch")
    assert caught.value.known == barewire.protocols()


def test_field_tables_carry_units_and_codes() -> None:
    fields = {field.name: field for field in barewire.fields("mbo")}
    assert fields["price"].unit == "1e-9 currency units"
    assert fields["price"].offset == 48
    side = next(field for field in barewire.message_fields("itch-5.0")["A"] if field.name == "buy_sell_indicator")
    assert set(side.codes) == {"B", "S"}


@given(st.lists(st.integers(0, 2**48 - 1)))
def test_u48_is_the_big_endian_integer(values: list[int]) -> None:
    packed = np.frombuffer(b"".join(value.to_bytes(6, "big") for value in values), "V6")
    assert barewire.u48(packed).tolist() == values
    structured = np.zeros(len(values), [("a", "u1"), ("t", "V6")])
    structured["t"] = packed
    assert barewire.u48(structured["t"]).tolist() == values


def test_u48_refuses_other_widths() -> None:
    with pytest.raises(ValueError, match="6 bytes"):
        barewire.u48(np.zeros(3, "V5"))


def test_record_struct_agrees_with_numpy() -> None:
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 256, 64, np.uint8).tobytes()
    for kind, dtype in DTYPES.items():
        names = dtype.names or ()
        expected = np.frombuffer(raw, dtype)[0]
        for name, value in zip(names, _records.record_struct(kind).unpack(raw), strict=True):
            # numpy drops trailing zero bytes of text, struct does not.
            assert (value.rstrip(b"\0") if isinstance(value, bytes) else value) == expected[name]
