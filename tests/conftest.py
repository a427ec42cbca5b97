"""What every test here may use.

Tests run against the installed wheel. One that cannot run on a machine skips with a reason; in CI, where it can,
such a skip is a failure.

They run in two lanes (`make test-python`): what has namespaces of its own, or no network at all, beside the others. The
others share loopback, its groups and ports, and the rings' names: they are one group, which one worker takes in order.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

REPOSITORY = Path(__file__).resolve().parent.parent
CAPTURES = Path(os.environ.get("BAREWIRE_CAPTURES", REPOSITORY.parent / "shared" / "captures"))


APART = {
    "test_aapl",
    "test_align",
    "test_captures",
    "test_cases",
    "test_clock_plan",
    "test_clock_skew",
    "test_clock_watch",
    "test_differential",
    "test_doctor",
    "test_formats",
    "test_paths",
}
"""Files whose tests may run beside the others."""


class Lanes(LoadScopeScheduling):  # type: ignore[misc]
    """One worker's tests and the other's."""

    def _split_scope(self, nodeid: str) -> str:
        return "apart" if Path(nodeid.partition("::")[0]).stem in APART else "together"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """Asked for where there are workers at all."""
    return Lanes(config, log)


def skip_or_fail(reason: str) -> NoReturn:
    """Skips the running test; fails it where ``CI`` is set, since CI has what the test needs."""
    if os.environ.get("CI"):
        pytest.fail(f"may not skip in CI: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of real captures: ``BAREWIRE_CAPTURES``, or ``../shared/captures``. They are not ours to ship."""
    if not CAPTURES.is_dir():
        pytest.skip(f"no captures at {CAPTURES} (set BAREWIRE_CAPTURES)")
    return CAPTURES


Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def barewire() -> Cli:
    """Runs the installed ``barewire`` command: ``barewire("inspect", path, ...)``; a non-zero exit fails the test.

    Keywords: ``check=False`` to look at a failure, ``cwd``, ``input`` (text), ``timeout`` in seconds.
    """
    program = shutil.which("barewire", path=str(Path(sys.executable).parent))
    assert program is not None, "no barewire beside this Python: make build"

    def run(
        *arguments: str | Path,
        check: bool = True,
        cwd: Path | None = None,
        input: str | None = None,  # noqa: A002
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            input=input,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"barewire {' '.join(map(str, arguments))} exited {done.returncode}:\n{done.stderr}")
        return done

    return run
