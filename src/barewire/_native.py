"""Strategies in the loop: compiled functions that a feed's own thread calls for each event, without Python.

Python functions are compiled by Numba, which is only imported here, when one is.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import BuiltinFunctionType, MappingProxyType
from typing import Any, overload

import numpy as np

from . import _core
from ._errors import BarewireError, ConfigError
from ._records import KINDS

__all__ = ["NATIVE_DTYPES", "TOP_DTYPE", "NativeStrategy", "check_records", "native"]

DEFAULT_SLOW_US = 10.0

TOP_DTYPE = np.dtype([("bid_price", "<i8"), ("ask_price", "<i8"), ("bid_size", "<u8"), ("ask_size", "<u8")])
"""The best bid and offer that a native function is given: prices in 1e-9 of the currency, `UNDEF_PRICE` where a side is
empty; sizes summed over the level."""

_C_FUNCTION: Any = ctypes.CFUNCTYPE(None).__mro__[1]  # what every function of ctypes is
_LONGEST_US = 1e12  # twelve days
_ERRORS = "_errors"
_WORD = 8


def _event_dtype(rows: Iterable[Mapping[str, Any]]) -> np.dtype[np.void]:
    """A record without the ring's sequence word; letters are numbers, as they are in C."""
    named = [row for row in rows if row["kind"] != "bytes"]

    def scalar(row: Mapping[str, Any]) -> str | tuple[str, int]:
        if row["kind"] == "text" or row["len"] not in (1, 2, 4, 8):
            return "u1" if row["len"] == 1 else ("u1", row["len"])
        return f"<{'i' if row['kind'].startswith('int') else 'u'}{row['len']}"

    return np.dtype(
        {
            "names": [row["name"] for row in named],
            "formats": [scalar(row) for row in named],
            "offsets": [row["offset"] for row in named],
            "itemsize": 56,
        }
    )


NATIVE_DTYPES: Mapping[str, np.dtype[np.void]] = MappingProxyType(
    {kind: _event_dtype(rows) for kind, rows in _core.record_layouts().items()}
)
"""The events that a native function is given, by kind: 56 bytes, the fields of `fields(kind)`.

Letters (`action`, `side`, `code`, `state`) are numbers: compare with `ord("T")`.
"""


@overload
def native(
    state: Any, *, on: str | Iterable[str], slow_us: float = DEFAULT_SLOW_US
) -> Callable[[Any], NativeStrategy]: ...
@overload
def native(
    state: Any,
    *,
    on_mbo: Any = None,
    on_bbo: Any = None,
    on_gap: Any = None,
    on_status: Any = None,
    slow_us: float = DEFAULT_SLOW_US,
) -> NativeStrategy: ...
def native(
    state: Any,
    *,
    on: str | Iterable[str] | None = None,
    on_mbo: Any = None,
    on_bbo: Any = None,
    on_gap: Any = None,
    on_status: Any = None,
    slow_us: float = DEFAULT_SLOW_US,
) -> NativeStrategy | Callable[[Any], NativeStrategy]:
    """A strategy that the feed's own thread calls for each event: without Python, without a copy, without a queue.

        @barewire.native([("changes", "i8"), ("widest", "i8")], on="bbo")
        def spread(event, top, state):
            state.changes += 1
            if event.bid_size and event.ask_size:
                state.widest = max(state.widest, event.ask_price - event.bid_price)

        with barewire.Feed.from_config("feed.toml", native=spread) as feed:
            time.sleep(60)
        print(spread.state.changes)

    The function is compiled by Numba (`pip install 'barewire[native]'`), here and now, in nopython mode. It is given
    the event (a record of `NATIVE_DTYPES[kind]`), the best bid and offer of its instrument after the message that the
    event came from (`TOP_DTYPE`), and the state. What it returns is ignored.

    Args:
        state: what the function may write to: a numpy dtype, a list of fields, or an array of one record with the
            values to begin with. Numbers, and arrays and records of them, of fixed size.
        on: of which kind the events are: "mbo", "bbo", "gap" or "status". Several for C functions, which look at
            `kind` themselves.
        on_mbo, on_bbo, on_gap, on_status: instead of `on`: a function for each kind, all on the same state. Then the
            strategy is returned, and nothing is decorated.
        slow_us: calls that take longer are counted in `stats.callback_slow`.

    A C function `void f(const void *event, const void *top, void *state)` goes where a Python function would: one from
    ctypes or cffi, a Numba cfunc, or its address as a number. `include/barewire_native.h` has its types.

    Raises ConfigError: Numba is missing, the function cannot be compiled or would take Python's lock, the state has
    fields without a fixed size.
    """
    by_kind = {"mbo": on_mbo, "bbo": on_bbo, "gap": on_gap, "status": on_status}
    given = {kind: function for kind, function in by_kind.items() if function is not None}
    if given:
        if on is not None:
            raise ConfigError("native(): expected on=, or on_mbo= and its like, found both", key="on", value=on)
        return NativeStrategy(given, state, slow_us)
    kinds = [on] if isinstance(on, str) else list(on or ())
    expected = ", ".join(KINDS)
    if not kinds or set(kinds) - set(KINDS):
        raise ConfigError(f"native(): on {on!r}: expected {expected}", key="on", value=on, expected=expected)

    def decorate(function: Any) -> NativeStrategy:
        if len(kinds) > 1 and _address(function) is None:
            raise ConfigError(
                f"native(): on {kinds!r}: expected one kind for a Python function; for several, give a function each: "
                f"native(state, {', '.join(f'on_{kind}=...' for kind in kinds)})",
                key="on",
                value=kinds,
            )
        return NativeStrategy(dict.fromkeys(kinds, function), state, slow_us)

    return decorate


class NativeStrategy:
    """A strategy for the feed's own thread, made by `barewire.native()`. Give it to a feed or a replay as `native=`.

    Attributes:
        functions: the functions as they were written, by kind.
        slow_us: calls that take longer are counted as slow.
    """

    def __init__(self, functions: Mapping[str, Any], state: Any, slow_us: float) -> None:
        self.functions = MappingProxyType(dict(functions))
        if not isinstance(slow_us, (int, float, np.number)) or not 0 < slow_us <= _LONGEST_US:
            expected = f"microseconds above 0, {_LONGEST_US:g} at most"
            raise ConfigError(
                f"slow_us {slow_us!r}: expected {expected}", key="slow_us", value=slow_us, expected=expected
            )
        self.slow_us = float(slow_us)
        self._initial = _initial(state)
        self._memory_dtype = _with_errors(self._initial.dtype)
        self._compiled = _compile(self.functions, self._memory_dtype)
        self._set_up()

    def _set_up(self) -> None:
        # A record array of one, aligned to a cache line, so that the feed's writes share none with anything else.
        size = self._memory_dtype.itemsize
        room = np.zeros(size + 64, np.uint8)
        begin = -room.ctypes.data % 64
        self._memory = room[begin : begin + size]
        self._state = self._memory.view(_recarray(self._memory_dtype))[0]
        self._fill()
        errors_at = self._memory_dtype.fields[_ERRORS][1] if self._memory_dtype.fields else None
        self._target = _core.NativeTarget(
            [(kind, address) for kind, (address, _) in self._compiled.items()],
            self._memory,
            errors_at=errors_at,
            slow_ns=round(self.slow_us * 1e3),
            keep=[keep for _, keep in self._compiled.values()],
        )

    def _fill(self) -> None:
        self._memory[:] = 0
        for name in self._initial.dtype.names or ():
            self._state[name] = self._initial[name]

    @property
    def state(self) -> Any:
        """The state itself: a record whose fields change while the feed runs. Nothing is copied.

        A field of up to eight bytes is read whole; two fields, or an array, may be of different moments: where they
        must belong together, `snapshot()`. Writing to it while the feed runs is between you and the function.
        """
        return self._state

    def snapshot(self) -> Any:
        """A copy of the state as it was between two calls.

        Costs the feed nothing. Raises BarewireError where no such moment was found within a second: a call is stuck, or
        calls follow each other so closely that a large state cannot be copied in between.
        """
        copy = np.zeros(self._memory_dtype.itemsize // _WORD, np.uint64)
        if not self._target.snapshot_into(copy.view(np.uint8)):
            raise BarewireError(f"native strategy {self.name}: no moment between two calls was found within a second")
        return copy.view(_recarray(self._memory_dtype))[0]

    @property
    def errors(self) -> int:
        """How many calls ended in an exception: an index out of bounds, a division by zero, one that was raised."""
        return int(self._state[_ERRORS])

    @property
    def in_use(self) -> bool:
        """Whether a feed or a replay has it."""
        return self._target.taken

    @property
    def name(self) -> str:
        """What the functions are called."""
        names = dict.fromkeys(_name(function) for function in self.functions.values())
        return ", ".join(names)

    def reset(self) -> None:
        """Sets the state back to what it was at first. Raises BarewireError while a feed has the strategy."""
        if self.in_use:
            raise BarewireError(f"native strategy {self.name}: in use; reset() it when its feed has stopped")
        self._fill()

    def copy(self) -> NativeStrategy:
        """The same code with a state of its own, as at first: for a second feed."""
        other = object.__new__(NativeStrategy)
        other.__dict__.update(self.__dict__)
        other._set_up()
        return other

    @property
    def target(self) -> _core.NativeTarget:
        """What feeds and replays are given."""
        return self._target

    def __repr__(self) -> str:
        return f"<NativeStrategy {self.name} on {', '.join(self.functions)}: {self._state}>"


def check_records(strategy: NativeStrategy, published: Iterable[str]) -> None:
    """A function that can never be called is a mistake worth hearing of before the market opens. Raises ConfigError."""
    if not isinstance(strategy, NativeStrategy):
        raise ConfigError(
            f"native: expected what barewire.native() made, found {strategy!r}", key="native", value=strategy
        )
    records = list(published)
    for kind in ("mbo", "bbo"):
        if kind in strategy.functions and kind not in records:
            raise ConfigError(
                f"records = {records}: native strategy {strategy.name} is for {kind!r}, which is not among them",
                key="records",
                value=records,
                expected=f"{kind!r} among the records",
            )


# --- state ---------------------------------------------------------------------------------------


def _recarray(dtype: np.dtype[np.void]) -> np.dtype[Any]:
    """The dtype whose records have their fields as attributes."""
    return np.dtype((np.record, dtype))


def _initial(state: Any) -> Any:
    """One record with the values to begin with."""
    expected = "a numpy dtype with fields, a list of fields, or an array of one record"
    found = state
    if not isinstance(state, (np.ndarray, np.void)):
        try:
            found = np.zeros(1, np.dtype(state))
        except (TypeError, ValueError) as problem:
            raise ConfigError(f"state: expected {expected}: {problem}", key="state", expected=expected) from None
    found = np.atleast_1d(np.asarray(found))
    if found.shape != (1,) or not found.dtype.names:
        raise ConfigError(
            f"state: expected {expected}, found {found.dtype} of shape {found.shape}", key="state", expected=expected
        )
    _check_fields(found.dtype, "state")
    return found[0]


def _check_fields(dtype: np.dtype[Any], where: str) -> None:
    for name, (kind, *_) in (dtype.fields or {}).items():
        base = kind.base
        if name.startswith("_") or base.kind not in "biufV" or (base.kind == "V" and not base.names):
            expected = "numbers, arrays and records of numbers, names without a leading underscore"
            raise ConfigError(
                f"{where}.{name}: expected {expected}, found {kind}", key=f"{where}.{name}", expected=expected
            )
        _check_fields(base, f"{where}.{name}")


def _with_errors(dtype: np.dtype[Any]) -> np.dtype[np.void]:
    """The state as it lies in memory: every field at its own alignment, whole words, a count of errors at the end."""
    fields = [(name, dtype[name]) for name in dtype.names or ()]
    return np.dtype([*fields, (_ERRORS, "<u8")], align=True)


# --- functions -----------------------------------------------------------------------------------


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _address(function: Any) -> int | None:
    """Where a compiled function begins; `None` for one that is not."""
    if isinstance(function, int) and not isinstance(function, bool):
        return function
    if isinstance(function, _C_FUNCTION):
        return ctypes.cast(function, ctypes.c_void_p).value
    if type(function).__module__ == "_cffi_backend" and (cffi := sys.modules.get("cffi")) is not None:
        return int(cffi.FFI().cast("uintptr_t", function))
    address = getattr(function, "address", None)  # a Numba cfunc
    return address if isinstance(address, int) else None


def _calls_python(function: Any) -> bool:
    """Whether it is a Python function in C's clothes: a callback of ctypes or cffi."""
    if isinstance(function, _C_FUNCTION):
        return any(type(kept).__name__ == "CThunkObject" for kept in (function._objects or {}).values())
    return type(function).__module__ == "_cffi_backend" and " calling <" in repr(function)


def _compile(functions: Mapping[str, Any], state: np.dtype[np.void]) -> dict[str, tuple[int, object]]:
    """The address of each function, and what keeps its code in memory."""
    compiled: dict[str, tuple[int, object]] = {}
    for kind, function in functions.items():
        if _calls_python(function):
            raise ConfigError(
                f"on_{kind}: expected a compiled function, found {function!r}, which calls Python: the feed would wait "
                "for Python's lock; give the Python function itself, for Numba to compile",
                key=f"on_{kind}",
                value=function,
            )
        address = _address(function)
        if address is not None:
            compiled[kind] = (address, function)
        elif isinstance(function, BuiltinFunctionType):
            raise ConfigError(
                f"on_{kind}: expected a function's address, found {function!r}; of cffi's API mode give "
                f"ffi.addressof(lib, {_name(function)!r})",
                key=f"on_{kind}",
                value=function,
            )
        elif callable(function):
            compiled[kind] = _jit(function, kind, state)
        else:
            expected = "a Python function, a function of ctypes or cffi, or an address"
            raise ConfigError(f"on_{kind}: expected {expected}, found {function!r}", key=f"on_{kind}", value=function)
    return compiled


def _jit(function: Any, kind: str, state: np.dtype[np.void]) -> tuple[int, object]:
    """Compiles a Python function. An exception in it is caught and counted in the state."""
    numba = _numba()
    carray = numba.carray
    entry_types = (numba.from_dtype(NATIVE_DTYPES[kind]), numba.from_dtype(TOP_DTYPE))
    try:
        state_type = numba.from_dtype(state)
        inner = numba.njit(boundscheck=True)(getattr(function, "py_func", function))
        inner.compile((*entry_types, state_type))
    except Exception as problem:
        raise _refused(function, problem) from problem
    _check_lock_free(function, inner)

    def entry(event: Any, top: Any, memory: Any) -> None:
        state = carray(memory, 1)[0]
        try:
            inner(carray(event, 1)[0], carray(top, 1)[0], state)
        except Exception:
            state._errors += 1

    pointers = [numba.types.CPointer(one) for one in (*entry_types, state_type)]
    made = numba.cfunc(numba.types.void(*pointers))(entry)
    return made.address, (made, inner)


@lru_cache(maxsize=1)
def _numba() -> Any:
    try:
        import numba
    except ImportError as problem:
        raise ConfigError(
            f"barewire.native: Python functions are compiled by Numba, which cannot be imported ({problem}): "
            "pip install 'barewire[native]'"
        ) from None
    return numba


def _where(function: Any) -> str:
    code = getattr(function, "__code__", None)
    return _name(function) if code is None else f"{_name(function)} ({code.co_filename}:{code.co_firstlineno})"


def _refused(function: Any, problem: Exception) -> ConfigError:
    """Numba's page of an error in a line; the page is the cause."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in str(problem).splitlines()]
    noise = ("Failed in", "During:", "File ", "This error", "For more", "Traceback", "[1]", "<source", "---")
    telling = [line for line in lines if line and not line.startswith(noise)]
    said = telling[0] if telling else type(problem).__name__
    return ConfigError(
        f"native function {_where(function)} cannot be compiled to run without Python: {type(problem).__name__}: {said}"
    )


_DEFINITION = re.compile(r"^define [^\n]*?@\"?([^\s\"(]+).*?^}", re.MULTILINE | re.DOTALL)


def _check_lock_free(function: Any, compiled: Any) -> None:
    """Refuses code that would stop the feed's thread until Python lets go of its lock.

    Numba wraps each function for callers in Python and C as well; those take the lock to tell of an exception, and are
    not what is called.
    """
    for code in compiled.inspect_llvm().values():
        for definition in _DEFINITION.finditer(code):
            if "numba_gil_ensure" in definition[0] and not definition[1].startswith(("cfunc.", "cpython.")):
                raise ConfigError(
                    f"native function {_where(function)} would wait for Python's lock (print, objmode): "
                    "leave that out, write what is to be told into the state"
                )
