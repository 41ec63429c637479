"""Look every few minutes for what the loop must react to: new data, drift, another champion."""

import time
from collections.abc import Callable
from pathlib import Path

from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported

from prefect import flow, get_run_logger  # noqa: E402

from flows.loop.children import run_json  # noqa: E402
from flows.loop.events import CHAMPION_CHANGED, DATA_ARRIVED, DRIFT_ALARM, send  # noqa: E402
from flows.loop.memory import ARRIVALS, UNTOLD, Memory, remembered  # noqa: E402
from flows.workspace import top  # noqa: E402
from symbiosis.core.errors import InputError  # noqa: E402
from symbiosis.core.serving import Kind  # noqa: E402

PATIENCE_S = 120.0


@flow(name="watch", persist_result=False)
def watch(hours: float = 24.0) -> list[str]:
    """Send an event for each thing that is new: data in data/local, an alarm of drift, a champion that changed.

    Each is told once: files when they have stayed the same between two looks, an alarm once per window.

    Parameters
    ----------
    hours
        Window of the drift.

    Returns
    -------
    list of str
        The events that were sent.
    """
    logger, root, sent = get_run_logger(), top(), []
    alarms: list[str] = []
    drift = {}
    try:
        drift = run_json(root, "drift", "--hours", f"{hours:g}", seconds=PATIENCE_S)
        alarms = drift["alarms"]
    except InputError as error:
        logger.warning("drift is not known: %s", error)
    with remembered(root) as memory:
        if memory.data_arrived(root):
            if send(DATA_ARRIVED, "symbiosis.data", {"folder": ARRIVALS.as_posix()}, logger.warning):
                sent.append(DATA_ARRIVED)
            else:
                memory.files = UNTOLD
        if new := memory.new_alarms(alarms, time.time(), 3600 * hours):
            rang = [one for one in drift["measures"] if one["name"] in new]
            if send(DRIFT_ALARM, "symbiosis.router", {"alarms": new, "measures": rang}, logger.warning):
                sent.append(DRIFT_ALARM)
            else:
                for name in new:
                    del memory.alarms[name]
        sent += [CHAMPION_CHANGED for _ in tell_champions(root, memory, logger.warning)]
    logger.info("sent: %s", ", ".join(sent) or "nothing")
    return sent


def tell_champions(root: Path, memory: Memory, warn: Callable[[str], None]) -> list[Kind]:
    """Send an event for each model that another version serves of than was told; return which."""
    told_of = []
    for kind in memory.changed_champions(root):
        payload = {"kind": kind, "digest": memory.champions[kind]}
        if send(CHAMPION_CHANGED, f"symbiosis.champion.{kind}", payload, warn):
            told_of.append(kind)
        else:
            memory.champions[kind] = None
    return told_of
