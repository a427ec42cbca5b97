"""barewire: exchange multicast, decoded and booked, as numpy batches or callbacks in Python.

    import barewire

    with barewire.Feed.from_config("feed.toml") as feed:        # a live feed
        for batch in feed:                                      # or: async for batch in feed
            print(batch.bbo["bid_price"], batch.lost)           # numpy structured arrays

    for batch in barewire.replay("20200130.pcap.gz", protocol="itch-5.0"):    # a file, through the same engine
        print(batch.mbo[["sequence", "action", "price", "size"]])

    barewire.Ring.attach("nasdaq")                              # another process's feed
    feed.book("AAPL").depth(5)                                  # price levels, in place

Prices are integers in 1e-9 of the currency (`UNDEF_PRICE` where there is none), times are integers in ns since 1970,
UTC.

Errors, each with attributes that say what was expected and what was found:

    BarewireError
    ├── ConfigError (ValueError)          a configuration value or argument that cannot be
    ├── ProtocolError (ValueError)        a protocol that barewire does not know
    ├── FormatError (ValueError)          a file that is not what it should be
    ├── UnknownSymbolError (LookupError)  no such instrument in the feed's directory
    ├── FeedError                         a feed used before its start or after its end, or whose thread failed
    └── RingError                         a ring that cannot be read: another layout, another version
        └── ProducerGone                  the process that wrote the ring died or was restarted

What the operating system refuses keeps its own class (`FileNotFoundError`, `PermissionError`, `OSError`). Damaged
packets and missed records are data, not errors: they are counted in `stats` and in `Batch.lost`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it; importing typing would take half of what this import takes
if TYPE_CHECKING:
    from typing import Any

    from ._align import Aligned, AlignStats, align
    from ._align_batch import ALIGNED_DTYPE, LEG_DTYPE, RELEASED_BY, AlignedBatch, RowBatch, row_dtype
    from ._align_rows import Rows
    from ._batch import Batch
    from ._book import LEVEL_DTYPE, ORDER_DTYPE, Book, Quote
    from ._clock import Clock
    from ._config import Config
    from ._core import __version__, counters
    from ._errors import (
        BarewireError,
        ConfigError,
        FeedError,
        FormatError,
        ProducerGone,
        ProtocolError,
        RingError,
        UnknownSymbolError,
    )
    from ._events import BboEvent, ClockEvent, Event, GapEvent, MboEvent, StatusEvent
    from ._example import EXAMPLE_CONFIG
    from ._feed import Feed
    from ._lines import LineStats
    from ._native import NATIVE_DTYPES, TOP_DTYPE, NativeStrategy, native
    from ._records import (
        BBO_DTYPE,
        GAP_DTYPE,
        GAP_REASONS,
        MBO_DTYPE,
        RECORD_DTYPE,
        STATUS_CODES,
        STATUS_DTYPE,
        TS_SOURCES,
        UNDEF_PRICE,
        UNDEF_SIZE,
        Field,
        fields,
        message_dtypes,
        message_fields,
        protocols,
        u48,
    )
    from ._replay import Replay, replay
    from ._ring import Ring
    from ._stats import FeedStats
    from ._strategy import Strategy
    from ._symbols import Symbols

__all__ = [
    "ALIGNED_DTYPE",
    "BBO_DTYPE",
    "EXAMPLE_CONFIG",
    "GAP_DTYPE",
    "GAP_REASONS",
    "LEG_DTYPE",
    "LEVEL_DTYPE",
    "MBO_DTYPE",
    "NATIVE_DTYPES",
    "ORDER_DTYPE",
    "RECORD_DTYPE",
    "RELEASED_BY",
    "STATUS_CODES",
    "STATUS_DTYPE",
    "TOP_DTYPE",
    "TS_SOURCES",
    "UNDEF_PRICE",
    "UNDEF_SIZE",
    "AlignStats",
    "Aligned",
    "AlignedBatch",
    "BarewireError",
    "Batch",
    "BboEvent",
    "Book",
    "Clock",
    "ClockEvent",
    "Config",
    "ConfigError",
    "Event",
    "Feed",
    "FeedError",
    "FeedStats",
    "Field",
    "FormatError",
    "GapEvent",
    "LineStats",
    "MboEvent",
    "NativeStrategy",
    "ProducerGone",
    "ProtocolError",
    "Quote",
    "Replay",
    "Ring",
    "RingError",
    "RowBatch",
    "Rows",
    "StatusEvent",
    "Strategy",
    "Symbols",
    "UnknownSymbolError",
    "__version__",
    "align",
    "counters",
    "fields",
    "message_dtypes",
    "message_fields",
    "native",
    "protocols",
    "replay",
    "row_dtype",
    "u48",
]

# Where each name lives: loaded when first asked for, so that `import barewire` costs next to nothing.
_HOMES = {
    "_align": ("Aligned", "AlignStats", "align"),
    "_align_batch": ("ALIGNED_DTYPE", "LEG_DTYPE", "RELEASED_BY", "AlignedBatch", "RowBatch", "row_dtype"),
    "_align_rows": ("Rows",),
    "_batch": ("Batch",),
    "_book": ("LEVEL_DTYPE", "ORDER_DTYPE", "Book", "Quote"),
    "_clock": ("Clock",),
    "_config": ("Config",),
    "_core": ("__version__", "counters"),
    "_errors": (
        "BarewireError",
        "ConfigError",
        "FeedError",
        "FormatError",
        "ProducerGone",
        "ProtocolError",
        "RingError",
        "UnknownSymbolError",
    ),
    "_events": ("BboEvent", "ClockEvent", "Event", "GapEvent", "MboEvent", "StatusEvent"),
    "_example": ("EXAMPLE_CONFIG",),
    "_feed": ("Feed",),
    "_lines": ("LineStats",),
    "_native": ("NATIVE_DTYPES", "TOP_DTYPE", "NativeStrategy", "native"),
    "_records": (
        "BBO_DTYPE",
        "GAP_DTYPE",
        "GAP_REASONS",
        "MBO_DTYPE",
        "RECORD_DTYPE",
        "STATUS_CODES",
        "STATUS_DTYPE",
        "TS_SOURCES",
        "UNDEF_PRICE",
        "UNDEF_SIZE",
        "Field",
        "fields",
        "message_dtypes",
        "message_fields",
        "protocols",
        "u48",
    ),
    "_replay": ("Replay", "replay"),
    "_ring": ("Ring",),
    "_stats": ("FeedStats",),
    "_strategy": ("Strategy",),
    "_symbols": ("Symbols",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'barewire' has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
