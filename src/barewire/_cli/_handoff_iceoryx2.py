"""iceoryx2's part of `barewire bench handoff`, run by a Python that has it: nothing of barewire's is imported here.

    python -I _handoff_iceoryx2.py SINGLES PACE_NS ITEMS

Prints `{"late_ns": [...], "each_ns": ...}`: of samples of 64 bytes that another process sends, one each PACE_NS,
how long from before the loan until they were received; of many in the queue, how long receiving one takes.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from typing import Any

import iceoryx2

_ROOM = 8192


class Record(ctypes.Structure):
    """As large as a record of barewire's ring."""

    _fields_ = [(f"word{index}", ctypes.c_uint64) for index in range(8)]

    @staticmethod
    def type_name() -> str:
        """What both sides call it."""
        return "Record"


def _service(name: str) -> Any:
    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
    builder = node.service_builder(iceoryx2.ServiceName.new(name)).publish_subscribe(Record)
    return node, builder.subscriber_max_buffer_size(_ROOM).open_or_create()


def _pin(place: int) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[place % len(allowed)]})


def _send(name: str, singles: int, pace_ns: int) -> None:
    node, service = _service(name)
    publisher = service.publisher_builder().create()
    record = Record()
    _pin(0)
    sys.stdin.readline()
    due = time.monotonic_ns()
    for _ in range(singles):
        while time.monotonic_ns() < due:
            pass
        due = time.monotonic_ns() + pace_ns
        record.word0 = time.monotonic_ns()
        publisher.loan_uninit().write_payload(record).send()
    del node


def main() -> None:
    """Receives; the sender is this program again."""
    if sys.argv[1] == "send":
        _send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    singles, pace_ns, items = map(int, sys.argv[1:])
    name = f"barewire/handoff/{os.getpid()}"
    node, service = _service(name)
    subscriber = service.subscriber_builder().buffer_size(_ROOM).create()
    command = [sys.executable, "-I", __file__, "send", name, str(singles), str(pace_ns)]
    late: list[int] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as sender:
        _pin(1)
        assert sender.stdin is not None
        sender.stdin.write("go\n")
        sender.stdin.flush()
        until = time.monotonic() + 20
        while len(late) < singles and time.monotonic() < until:
            sample = subscriber.receive()
            if sample is not None:
                late.append(time.monotonic_ns() - sample.payload().contents.word0)
    publisher, record = service.publisher_builder().create(), Record()
    received = took = total = 0
    while received < items:
        for _ in range(_ROOM):
            publisher.loan_uninit().write_payload(record).send()
        begun = time.perf_counter_ns()
        while (sample := subscriber.receive()) is not None:
            total += sample.payload().contents.word3
            received += 1
        took += time.perf_counter_ns() - begun
    print(json.dumps({"late_ns": late, "each_ns": took / received}))
    del node


if __name__ == "__main__":
    main()
