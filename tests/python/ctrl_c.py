"""Interrupting a program: long work stops within a second."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

_BEFORE = """
import signal, time
import numpy as np
import conformask as cm

# What a shell starts in the background inherits that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
_WORK = """
print("ready", flush=True)
try:
    {work}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
else:
    print("finished", flush=True)
"""


def stops(work: str, before: str = "", after: str = "", seconds: float = 0.5) -> None:
    """Runs `before`, the expression `work`, which Ctrl-C must stop after some seconds, and `after`."""
    program = _BEFORE + before + _WORK.format(work=work) + after
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        caught = process.stdout.readline()
    assert caught != "finished\n"
    assert float(caught) - sent < 1.0
    assert process.returncode == 0
