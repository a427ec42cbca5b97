"""One measurement in a process of its own: ``python contenders.py NAME FILE`` prints a JSON object.

barewire's contenders run under .venv, the peers' under a Python of their own. Each is called in the fastest way that
its documentation shows. Imports and, where a library takes bytes, reading the file happen before the clock starts.
``messages`` are those of the file that were worked through in ``seconds``.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DATE = "2024-07-01"
# Pure Python takes a microsecond or several for each message: a part of the file says as much as all of it.
FEW = 200_000

Result = dict[str, float]


class Clock:
    """How long a block took."""

    seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the block."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start


def result(messages: int, clock: Clock, **more: float) -> Result:
    return {"messages": messages, "seconds": clock.seconds, **more}


def head(path: Path, messages: int) -> bytes:
    """The first messages of a BinaryFILE."""
    with path.open("rb") as file:
        data = file.read(messages * 48)
    at = 0
    for _ in range(messages):
        if at + 2 > len(data):
            break
        at += 2 + int.from_bytes(data[at : at + 2], "big")
    return data[:at]


# --- barewire ------------------------------------------------------------------------------------


def _replay(path: Path, records: str) -> Result:
    from barewire import replay

    clock, rows = Clock(), 0
    with clock.running():
        opened = replay(path, protocol="itch-5.0", date=DATE, records=records)
        for batch in opened:
            rows += len(getattr(batch, records))
    return result(opened.stats.messages, clock, rows=rows)


def barewire_bbo(path: Path) -> Result:
    return _replay(path, "bbo")


def barewire_mbo(path: Path) -> Result:
    return _replay(path, "mbo")


def barewire_events(path: Path) -> Result:
    from barewire import replay

    clock, events = Clock(), 0
    with clock.running():
        for batch in replay(path, protocol="itch-5.0", date=DATE, records="mbo"):
            for _ in batch.events():
                events += 1
            if events >= FEW:
                break
    return result(events, clock)


def _filled_feed() -> Any:
    """A feed that has heard a simulated session on loopback, and stopped; its ring holds every record of it."""
    import barewire

    lines = [{"name": "A", "group": "239.255.64.9", "port": 26499, "interface": "lo"}]
    config = {
        "feed": {"protocol": "itch-5.0", "records": ["mbo"]},
        "lines": lines,
        "receive": {"rcvbuf_bytes": 64 << 20},
        "ring": {"capacity": 1 << 20},
    }
    feed = barewire.Feed.from_config(config)
    feed.start()
    program = Path(sys.executable).with_name("barewire")
    command: list[str | Path] = [
        program,
        "sim",
        "--line",
        "239.255.64.9:26499@lo",
        "--messages",
        "400000",
        "--rate",
        "400000",
    ]
    subprocess.run([*command, "--instruments", "100", "--seed", "1"], check=True, stdout=sys.stderr)
    deadline = time.monotonic() + 10
    while not feed.ended and time.monotonic() < deadline:
        time.sleep(0.01)
    feed.stop()  # what it published stays readable
    return feed


def barewire_ring_batches(path: Path) -> Result:  # noqa: ARG001
    """Batches of the size that a strategy would ask for, a column of each summed."""
    feed = _filled_feed()
    ring, clock, records, total = feed.reader(), Clock(), 0, 0
    ring.seek_oldest()
    with clock.running():
        while (batch := ring.read(timeout=0)) is not None:
            total += int(batch.mbo["size"].sum())
            records += len(batch)
    return result(records, clock)


def barewire_ring_events(path: Path) -> Result:  # noqa: ARG001
    """A callback for each order event."""
    import barewire

    class Count(barewire.Strategy):
        events = 0
        total = 0

        def on_event(self, event: barewire.MboEvent) -> None:
            self.events += 1
            self.total += event.size

    feed, strategy, clock = _filled_feed(), Count(), Clock()
    with clock.running():
        feed.run(strategy)
    return result(strategy.events, clock)


# --- peers ---------------------------------------------------------------------------------------


def _itch_book(path: Path, table: str) -> Result:
    import datetime

    import itch_book

    clock, rows = Clock(), 0
    with clock.running():
        feed = itch_book.open(str(path), date=datetime.date.fromisoformat(DATE), price_type="fixed")
        for batch in feed.batches(tables=(table,)):
            rows += len(next(iter(getattr(batch, table).values())))
    assert feed.stats is not None
    return result(feed.stats["messages"], clock, rows=rows, live_orders=feed.stats["live_orders"])


def itch_book_book(path: Path) -> Result:
    return _itch_book(path, "symbols")


def itch_book_bbo(path: Path) -> Result:
    return _itch_book(path, "bbo")


def itch_book_messages(path: Path) -> Result:
    return _itch_book(path, "messages")


def itchcpp_book(path: Path) -> Result:
    from itchcpp.book import BookManager

    data, clock, books = path.read_bytes(), Clock(), BookManager()
    with clock.running():
        books.process_stream(data)
    return result(_count(data), clock, books=books.book_count())


def itchcpp_objects(path: Path) -> Result:
    from itchcpp.parser import MessageParser

    data, clock, messages = path.read_bytes(), Clock(), 0
    with clock.running():
        for _ in MessageParser().parse_stream(data):
            messages += 1
    return result(messages, clock)


def itchfeed_objects(path: Path) -> Result:
    # Started with ITCH_NO_CPP=1: with itchcpp installed it would be itchcpp once more.
    from itch.parser import MessageParser

    data, clock, messages = head(path, FEW), Clock(), 0
    with clock.running():
        for _ in MessageParser().parse_stream(data):
            messages += 1
    return result(messages, clock)


def _for_meatpy(path: Path) -> Path:
    """The file's head without its `O` messages, which meatpy 0.5.0 expects to be longer than the specification says."""
    data, kept, at = head(path, FEW), [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if data[at + 2] != ord("O"):
            kept.append(data[at:end])
        at = end
    out = path.with_suffix(".meatpy")
    out.write_bytes(b"".join(kept))
    return out


def meatpy_objects(path: Path) -> Result:
    from meatpy.itch50 import ITCH50MessageReader

    path, clock, messages = _for_meatpy(path), Clock(), 0
    with clock.running(), ITCH50MessageReader(path) as reader:
        for _ in reader:
            messages += 1
    return result(messages, clock)


def meatpy_book(path: Path) -> Result:
    import datetime

    from meatpy.itch50 import ITCH50MarketProcessor, ITCH50MessageReader

    path = _for_meatpy(path)
    with ITCH50MessageReader(path) as reader:
        directory = next(message for message in reader if message.type == b"R")
    processor = ITCH50MarketProcessor(directory.stock, datetime.datetime.fromisoformat(DATE))
    clock, messages = Clock(), 0
    with clock.running(), ITCH50MessageReader(path) as reader:
        for message in reader:
            processor.process_message(message)
            messages += 1
    return result(messages, clock)


def dbn_objects(path: Path) -> Result:
    import databento_dbn as dbn

    data = path.with_suffix(".dbn").read_bytes()
    decoder, clock = dbn.DBNDecoder(has_metadata=False, input_version=3), Clock()
    with clock.running():
        decoder.write(data)
        records = len(decoder.decode())
    return result(records, clock)


def iceoryx2_python(path: Path) -> Result:  # noqa: ARG001
    """Samples of 64 bytes, published and received by Python; the receiving half is what is counted."""
    import iceoryx2

    class Record(ctypes.Structure):
        _fields_ = [(f"word{index}", ctypes.c_uint64) for index in range(8)]

        @staticmethod
        def type_name() -> str:
            return "Record"

    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    room = 8192
    node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
    builder = node.service_builder(iceoryx2.ServiceName.new(f"barewire/bench/{time.time_ns()}"))
    service = builder.publish_subscribe(Record).subscriber_max_buffer_size(room).create()
    publisher = service.publisher_builder().create()
    subscriber = service.subscriber_builder().buffer_size(room).create()
    record, clock, received, total = Record(), Clock(), 0, 0
    while received < FEW:
        for _ in range(room):
            publisher.loan_uninit().write_payload(record).send()
        with clock.running():
            while (sample := subscriber.receive()) is not None:
                total += sample.payload().contents.word3
                received += 1
    return result(received, clock)


def _count(data: bytes) -> int:
    at = count = 0
    while at + 2 < len(data):
        length = data[at] << 8 | data[at + 1]
        if not length:
            break
        at += 2 + length
        count += 1
    return count


CONTENDERS: dict[str, Callable[[Path], Result]] = {
    name.replace("_", "-"): call
    for name, call in list(globals().items())
    if name.startswith(("barewire_", "itch_book_", "itchcpp_", "itchfeed_", "meatpy_", "dbn_", "iceoryx2_"))
}

if __name__ == "__main__":
    print(json.dumps(CONTENDERS[sys.argv[1]](Path(sys.argv[2]))))
