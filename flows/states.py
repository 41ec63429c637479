"""How a run ends that cannot do its work for a reason that is told in a line: failed, and without a traceback."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import ParamSpec, TypeVar

import psutil

from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported

from prefect.states import Failed, State  # noqa: E402

from flows.repro import StageError  # noqa: E402
from flows.workspace import INTERRUPTED  # noqa: E402
from symbiosis.core.errors import InputError, one_line  # noqa: E402

PATIENCE_S = 20.0
"""How long an interrupted flow may take to end; its stage has ten seconds."""
Given = ParamSpec("Given")
Result = TypeVar("Result")


def failed(error: Exception | str) -> State:
    """Return the state of a run that failed for a known reason, which is its message.

    Prefect logs an exception with its traceback, but a state with its message alone; whoever asks for the run's result
    gets the exception all the same.
    """
    known = error if isinstance(error, Exception) else RuntimeError(error)
    return Failed(message=one_line(known), data=known)


def in_one_line(function: Callable[Given, Result]) -> Callable[Given, Result | State]:
    """Let a flow or a task fail in one line for bad input and for stages that fail; what may pass is raised."""

    @wraps(function)
    def told(*given: Given.args, **named: Given.kwargs) -> Result | State:
        try:
            return function(*given, **named)
        except InputError as error:
            return failed(error)
        except StageError as error:
            if error.retryable:
                raise
            return failed(error)

    return told


def _interrupt(_number: int, _frame: object) -> None:
    """Raise `KeyboardInterrupt`, and end the process with all that it started if that does not end it soon.

    A terminal's Ctrl-C reaches Prefect's temporary server, too. The flow would go on for more than a minute, trying to
    tell it how it ended.
    """
    threading.Thread(target=_end_soon, daemon=True).start()
    raise KeyboardInterrupt


def _end_soon() -> None:
    time.sleep(PATIENCE_S)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.terminate()
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)


def result_of(run: Callable[[], State], waits: str, address: str | None) -> object:
    """Run a flow from the shell and return its result, or end with one line.

    Parameters
    ----------
    run
        Returns the flow's final state.
    waits
        What is not done while Prefect cannot be reached.
    address
        Of the server; None: that of the environment, or a temporary one.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        state = run()
    except Exception as error:  # httpx, SQLAlchemy and Prefect have no common base
        where = os.environ.get("PREFECT_API_URL") or address or "a temporary server"
        sys.exit(f"error: Prefect at {where} cannot be used, {waits}: {one_line(error, 300)}")
    if not state.is_completed():
        sys.exit(f"error: {one_line(state.message or state.name or 'it did not end well')}")
    return state.result()
