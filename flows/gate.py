"""Judge the candidates and promote those that are not worse than what serves.  Run it:  python -m flows.gate --help

Whatever fails on the way, such as MLflow or Prefect that cannot be reached, promotes nothing: a line says what waits.
"""

import argparse
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.workspace import command, one_writer, top
from symbiosis.core.errors import InputError, one_line
from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

from prefect import flow, get_run_logger  # noqa: E402
from prefect.artifacts import create_markdown_artifact  # noqa: E402
from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: E402

from flows.loop.memory import remembered  # noqa: E402
from flows.loop.watch import tell_champions  # noqa: E402
from flows.states import result_of  # noqa: E402
from symbiosis.registry import gate as judging  # noqa: E402
from symbiosis.registry.gate import KINDS, Waiting  # noqa: E402
from symbiosis.registry.verdict_page import markdown  # noqa: E402

if TYPE_CHECKING:
    from logging import Logger, LoggerAdapter

    from symbiosis.registry.verdict import Verdict

Kinds = Literal["both", "router", "recommender"]
Outcome = Literal["promoted", "refused", "unchanged", "waiting"]


@flow(name="gate", flow_run_name="{kinds}", persist_result=False)
def gate(kinds: Kinds = "both") -> dict[str, str]:
    """Compare the candidates with the champions on the same held-out data; promote those that are not worse.

    Parameters
    ----------
    kinds
        Which models.

    Returns
    -------
    dict
        For each: ``promoted``, ``refused``, ``unchanged`` (it is the champion) or ``waiting`` (nothing could be done).
    """
    logger, root = get_run_logger(), top()
    with one_writer(root, logger.info):
        outcomes: dict[str, str] = {kind: _gated(kind, root, logger) for kind in KINDS if kinds in (kind, "both")}
        try:
            with remembered(root) as memory:
                tell_champions(root, memory, logger.warning)
        except Exception as error:  # what was promoted stays; the next watch tells of it
            logger.warning("no event tells of the champions yet: %s", one_line(error, 300))
    return outcomes


def _gated(kind: Literal["router", "recommender"], root: Path, logger: "Logger | LoggerAdapter[Logger]") -> Outcome:
    """Judge one candidate and do what follows; no error leaves this function."""
    try:
        verdict = judging.judge(kind, root, judging.read_params(root))
        _record(verdict)
        applied = judging.apply(verdict, root)
    except Waiting as error:
        logger.warning("%s", one_line(error))
        return "waiting"
    except Exception as error:  # Prefect, MLflow and a disk that is full have no common base
        told = error if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        logger.warning("the %s's candidate waits, nothing was promoted: %s", kind, one_line(told, 500))
        return "waiting"
    (logger.warning if applied.outcome == "refused" else logger.info)("%s: %s", applied.outcome, verdict.words)
    if applied.warning:
        logger.warning("%s", applied.warning)
    return applied.outcome


def _record(verdict: "Verdict") -> None:
    """Leave the verdict in Prefect, before anything is promoted: what is not recorded is not done.

    Raises
    ------
    Waiting
        Prefect cannot be reached.
    """
    key, description = f"gate-{verdict.kind}", one_line(verdict.words, 500)
    try:
        create_markdown_artifact(markdown(verdict), key=key, description=description)
    except Exception as error:  # httpx and Prefect have no common base
        where = PREFECT_API_URL.value() or "its temporary server"
        raise Waiting(
            f"{verdict.kind} {verdict.candidate} waits for Prefect at {where}, which could not take the verdict: "
            f"{one_line(error, 200)}"
        ) from None


def main() -> None:
    """Run the flow from the shell, on the local server if one runs, else on a temporary one."""
    parser = argparse.ArgumentParser(prog="python -m flows.gate", description=__doc__)
    parser.add_argument("kinds", nargs="?", choices=["both", *KINDS], default="both", help="which models")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with command():
        from flows.pipeline import local_server

        address = None if os.environ.get("PREFECT_API_URL") else local_server()
        with temporary_settings({PREFECT_API_URL: address}) if address else nullcontext():
            outcomes: Any = result_of(lambda: gate(chosen.kinds, return_state=True), "the candidates wait", address)
        print(", ".join(f"{kind}: {outcome}" for kind, outcome in outcomes.items()))


if __name__ == "__main__":
    main()
