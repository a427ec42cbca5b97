"""A progress bar on standard error, where that is a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["bar"]

_REDRAW_S = 0.1


@contextmanager
def bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yields what to call with the number of bytes read so far; it may be called as often as one likes."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
    ) as progress:
        task = progress.add_task(os.path.basename(name), total=total)
        drawn = 0.0

        def advance(done: int) -> None:
            nonlocal drawn
            now = time.monotonic()
            if now - drawn >= _REDRAW_S:
                drawn = now
                progress.update(task, completed=done, refresh=True)

        yield advance
