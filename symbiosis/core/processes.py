"""How a process of this project begins: it ends with its parent, in a line, and asks no proxy for loopback."""

import ctypes
import os
import signal
import sys
import threading
from io import TextIOWrapper
from types import TracebackType

from symbiosis.core.errors import is_out_of_memory, no_memory, one_line

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def die_with_parent() -> None:
    """Ask Linux to end this process with its parent: a killed `dvc repro` must leave no trainer behind."""
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG in <linux/prctl.h>
    ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGTERM, 0, 0, 0)


def tell_lack_of_memory() -> None:
    """Let this process end in one line where memory runs out before anything can catch it: while modules are loaded."""
    usual = sys.excepthook

    def told(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
        if is_out_of_memory(error):
            print(f"error: {one_line(no_memory(error))}", file=sys.stderr)
        else:
            usual(kind, error, place)

    sys.excepthook = told


def print_anything() -> None:
    """Let standard output and error escape what their encoding lacks: no traceback after the work is done."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def spare_loopback() -> None:
    """Add this machine to ``NO_PROXY``: a proxy elsewhere cannot reach the servers that run here.

    Child processes inherit it. Without a proxy in the environment nothing changes.
    """
    proxies = [name for name, value in os.environ.items() if name.lower().endswith("_proxy") and value]
    if all(name.lower() == "no_proxy" for name in proxies):
        return
    # Python's urllib takes the lower-case name first, other libraries the other.
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host for host in map(str.strip, known.split(",")) if host]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join([*hosts, *(h for h in LOOPBACK if h not in hosts)])


def take_interruptions() -> bool:
    """Let Ctrl-C raise `KeyboardInterrupt` from here on; tell whether it did not before.

    While modules are imported, which can take seconds, it ends the process without a traceback: see `__main__.py` and
    the `__init__.py` of what is run as ``python -m``.
    """
    took = signal.getsignal(signal.SIGINT) is signal.SIG_DFL and threading.current_thread() is threading.main_thread()
    if took:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return took
