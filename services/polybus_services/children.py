"""Signals to child processes that may be ending at this very moment."""

import contextlib
import os

from anyio.abc import Process


def send_signal(process: Process, number: int) -> None:
    """Send a signal to a child; nothing happens if it has ended.

    Not `Process.send_signal`: up to CPython 3.12.7 and 3.13.0 that looks for the exit status first, and takes it
    away from the event loop, which then reports 255 (cpython issue 127049).  A child without a `returncode` has
    not been waited for, so its number is nobody else's.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
