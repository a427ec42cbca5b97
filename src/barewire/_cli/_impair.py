"""The options by which commands take impairments."""

from __future__ import annotations

from typing import Annotated

import typer

from .._impair import KEYS, Given

__all__ = [
    "BurstLossOption",
    "DelayJitterOption",
    "DuplicateOption",
    "ImpairOption",
    "LineSkewOption",
    "LossOption",
    "ReorderOption",
    "given_impairments",
]

ImpairOption = Annotated[
    list[str] | None,
    typer.Option(
        "--impair",
        metavar="[LINE:]KEY=VALUE,...",
        help=f"Impair every line, or one: A:loss=1%,jitter=20us. Keys: {', '.join(KEYS)}; repeatable.",
    ),
]
LossOption = Annotated[
    list[str] | None,
    typer.Option("--loss", metavar="[LINE:]P", help="Lose packets: 1%, or A:1%; repeatable, as all of these."),
]
BurstLossOption = Annotated[
    list[str] | None,
    typer.Option(
        "--burst-loss",
        metavar="[LINE:]ENTER/LEAVE[/LOSS]",
        help="Lose packets in bursts (Gilbert-Elliott): 0.1%/20%/90%.",
    ),
]
DuplicateOption = Annotated[
    list[str] | None, typer.Option("--duplicate", metavar="[LINE:]P", help="Deliver packets twice: 1%.")
]
ReorderOption = Annotated[
    list[str] | None,
    typer.Option("--reorder", metavar="[LINE:]P[/BY]", help="Let up to BY later packets overtake one: 1%/5."),
]
DelayJitterOption = Annotated[
    list[str] | None,
    typer.Option("--delay-jitter", metavar="[LINE:]TIME", help="Delay each packet at random, up to this: 20us."),
]
LineSkewOption = Annotated[
    list[str] | None,
    typer.Option("--line-skew", metavar="[LINE:]TIME", help="Delay a line, B where none is named: 50us."),
]


def given_impairments(
    impair: list[str] | None,
    loss: list[str] | None,
    burst_loss: list[str] | None,
    duplicate: list[str] | None,
    reorder: list[str] | None,
    delay_jitter: list[str] | None,
    line_skew: list[str] | None,
) -> list[Given]:
    """What was typed, option by option."""
    shorthands = (
        ("--loss", "loss", loss),
        ("--burst-loss", "burst", burst_loss),
        ("--duplicate", "duplicate", duplicate),
        ("--reorder", "reorder", reorder),
        ("--delay-jitter", "jitter", delay_jitter),
    )
    given = [Given("--impair", text) for text in impair or ()]
    given += [Given(option, text, key) for option, key, texts in shorthands for text in texts or ()]
    return given + [Given("--line-skew", text, "delay", "B") for text in line_skew or ()]
