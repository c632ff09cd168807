"""The machine: who runs on which core, how much processor time and memory a process has had.  Linux only."""

import ctypes
import functools
import os
import platform
import re
import time
from collections.abc import Iterable
from pathlib import Path


@functools.cache
def cores() -> tuple[set[int], set[int]]:
    """The core of the subject, and those of everybody else; the same where there is only one.

    Decided once: whoever asks goes to the others' cores then, and would find no more than those.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[-1]}, set(allowed[:-1]) or set(allowed)


def pin(pid: int, to: Iterable[int]) -> None:
    """Let all threads of a process, and those that it starts from now on, run on these cores only."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), to)


def processor_ns(pid: int) -> int:
    """Processor time that all threads of a process have had, in nanoseconds: psutil has it in hundredths of a second."""
    clock = ctypes.c_int()
    error = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error), str(pid))
    return time.clock_gettime_ns(clock.value)


def other_threads_ns(pid: int) -> int:
    """Processor time of all threads of a process but its first, in nanoseconds."""
    files = [
        thread / "schedstat" for thread in Path(f"/proc/{pid}/task").iterdir() if thread.name != str(pid)
    ]
    return sum(int(file.read_text(encoding="ascii").split()[0]) for file in files)


def memory_kb(pid: int) -> tuple[int, int]:
    """Memory that a process has resident, in kB: now, and at its peak."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    now, peak = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
    assert now is not None
    assert peak is not None
    return int(now[1]), int(peak[1])


def about() -> dict[str, object]:
    """What a reader of the numbers wants to know of the machine."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return {
        "processor": model[1] if model else "unknown",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }
