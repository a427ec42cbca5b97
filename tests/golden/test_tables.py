"""The field tables that the core shows, against the reference's, which came from the specification on their own."""

from __future__ import annotations

from barewire import _core

from reference.itch_reference import LAYOUTS


def test_every_message_has_the_fields_of_the_specification() -> None:
    shown = _core.protocols()["itch-5.0"]["messages"]
    assert set(shown) == set(LAYOUTS)
    for kind, layout in LAYOUTS.items():
        row = shown[kind]
        assert (row["name"], row["len"]) == (layout.name, layout.length)
        fields = [field for field in row["fields"] if field["name"] != "message_type"]
        assert [(f["name"], f["offset"], f["len"]) for f in fields] == [
            (f.name, f.offset, f.length) for f in layout.fields
        ], layout.name
        assert [f["kind"] in ("text", "bytes") for f in fields] == [f.is_text for f in layout.fields], layout.name


def test_prices_say_their_unit() -> None:
    for row in _core.protocols()["itch-5.0"]["messages"].values():
        for field in row["fields"]:
            if field["name"].endswith("price") or "collar_price" in field["name"]:
                assert field["unit"] == "1e-4 USD", field
