"""What hosts see, gathered while they see it: each tells a collector the receive times of some packets, the same ones.

A host sends a line of JSON, `{"sightings": 2, "host": NAME}`, and then blocks: a little-endian u32 count, and so many
times three u64: sequence number, the venue's time of the message (which tells sessions apart) and the receive time, in
nanoseconds since 1970. A block of none says that the host is still there. Those numbers are told that are a multiple
of `every`, so that all hosts tell of the same packets without a word between them.
"""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from ._sightings import NOT_HEARD
from ._skew import Sightings

if TYPE_CHECKING:
    import numpy.typing as npt

    from ._batch import Batch

__all__ = ["NOTHING", "Collector", "Teller", "sampled"]

NOTHING = np.empty((0, 3), "<u8")
"""What `Teller.tell` is given when nothing came."""

_VERSION = 2
_ROW_BYTES = 24
_MOST_ROWS = 65_536
"""Of one block."""
_MOST_HOSTS = 1_024
_LONGEST_NAME = 64
_KEPT = 1 << 16
"""Messages kept of a host: the latest."""
_SILENCE_S = 60.0
_STILL_THERE_S = 10.0
_GATHERED_S = 0.2
"""What came within such a time is told at once: a block for each batch of a ring would be thousands a second."""
_SMALL = 1_024
"""Blocks of fewer rows are kept together."""


def sampled(batch: Batch, every: int) -> npt.NDArray[np.uint64]:
    """Sequence number, venue's time and receive time, shape (n, 3), of each `every`th message heard by multicast."""
    records = batch.records
    heard = (records["kind"] <= 2) & (records["ts_recv"] > 0) & (records["flags"] & NOT_HEARD == 0)
    chosen = records[heard & (records["sequence"] % every == 0)]
    # A message's records lie one behind the other.
    first = np.ones(len(chosen), bool)
    first[1:] = chosen["sequence"][1:] != chosen["sequence"][:-1]
    columns = [chosen[name][first] for name in ("sequence", "ts_event", "ts_recv")]
    return np.stack(columns, axis=1).astype("<u8")


class Teller:
    """A host's side."""

    def __init__(self, address: str, port: int, host: str) -> None:
        """Raises OSError where nobody listens."""
        self._socket = socket.create_connection((address, port), timeout=10.0)
        self._socket.sendall(json.dumps({"sightings": _VERSION, "host": host}).encode() + b"\n")
        self._told_s = float("-inf")
        self._gathered: list[npt.NDArray[np.uint64]] = []

    def tell(self, rows: npt.NDArray[np.uint64]) -> None:
        """Tells rows of `sampled`, with those of the fifth of a second before, from time to time also that there were

        none: to be called at least so often. Raises OSError when the collector is gone."""
        if len(rows):
            self._gathered.append(rows)
        silent_s = time.monotonic() - self._told_s
        if silent_s >= (_GATHERED_S if self._gathered else _STILL_THERE_S):
            self._send()

    def _send(self) -> None:
        rows = np.concatenate([NOTHING, *self._gathered])
        self._gathered.clear()
        for begin in range(0, max(1, len(rows)), _MOST_ROWS):
            block = rows[begin : begin + _MOST_ROWS]
            self._socket.sendall(struct.pack("<I", len(block)) + block.tobytes())
        self._told_s = time.monotonic()

    def close(self) -> None:
        """Tells the rest, and ends the connection."""
        with suppress(OSError):
            self._send()
        self._socket.close()


class Collector:
    """Listens, and keeps the latest sightings of each host. What makes no sense ends its connection, and is counted."""

    def __init__(self, address: str, port: int) -> None:
        """Raises OSError where the address is not to be had."""
        collector = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = _SILENCE_S

            def handle(self) -> None:
                collector._serve(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._lock = threading.Lock()
        self._blocks: dict[str, deque[npt.NDArray[np.uint64]]] = {}
        self.refused = 0
        self._server = Server((address, port), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="barewire-sightings", daemon=True).start()

    def _serve(self, connection: socketserver.StreamRequestHandler) -> None:
        try:
            host = self._greeting(connection.rfile.readline(1_024))
            while head := connection.rfile.read(4):
                (count,) = struct.unpack("<I", head)
                if count > _MOST_ROWS:
                    raise ValueError
                block = connection.rfile.read(count * _ROW_BYTES)
                if len(block) < count * _ROW_BYTES:
                    break
                self._keep(host, np.frombuffer(block, "<u8").reshape(-1, 3))
        except (ValueError, RecursionError, struct.error):
            with self._lock:
                self.refused += 1
        except OSError:
            pass  # the host is gone, or has nothing to tell for a minute: what it told stays

    def _greeting(self, line: bytes) -> str:
        said = json.loads(line)
        host = said.get("host") if isinstance(said, dict) and said.get("sightings") == _VERSION else None
        if not isinstance(host, str) or not 0 < len(host) <= _LONGEST_NAME or not host.isprintable():
            raise ValueError
        with self._lock:
            if host not in self._blocks and len(self._blocks) >= _MOST_HOSTS:
                raise ValueError
            self._blocks.setdefault(host, deque())
        return host

    def _keep(self, host: str, rows: npt.NDArray[np.uint64]) -> None:
        if not len(rows):
            return
        came = np.full((len(rows), 1), time.monotonic_ns(), np.uint64)
        with self._lock:
            blocks = self._blocks[host]
            before = [blocks.pop()] if blocks and len(blocks[-1]) < _SMALL else []
            blocks.append(np.concatenate([*before, np.hstack([rows, came])]))
            kept = sum(map(len, blocks))
            while kept - len(blocks[0]) >= _KEPT:
                kept -= len(blocks.popleft())

    def seen(self, seconds: float) -> Mapping[str, Sightings]:
        """What each host told within the last `seconds`: by the collector's own clock, since theirs may be wrong."""
        with self._lock:
            blocks = {host: list(one) for host, one in self._blocks.items() if one}
        rows = {host: np.concatenate(one)[-_KEPT:] for host, one in blocks.items()}
        oldest = max(0, time.monotonic_ns() - round(seconds * 1e9))
        recent = {host: one[one[:, 3] >= oldest] for host, one in sorted(rows.items())}
        return {host: Sightings(one[:, 0], one[:, 2], one[:, 1]) for host, one in recent.items() if len(one)}

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
