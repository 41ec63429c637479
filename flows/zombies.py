"""Close flow runs whose process died; otherwise they stay Running, hold their slot and block every later run.

Runs of an earlier worker are closed at once; an automation closes those that die later. Each queue of the pool is
told to run one flow at a time. Called by `make serve`; for another server:
PREFECT_API_URL=... python -m flows.zombies POOL
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


def close_orphans(pool: str) -> int:
    """Mark the open runs of a work pool that has no worker yet as crashed, and return their number."""
    states = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    with get_client(sync_client=True) as client:
        orphans = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        )
        for run in orphans:
            client.set_flow_run_state(run.id, Crashed(message="its worker was stopped"))
    return len(orphans)


def limit_queues(pool: str) -> int:
    """Let each queue of a work pool run one flow at a time, and return their number."""
    with get_client(sync_client=True) as client:
        queues = client.read_work_queues(work_pool_name=pool)
        for queue in queues:
            client.update_work_queue(queue.id, concurrency_limit=1)
    return len(queues)


def deploy_automation() -> None:
    """Create or update the automation."""
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
            return  # a new one would miss runs that died in the meantime
        for old in there:
            client.delete_automation(old.id)
    automation.create()


if __name__ == "__main__":
    close_orphans(sys.argv[1])
    limit_queues(sys.argv[1])
    deploy_automation()
