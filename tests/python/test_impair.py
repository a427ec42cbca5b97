"""Impairments as a user writes them: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import barewire
from barewire._impair import KEYS, Given, Impairment, parse_impairments


def parse(*texts: str, lines: str = "AB") -> list[Impairment] | None:
    return parse_impairments([Given("--impair", text) for text in texts], lines)


def test_every_key() -> None:
    both = parse(
        "loss=1%,burst=0.1%/20%/90%,duplicate=0.5,reorder=2%/7,delay=1.5ms,jitter=20us,drop=1+100-200,dead=2s-3s+4s-4500ms"
    )
    expected = Impairment(
        loss=0.01,
        burst=(0.001, 0.2, 0.9),
        duplicate=0.5,
        reorder=0.02,
        reorder_by=7,
        delay_ns=1_500_000,
        jitter_ns=20_000,
        drop=((0, 1), (99, 200)),
        dead=((2 * 10**9, 3 * 10**9), (4 * 10**9, 4_500_000_000)),
    )
    assert both == [expected, expected]
    assert parse() is None
    assert parse("burst=1%/50%", lines="A") == [Impairment(burst=(0.01, 0.5, 1.0))]


def test_a_line_s_own_value_takes_precedence() -> None:
    assert parse("A:loss=2%", "loss=1%,jitter=5us", "b: delay = 50us") == [
        Impairment(loss=0.02, jitter_ns=5_000),
        Impairment(loss=0.01, jitter_ns=5_000, delay_ns=50_000),
    ]


def test_the_shorthands() -> None:
    given = [
        Given("--loss", "A:1%", "loss"),
        Given("--loss", "0.5%", "loss"),
        Given("--line-skew", "50us", "delay", "B"),
        Given("--delay-jitter", "B:1ms", "jitter"),
    ]
    assert parse_impairments(given, "AB") == [
        Impairment(loss=0.01),
        Impairment(loss=0.005, delay_ns=50_000, jitter_ns=1_000_000),
    ]


WRONG = [
    ("los=1%", "unknown key 'los'; did you mean loss?"),
    ("x=1", "unknown key 'x'; expected one of: loss, burst, duplicate, reorder, delay, jitter, drop, dead"),
    ("loss", "loss: expected loss=1%"),
    ("loss=150%", "loss = 150%: expected a probability, 0% to 100% or 0 to 1"),
    ("loss=-1%", "loss = -1%: expected a probability, 0% to 100% or 0 to 1"),
    ("loss=nan", "loss = nan: expected a probability, 0% to 100% or 0 to 1"),
    ("burst=1%", "burst = 1%: expected ENTER/LEAVE or ENTER/LEAVE/LOSS, e.g. 0.1%/20%/90%"),
    (
        "reorder=1%/0",
        "reorder = 1%/0: expected P or P/BY, e.g. 1%/5 (up to five packets overtake one in a hundred), BY 1 to 10000",
    ),
    ("delay=5", "delay = 5: expected a time such as 500ns, 20us, 1.5ms or 2s, at most 60 s"),
    ("jitter=2h", "jitter = 2h: expected a time such as 500ns, 20us, 1.5ms or 2s, at most 60 s"),
    ("drop=0", "drop = 0: expected packet numbers from 1 on, e.g. 100-200 or 7+9+100-200"),
    ("drop=9-7", "drop = 9-7: expected packet numbers from 1 on, e.g. 100-200 or 7+9+100-200"),
    (
        "dead=3s-2s",
        "dead = 3s-2s: expected from when to when since the first packet, e.g. 2s-3s or 2s-3s+10s-10.5s",
    ),
    ("C:loss=1%", "no line C; expected A or B"),
    ("AB:loss=1%", "no line AB; expected A or B"),
    (":loss=1%", "no line ; expected A or B"),
    ("loss=1%,loss=2%", "loss was given for every line already: 1%"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text for text, _ in WRONG])
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(barewire.ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f"--impair {text!r}: {message}"
    assert caught.value.value == text


@pytest.mark.parametrize("unit", ["ns", "s"])
def test_a_time_of_hundreds_of_digits_is_too_long(unit: str) -> None:
    with pytest.raises(barewire.ConfigError, match="at most 60 s"):
        parse(f"delay={'9' * 400}{unit}")


def test_a_shorthand_is_named_as_it_was_typed() -> None:
    with pytest.raises(barewire.ConfigError, match=r"--loss 'A:2': expected a probability"):
        parse_impairments([Given("--loss", "A:2", "loss")], "AB")
    with pytest.raises(barewire.ConfigError, match=r"--line-skew '5us': no line B; expected A alone"):
        parse_impairments([Given("--line-skew", "5us", "delay", "B")], "A")


pieces = st.sampled_from([*KEYS, *"AB:=,/+-%.0123456789", "us", "s", " "])


@given(st.lists(pieces, max_size=12).map("".join))
def test_nothing_else_is_ever_raised(text: str) -> None:
    try:
        found = parse(text)
    except barewire.ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert found is not None
        for one in found:
            assert 0 <= one.loss <= 1
            assert all(first < end for first, end in (*one.drop, *one.dead))
