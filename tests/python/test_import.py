"""What importing costs, told by what gets imported: times are recorded, never asserted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import barewire

HEAVY = ("numpy", "pydantic", "pyarrow", "rich", "asyncio", "polars", "pandas")


def modules_after(code: str) -> set[str]:
    """Top-level modules of a fresh interpreter that ran this code, and may have printed before."""
    program = f"import json, sys\n{code}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return set(found)


@pytest.mark.parametrize(
    "code",
    [
        "import barewire",
        "from barewire import BarewireError, ConfigError",
        "from barewire._cli.app import run_command_line; assert run_command_line(['--help']) == 0",
    ],
)
def test_start_loads_nothing_heavy(code: str, record_property: Callable[[str, object], None]) -> None:
    begun = time.perf_counter()
    assert not modules_after(code) & set(HEAVY)
    record_property("seconds", time.perf_counter() - begun)


def test_every_name_is_there() -> None:
    for name in barewire.__all__:
        assert getattr(barewire, name) is not None
    assert set(barewire.__all__) <= set(dir(barewire))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = barewire.nonsense


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    classes = [getattr(barewire, name) for name in barewire.__all__]
    errors = {one for one in classes if isinstance(one, type) and issubclass(one, barewire.BarewireError)}
    assert barewire.__doc__ is not None
    drawn = {word for word in barewire.__doc__.split() if word in {one.__name__ for one in errors}}
    assert drawn == {one.__name__ for one in errors}
