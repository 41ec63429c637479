"""Events that the loop sends to Prefect, where triggers of prefect.yaml and automations of users wait for them."""

from collections.abc import Callable
from typing import Any

from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported

from prefect.events import emit_event  # noqa: E402

DATA_ARRIVED = "symbiosis.data.arrived"
"""Files in data/local are new or changed."""
DRIFT_ALARM = "symbiosis.drift.alarm"
"""Queries or outcomes of the last day are not those that the router was trained on."""
CHAMPION_CHANGED = "symbiosis.champion.changed"
"""Another version serves, of the resource ``symbiosis.champion.router`` or ``symbiosis.champion.recommender``."""


def send(event: str, resource: str, payload: dict[str, Any], warn: Callable[[str], None]) -> bool:
    """Send an event; one that cannot be sent is one warning, no error.

    Parameters
    ----------
    event
        One of those above.
    resource
        What it is about, such as ``symbiosis.champion.router``.
    payload
        What happened, for people and for conditions.
    warn
        Takes the warning.

    Returns
    -------
    bool
        Whether it is on its way.
    """
    try:
        sent = emit_event(event, {"prefect.resource.id": resource}, payload=payload)
    except Exception as error:  # websockets, httpx and Prefect have no common base
        warn(f"the event {event} was not sent ({type(error).__name__}): is Prefect's server up?")
        return False
    if sent is None:
        warn(f"the event {event} was not sent: no server of Prefect is set (PREFECT_API_URL)")
    return sent is not None
