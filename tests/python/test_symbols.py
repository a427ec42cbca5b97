"""The directory against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import barewire
from barewire import Symbols

number = st.integers(0, 2**32 - 1) | st.integers(1, 9)
announcement = st.tuples(number, st.text("ABC", min_size=1, max_size=3))


@given(st.lists(st.tuples(st.lists(announcement, max_size=5), st.lists(number, max_size=8)), max_size=6))
def test_names_are_the_last_announced(steps: list[tuple[list[tuple[int, str]], list[int]]]) -> None:
    announced: list[tuple[int, str]] = []
    symbols = Symbols(lambda first: announced[first:])
    for news, asked in steps:
        announced += news
        known = dict(announced)
        # Asking for what is unknown makes it look; what it knows already may be out of date until then.
        symbols.refresh()
        expected = [known.get(one, f"#{one}") for one in asked]
        positions = symbols.positions(np.array(asked, np.uint32))
        assert [symbols.names[position] for position in positions.tolist()] == expected
        assert [symbols.of(one) for one in asked] == expected
        assert dict(symbols) == known


def test_a_stranger_that_is_announced_later_gets_its_name() -> None:
    announced: list[tuple[int, str]] = []
    symbols = Symbols(lambda first: announced[first:])
    ids = np.array([5, 6, 5], np.uint32)
    assert [symbols.names[at] for at in symbols.positions(ids)] == ["#5", "#6", "#5"]
    before = symbols.version
    announced.append((5, "AAPL"))
    assert [symbols.names[at] for at in symbols.positions(ids)] == ["AAPL", "#6", "AAPL"]
    assert symbols.version != before


@pytest.mark.parametrize(
    ("asked", "matches", "hint"),
    [
        ("aapl", ("AAPL",), "did you mean AAPL?"),
        ("APPL", ("AAPL",), "did you mean AAPL?"),
        ("GOOGLE", ("GOOGL", "GOOG"), "did you mean GOOGL or GOOG?"),
        ("ZZZZZZ", (), "4 instruments are announced, none looks like it"),
    ],
)
def test_unknown_symbols_list_those_that_look_alike(asked: str, matches: tuple[str, ...], hint: str) -> None:
    announced = [(1, "AAPL"), (2, "GOOG"), (3, "GOOGL"), (4, "MSFT")]
    symbols = Symbols(lambda first: announced[first:])
    assert symbols.id_of("GOOG") == 2
    with pytest.raises(barewire.UnknownSymbolError) as caught:
        symbols.id_of(asked)
    assert caught.value.matches == matches
    assert str(caught.value) == f"unknown symbol {asked!r}: {hint}"


def test_before_anything_is_announced() -> None:
    with pytest.raises(barewire.UnknownSymbolError, match="no instrument has been announced yet"):
        Symbols(lambda _: []).id_of("AAPL")
