"""`barewire run --onload`: the same program once more, under OpenOnload, which takes its sockets into user space.

Source of the variables: OpenOnload's user guide (UG1586), "Parameter Reference".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from .._errors import BarewireError, ConfigError

__all__ = ["LATENCY_ENVIRONMENT", "OnloadError", "enter_onload"]

LATENCY_ENVIRONMENT = {
    "EF_POLL_USEC": "100000",  # spin for 100 ms before a blocking receive sleeps
    "EF_INT_DRIVEN": "0",  # no interrupts while somebody spins
    "EF_RX_TIMESTAMPING": "1",  # the card's stamps, where it has them
    "EF_RXQ_SIZE": "4096",  # the most: a burst waits in the card's ring
    "EF_MAX_PACKETS": "65536",
}

_MARK = "BAREWIRE_ONLOAD"


class OnloadError(BarewireError):
    """There is no OpenOnload to run under."""


def enter_onload(arguments: Sequence[str], path: str) -> None:
    """Starts this command line again under `onload`, unless it runs under it. It takes over sockets: the path `kernel`.

    Raises ConfigError, OnloadError where there is no launcher; OSError where it cannot be started.
    """
    if path != "kernel":
        raise ConfigError(
            f'--onload: receive.path = "{path}": expected "kernel", whose sockets OpenOnload takes over',
            key="receive.path",
            value=path,
            expected='"kernel"',
        )
    if not _is_under_onload(os.environ):
        _run_under_onload(arguments)


def _is_under_onload(environment: Mapping[str, str]) -> bool:
    """Whether this process was started by the launcher, by us or by the user."""
    return _MARK in environment or "libonload" in environment.get("LD_PRELOAD", "")


def _run_under_onload(arguments: Sequence[str]) -> NoReturn:
    """Replaces this process by `onload barewire ARGUMENTS`. What the user set of EF_* stays as it is."""
    import shutil  # here: it takes long to load

    launcher = shutil.which("onload")
    if launcher is None:
        raise OnloadError(
            "--onload: no 'onload' on the PATH; install OpenOnload for a Solarflare or AMD card, or leave out --onload "
            "('barewire doctor' says what else this machine offers)"
        )
    environment = {**LATENCY_ENVIRONMENT, **os.environ, _MARK: "1"}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(launcher, [launcher, sys.executable, "-m", "barewire", *arguments], environment)
