"""Flow runs whose process died: without this they stay Running and hold their slot, and nothing is ever run again.

Runs that an earlier worker left behind are closed, and an automation closes those that die later. Called by
`make serve`; for another server:  PREFECT_API_URL=... python -m flows.zombies POOL
"""

import sys
from datetime import timedelta

from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported

from prefect.automations import Automation  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.filters import (  # noqa: E402
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType  # noqa: E402
from prefect.events.actions import ChangeFlowRunState  # noqa: E402
from prefect.events.schemas.automations import EventTrigger, Posture  # noqa: E402
from prefect.events.schemas.events import ResourceSpecification  # noqa: E402
from prefect.settings import get_current_settings  # noqa: E402
from prefect.states import Crashed  # noqa: E402

NAME = "Crash zombie flows"
HEARTBEATS = 3


def close_left_behind(pool: str) -> int:
    """Mark runs of a work pool that has no worker yet as crashed, and return how many there were."""
    states = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    with get_client(sync_client=True) as client:
        left = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        )
        for run in left:
            client.set_flow_run_state(run.id, Crashed(message="its worker was stopped"))
    return len(left)


def deploy_automation() -> None:
    """Create the automation, or bring the one of that name up to date."""
    beat = get_current_settings().flows.heartbeat_frequency or 180
    final = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    automation = Automation(
        name=NAME,
        description=f"A run that has sent no heartbeat for {HEARTBEATS * beat} s is dead.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *final},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=HEARTBEATS * beat),
        ),
        actions=[
            ChangeFlowRunState(
                name=None, state=StateType.CRASHED, message="no heartbeat: its machine or process died", force=False
            )
        ],
    )
    with get_client(sync_client=True) as client:
        there = client.read_automations_by_name(NAME)
        if any(old.description == automation.description for old in there):
            return  # a new one would not know of runs that have died since
        for old in there:
            client.delete_automation(old.id)
    automation.create()


if __name__ == "__main__":
    close_left_behind(sys.argv[1])
    deploy_automation()
