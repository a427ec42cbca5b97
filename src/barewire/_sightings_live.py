"""What hosts see, gathered while they see it: each tells a collector the receive times of some packets, the same ones.

A host sends a line of JSON, `{"sightings": 1, "host": NAME}`, and then blocks: a little-endian u32 count, and so many
pairs of u64, sequence number and receive time in nanoseconds since 1970. Those numbers are told that are a multiple of
`every`, so that all hosts tell of the same packets without a word between them.
"""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ._skew import Sightings

if TYPE_CHECKING:
    import numpy.typing as npt

    from ._batch import Batch

__all__ = ["Collector", "Teller", "sampled"]

_MOST_PAIRS = 65_536
"""Of one block."""
_MOST_HOSTS = 1_024
_LONGEST_NAME = 64
_KEPT = 1 << 16
"""Pairs kept of a host: the latest."""
_SILENCE_S = 60.0


def sampled(batch: Batch, every: int) -> npt.NDArray[np.uint64]:
    """Sequence number and receive time, shape (n, 2), of those events whose number is a multiple of `every`."""
    records = batch.records
    chosen = records[(records["kind"] <= 2) & (records["ts_recv"] > 0) & (records["sequence"] % every == 0)]
    _, first = np.unique(chosen["sequence"], return_index=True)
    pairs = np.empty((first.size, 2), "<u8")
    pairs[:, 0], pairs[:, 1] = chosen["sequence"][first], chosen["ts_recv"][first]
    return pairs


class Teller:
    """A host's side."""

    def __init__(self, address: str, port: int, host: str) -> None:
        """Raises OSError where nobody listens."""
        self._socket = socket.create_connection((address, port), timeout=10.0)
        self._socket.sendall(json.dumps({"sightings": 1, "host": host}).encode() + b"\n")

    def tell(self, pairs: npt.NDArray[np.uint64]) -> None:
        """Tells pairs of `sampled`. Raises OSError when the collector is gone."""
        for begin in range(0, len(pairs), _MOST_PAIRS):
            block = pairs[begin : begin + _MOST_PAIRS]
            self._socket.sendall(struct.pack("<I", len(block)) + block.tobytes())

    def close(self) -> None:
        """Ends the connection."""
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
        self._pairs: dict[str, npt.NDArray[np.uint64]] = {}
        self.refused = 0
        self._server = Server((address, port), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="barewire-sightings", daemon=True).start()

    def _serve(self, connection: socketserver.StreamRequestHandler) -> None:
        try:
            host = self._greeting(connection.rfile.readline(1_024))
            while head := connection.rfile.read(4):
                (count,) = struct.unpack("<I", head)
                if not 0 < count <= _MOST_PAIRS:
                    raise ValueError
                block = connection.rfile.read(count * 16)
                if len(block) < count * 16:
                    break
                self._keep(host, np.frombuffer(block, "<u8").reshape(-1, 2))
        except (ValueError, RecursionError, struct.error):
            with self._lock:
                self.refused += 1
        except OSError:
            pass  # the host is gone, or has nothing to tell for a minute: what it told stays

    def _greeting(self, line: bytes) -> str:
        said = json.loads(line)
        host = said.get("host") if isinstance(said, dict) and said.get("sightings") == 1 else None
        if not isinstance(host, str) or not 0 < len(host) <= _LONGEST_NAME or not host.isprintable():
            raise ValueError
        with self._lock:
            if host not in self._pairs and len(self._pairs) >= _MOST_HOSTS:
                raise ValueError
            self._pairs.setdefault(host, np.empty((0, 2), np.uint64))
        return host

    def _keep(self, host: str, pairs: npt.NDArray[np.uint64]) -> None:
        with self._lock:
            self._pairs[host] = np.concatenate([self._pairs[host], pairs])[-_KEPT:]

    def seen(self, seconds: float) -> Mapping[str, Sightings]:
        """What each host told of the last `seconds`, by the latest time that any of them told."""
        with self._lock:
            pairs = dict(self._pairs)
        latest = max((int(np.median(one[-16:, 1])) for one in pairs.values() if len(one)), default=0)
        oldest = max(0, latest - round(seconds * 1e9))
        recent = {host: one[one[:, 1] >= oldest] for host, one in pairs.items()}
        return {host: Sightings(one[:, 0], one[:, 1]) for host, one in recent.items() if len(one)}

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
