"""Signals as something to poll, with word of who sent them: signalfd(2), which Python lacks.

A handler would not tell a Ctrl-C on the terminal, which every process of the foreground hears, from a signal that
was sent to this process alone.
"""

import ctypes
import os
import signal
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

_SIGNALS_MAX: Final = 1024
_WORD_BITS: Final = 8 * ctypes.sizeof(ctypes.c_ulong)
_RECORD_BYTES: Final = 128
_SENT_BY_KERNEL: Final = 0x80
"""SI_KERNEL in ssi_code (sigaction(2)): no process sent it, the terminal did."""


class Received(NamedTuple):
    """A signal, and whether the kernel itself sent it."""

    number: int
    is_from_kernel: bool


class SignalFile:
    """Holds signals back and hands them out one by one; `release` gives them their usual effect again."""

    def __init__(self, numbers: Iterable[int]) -> None:
        numbers = list(numbers)
        mask = (ctypes.c_ulong * (_SIGNALS_MAX // _WORD_BITS))()
        for number in numbers:
            mask[(number - 1) // _WORD_BITS] |= 1 << (number - 1) % _WORD_BITS
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = libc.signalfd(-1, mask, os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._mask_before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a signal has come."""
        return self._fd

    def read(self) -> list[Received]:
        """Return the signals that have come since; never blocks."""
        try:
            records = os.read(self._fd, 16 * _RECORD_BYTES)
        except BlockingIOError:
            return []
        starts = range(0, len(records), _RECORD_BYTES)
        fields = (struct.unpack_from("=Iii", records, start) for start in starts)
        return [Received(number, code == _SENT_BY_KERNEL) for number, _, code in fields]

    def release(self) -> None:
        """Close the file and let signals through as before."""
        os.close(self._fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask_before)
