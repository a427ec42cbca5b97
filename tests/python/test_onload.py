"""`barewire run --onload`, with a launcher that only writes down how it was called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_cli import config_text
from .venue import free_line

PROGRAM = str(Path(sys.executable).parent / "barewire")
# As the real one, it puts its library before the program's and runs it; the library here is none.
LAUNCHER = """#!/bin/sh
env | grep ^EF_ | sort > launched.env
for argument; do printf '%s\\n' "$argument"; done > launched.arguments
exec "$@"
"""


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / "onload"
    path.write_text(LAUNCHER)
    path.chmod(0o755)
    (tmp_path / "feed.toml").write_text(config_text({**free_line(), "interface": "lo"}))
    return path


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "run", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **environment},
    )


def test_a_feed_runs_under_the_launcher(launcher: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "feed.toml", "--onload", "--duration", "0.3", "--json", EF_POLL_USEC="-1", EF_NAME="mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1])
    assert launcher.with_name("onload").exists()
    called = (tmp_path / "launched.arguments").read_text().splitlines()
    assert called == [
        sys.executable,
        *("-m", "barewire", "run", "feed.toml", "--onload", "--duration", "0.3", "--json"),
    ]
    assert (tmp_path / "launched.env").read_text().splitlines() == [
        "EF_INT_DRIVEN=0",
        "EF_MAX_PACKETS=65536",
        "EF_NAME=mine",
        "EF_POLL_USEC=-1",  # the user's own
        "EF_RXQ_SIZE=4096",
        "EF_RX_TIMESTAMPING=1",
    ]


def test_one_that_runs_under_it_is_not_started_again(launcher: Path, tmp_path: Path) -> None:
    launcher.write_text("#!/bin/sh\nexit 9\n")
    done = run(tmp_path, "feed.toml", "--onload", "--duration", "0.1", BAREWIRE_ONLOAD="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert run(tmp_path, "feed.toml", "--onload").returncode == 9


def test_without_a_launcher_one_line_says_so(launcher: Path, tmp_path: Path) -> None:
    launcher.unlink()
    done = run(tmp_path, "feed.toml", "--onload")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("barewire: error: --onload: no 'onload' on the PATH; install OpenOnload")


def test_another_path_is_refused(launcher: Path, tmp_path: Path) -> None:
    text = config_text({**free_line(), "interface": "lo"}, receive='path = "af_xdp"')
    (tmp_path / "feed.toml").write_text(text)
    done = run(tmp_path, "feed.toml", "--onload")
    assert done.returncode == 2
    assert done.stderr == (
        'barewire: error: --onload: receive.path = "af_xdp": expected "kernel", whose sockets OpenOnload takes over\n'
    )
    assert not (tmp_path / "launched.env").exists()
    assert launcher.exists()
