"""Every code block of the README and the documentation runs, in the order in which it stands there.

A document's blocks share a folder, as they would share a reader's: what one writes, the next may read. ``bash`` and
``python`` blocks are run, with the installed ``barewire`` on the path; what they start in the background is stopped
when the document ends. ``toml`` blocks are checked as configurations, ``c`` blocks compiled. ``text`` is output or a
picture. A block that cannot run here says why, in a comment on the line before it: ``<!-- not run: reason -->``.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

import barewire

from conftest import REPOSITORY

DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?P<before>^[^\n]*\n)?^(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
NOT_CODE = ("text", "{toctree}", "{include}", "{note}", "{warning}")
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")


class Block(NamedTuple):
    line: int
    language: str
    code: str
    is_run: bool


def blocks(text: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("fence")) + 1
        skipped = bool(NOT_RUN.search(match["before"] or ""))
        found.append(Block(line, match["language"].strip(), match["code"], not skipped))
    return found


def wait_for_the_ring() -> None:
    """The examples' feed has a ring of a fixed name, which a feed of somebody else's on this machine may be using."""
    for _ in range(600):
        try:
            if barewire.Ring.attach("nasdaq-sim").state != "alive":
                return
        except (OSError, barewire.RingError):
            return
        time.sleep(0.1)
    pytest.fail("another feed on this machine has the ring nasdaq-sim, which the examples use: stop it")


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(REPOSITORY)) for path in DOCUMENTS])
def test_blocks_run(document: Path, tmp_path: Path) -> None:
    wait_for_the_ring()
    binaries = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "error",
        "NO_COLOR": "1",
        "HOME": str(tmp_path),
    }
    groups = []
    try:
        for block in blocks(document.read_text()):
            where = f"{document.relative_to(REPOSITORY)}:{block.line}"
            if not block.is_run or block.language in NOT_CODE:
                continue
            match block.language:
                case "bash":
                    command = ["bash", "-euo", "pipefail", "-c", block.code]
                case "python":
                    command = [sys.executable, "-c", block.code]
                case "toml":
                    command = [sys.executable, "-c", f"import barewire; barewire.Feed.from_config({block.code!r})"]
                case "c":
                    source = tmp_path / f"block-{block.line}.c"
                    source.write_text(block.code)
                    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{REPOSITORY / 'include'}"]
                    command = ["cc", *flags, str(source), "-o", str(source.with_suffix(""))]
                case other:
                    pytest.fail(f"{where}: a block of {other or 'no language'}: say bash, python, toml, c or text")
            output = tmp_path / f"output-{block.line}"
            with output.open("w") as file:
                process = subprocess.Popen(
                    command,
                    cwd=tmp_path,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                groups.append(process.pid)
                try:
                    status = process.wait(timeout=90)
                except subprocess.TimeoutExpired:
                    pytest.fail(f"{where}: still running after 90 s\n{block.code}\n{output.read_text()}")
            assert status == 0, f"{where} exited {status}\n{block.code}\n{output.read_text()}"
    finally:
        for group in groups:
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                continue


def test_there_is_something_to_run() -> None:
    assert (
        sum(block.is_run and block.language in ("bash", "python") for d in DOCUMENTS for block in blocks(d.read_text()))
        > 5
    )
