"""Readers that are paused, killed and started again under a writer at full speed; `make torture` does it for longer."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

import pytest

from conftest import REPOSITORY


def test_every_reader_accounts_for_every_record() -> None:
    missing = [tool for tool in ("cargo", "cc") if shutil.which(tool) is None]
    if missing:
        assert "CI" not in os.environ, f"CI has {' and '.join(missing)}"
        pytest.skip(f"the writer and two of the readers are built here: no {' and no '.join(missing)}")
    spec = importlib.util.spec_from_file_location("torture", REPOSITORY / "tests/torture/run.py")
    assert spec is not None
    assert spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    sys.modules["torture"] = run
    spec.loader.exec_module(run)
    done = run.main(5.0)
    # Readers of all kinds, several epochs, and overruns, or it was no torture.
    assert done.epochs >= 3
    assert done.accounts >= 2 * len(done.commands)
    assert done.kills > 0
    assert done.lost > 0
    assert done.read > 100_000
