"""What the compiled half promises to threads, forks and quiet pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pytest

from barewire import BarewireError, FeedError, RingError, _core
from barewire._cli.sim import simulator_config
from barewire._config_receive import ReceiveConfig

from .venue import binaryfile, free_line, small_day

FEED: dict[str, Any] = {
    "protocol": "itch-5.0",
    "publisher_id": 0,
    "midnight_ns": 0,
    "symbols": None,
    "records": ["mbo", "bbo"],
    "receive": ReceiveConfig(rcvbuf_bytes=1 << 16, timestamps="user").to_core(),
    "sequencing": {"hold_us": 1000, "capacity": 1024, "line_timeout_us": 0},
    "recovery": {"rerequest": None, "snapshot": None},
    "ring": {"name": None, "capacity": 1024, "mode": 0o600, "group": None},
    "book": {"instruments": 64, "orders": 64, "levels": 64},
}


def feed(lines: int = 1) -> _core.Feed:
    line = {"source": None, "allow": [], **free_line("A")}
    return _core.Feed({**FEED, "lines": [line] * lines})


def block() -> npt.NDArray[np.uint8]:
    return np.zeros(64 * 64, np.uint8)


def test_a_ring_answers_while_a_thread_waits_in_it() -> None:
    live = feed()
    live.start()
    ring = live.reader()
    # How far its clock may be off is what a feed tells first.
    assert ring.read_into(block(), 5_000_000_000)[0] == 1
    waiting = threading.Thread(target=lambda: ring.read_into(block(), 1_000_000_000))
    waiting.start()
    time.sleep(0.1)
    assert (ring.directory(), ring.lag(), ring.position, ring.published) == ([], 0, 1, 1)
    assert ring.producer_state() == "alive"
    assert (ring.capacity, ring.name) == (1024, "")
    assert ring.epoch >= 0
    assert dict(ring.stats())["packets"] == 0
    with pytest.raises(RingError, match="another thread is reading"):
        ring.read_into(block(), 0)
    with pytest.raises(RingError, match="another thread is reading"):
        ring.seek_oldest()
    assert waiting.is_alive()
    waiting.join()
    ring.seek_oldest()
    live.stop()


def in_fork(check: Callable[[], None]) -> int:
    """Exit status of a forked child that runs the check; -SIGALRM where it hangs."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        status = 1
        try:
            check()
            status = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_leaves_the_feed_to_its_parent() -> None:
    holder = [feed()]
    holder[0].start()

    def child() -> None:
        for ask in (holder[0].stats, holder[0].reader, holder[0].directory, lambda: holder[0].top(1)):
            with pytest.raises(FeedError, match="belongs to the process that started it"):
                ask()
        assert not holder[0].running
        holder[0].stop()
        del holder[0]

    def dropping_child() -> None:
        del holder[0]

    assert in_fork(child) == 0
    assert in_fork(dropping_child) == 0
    assert holder[0].running
    assert holder[0].top(1) is None
    holder[0].stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_leaves_the_simulator_to_its_parent(tmp_path: Path) -> None:
    config = simulator_config(
        instruments=10, live_orders=100, rate=1000.0, real_time=True, binaryfile=f"{tmp_path}/day.bin"
    )
    holder = [_core.Simulator(config)]
    holder[0].start()

    def child() -> None:
        assert not holder[0].running
        with pytest.raises(BarewireError, match="belongs to the process that started it"):
            holder[0].stop()
        del holder[0]

    def dropping_child() -> None:
        del holder[0]

    assert in_fork(child) == 0
    assert in_fork(dropping_child) == 0
    assert holder[0].running
    assert holder[0].stop()["stopped"]


def test_lines_are_counted() -> None:
    with pytest.raises(ValueError, match=r"lines: expected at most \d+, found 9"):
        feed(9)


CODE = """
import sys
import numpy as np
from barewire import _core
what, path = sys.argv[1:]
source = 0 if path == "-" else path
print("ready", flush=True)
try:
    if what == "replay":
        replay = _core.Replay(source, protocol="itch-5.0", format="binaryfile", records=["mbo", "bbo"],
                              book={"instruments": 64, "orders": 64, "levels": 64})
        buffer, count = np.zeros(64 * 1024, np.uint8), 0
        while not replay.at_end:
            count = replay.read_into(buffer)
            print("records", count, flush=True)
    else:
        for text in _core.Inspector(source, protocol="itch-5.0", format="binaryfile", json=False):
            print("records", text.count(chr(10)), flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
ONE_MESSAGE = 2 + 39  # the small day's first, behind its length


@contextmanager
def reading(what: str, path: str) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    """A process that reads a pipe, once it has begun, with its two ends of pipes."""
    arguments = [sys.executable, "-c", CODE, what, path]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process, process.stdin, process.stdout


@pytest.mark.parametrize("what", ["replay", "inspect"])
@pytest.mark.parametrize("sent", [0, 1, ONE_MESSAGE + 9])
@pytest.mark.parametrize("named", [False, True])
def test_ctrl_c_ends_a_quiet_pipe(tmp_path: Path, what: str, sent: int, named: bool) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ExitStack() as stack:
        process, pipe, out = stack.enter_context(reading(what, str(fifo) if named else "-"))
        if named and sent:
            pipe = stack.enter_context(fifo.open("wb", buffering=0))
        if sent:
            pipe.write(binaryfile(small_day())[:sent])
            pipe.flush()
        if sent > ONE_MESSAGE and what == "inspect":
            assert out.readline() == b"records 1\n"  # shown without waiting for what comes after it
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0  # while the pipe is open
        assert out.read().endswith(b"interrupted\n")


def test_records_of_a_pipe_come_before_its_end() -> None:
    with reading("replay", "-") as (process, pipe, out):
        pipe.write(binaryfile(small_day()))
        pipe.flush()
        assert int(out.readline().split()[1]) > 0
        pipe.close()
        assert process.wait(10) == 0
