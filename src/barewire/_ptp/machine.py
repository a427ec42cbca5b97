"""What else a machine tells of its clocks: the kernel, the card's clock beside the system's, whether phc2sys runs.

Only asks. Whatever cannot be asked is told as such: nothing here raises for a machine that lacks it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import _core
from .._doctor import ethtool, system
from .judge import Kernel, Observation
from .management import PtpStatus

__all__ = ["Machine", "Processes"]


class Processes:
    """Which programs run, by /proc."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = Path(proc)
        self._seen: dict[str, Path] = {}

    def runs(self, name: str) -> bool:
        """Whether a process of this name runs, as far as this process may see."""
        last = self._seen.get(name)
        if last is not None and _is_called(last, name):
            return True
        found = next((one for one in self._proc.glob("[0-9]*/comm") if _is_called(one, name)), None)
        if found is None:
            self._seen.pop(name, None)
        else:
            self._seen[name] = found
        return found is not None


def _is_called(comm: Path, name: str) -> bool:
    try:
        return comm.read_text(errors="replace").rstrip("\n") == name
    except OSError:  # it ended meanwhile
        return False


def _phc_of(interface: str) -> int:
    """The number of a card's clock, /dev/ptpN; -1 for none. Raises OSError."""
    return ethtool.stamps(system.ioctl, interface).phc


class Machine:
    """This machine. Whom it asks can be put in its place, for tests."""

    def __init__(
        self,
        *,
        kernel: Callable[[], dict[str, Any]] = _core.system_clock,
        phc_of: Callable[[str], int] = _phc_of,
        compare: Callable[[int], dict[str, Any]] = _core.compare_phc,
        runs: Callable[[str], bool] | None = None,
    ) -> None:
        self._kernel = kernel
        self._phc_of = phc_of
        self._compare = compare
        self._runs = Processes().runs if runs is None else runs

    def observe(self, ptp: PtpStatus | None) -> Observation:
        """What there is to see at this moment, beside what ptp4l answered. Takes some 30 ms where there is a card."""
        at_s = time.monotonic()
        kernel = self._ask_kernel()
        interface = None if ptp is None else ptp.card
        if ptp is None or interface is None:
            return Observation(at_s, ptp, kernel)
        phc2sys: bool | None = self._runs("phc2sys")
        if not phc2sys and not self._runs("ptp4l"):
            phc2sys = None  # ptp4l answers, and is not to be seen: a container, whose processes are others
        card = f"{interface}'s clock"
        try:
            number = self._phc_of(interface)
            if number < 0:
                return Observation(at_s, ptp, kernel, card, system_error="the card has none", phc2sys=phc2sys)
            card = f"/dev/ptp{number}"
            found = self._compare(number)
        except OSError as error:
            return Observation(at_s, ptp, kernel, card, system_error=error.strerror or str(error), phc2sys=phc2sys)
        # The card counts TAI where the grandmaster says so, and then the system's clock is so many seconds behind.
        ahead_s = ptp.utc_offset_s if ptp.ptp_timescale else 0
        offset_ns = float(found["offset_ns"] + ahead_s * 10**9)
        return Observation(at_s, ptp, kernel, card, offset_ns, float(found["bound_ns"]), None, phc2sys)

    def _ask_kernel(self) -> Kernel | None:
        try:
            said = self._kernel()
        except OSError:  # forbidden, in some containers
            return None
        return Kernel(said["synchronised"], said["max_error_us"] * 1_000, said["tai_offset_s"] or 0)
