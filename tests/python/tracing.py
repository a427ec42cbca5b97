"""System calls of one thread, counted with ptrace(2): every one of them, as the kernel sees them."""

from __future__ import annotations

import ctypes
import os
import signal
from collections import Counter
from typing import NamedTuple

_SYSCALL, _SEIZE, _INTERRUPT, _INFO = 24, 0x4206, 0x4207, 0x420E
_TRACESYSGOOD, _ANY_THREAD = 1, 0x4000_0000  # PTRACE_O_TRACESYSGOOD, __WALL
_ENTRY, _EXIT = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class _Info(ctypes.Structure):
    """`struct ptrace_syscall_info` of linux/ptrace.h, as far as it is looked at."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("padding", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number_or_result", ctypes.c_int64),
        ("rest", ctypes.c_uint64 * 8),
    )


class Calls(NamedTuple):
    """What a thread called: how often each number, and how often with a result above 0."""

    made: Counter[int]
    fruitful: Counter[int]


def _ptrace(request: int, thread: int, address: int | None, data: object) -> int:
    result: int = _libc.ptrace(request, thread, address, data)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def seize(thread: int) -> None:
    """Begins; the calling thread has to be the one that goes on. Raises PermissionError where tracing is forbidden."""
    _ptrace(_SEIZE, thread, None, _TRACESYSGOOD)
    _ptrace(_INTERRUPT, thread, None, None)


def count(thread: int) -> Calls:
    """Counts until the thread ends."""
    made: Counter[int] = Counter()
    fruitful: Counter[int] = Counter()
    info, number = _Info(), -1
    while True:
        _, status = os.waitpid(thread, _ANY_THREAD)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            return Calls(made, fruitful)
        pending = 0
        stopped_by = os.WSTOPSIG(status)
        if stopped_by == signal.SIGTRAP | 0x80:
            _ptrace(_INFO, thread, ctypes.sizeof(info), ctypes.addressof(info))
            if info.op == _ENTRY:
                number = info.number_or_result
                made[number] += 1
            elif info.op == _EXIT and info.number_or_result > 0:
                fruitful[number] += 1
        elif status >> 16 == 0:
            pending = stopped_by  # a signal of its own, which is to reach it
        _ptrace(_SYSCALL, thread, None, pending)
