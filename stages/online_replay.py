"""Replay the query stream with waits and feedback, score the test queries.  Run it:  python -m stages.online_replay"""

from pathlib import Path

from symbiosis.core.artifacts import staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.stage import run
from symbiosis.routing.data.outcomes import Llms
from symbiosis.routing.data.splits import SPLITS, read_split
from symbiosis.routing.experiments.online import evaluate
from symbiosis.routing.experiments.params import OnlineReplayParams
from symbiosis.routing.learning.serving_state import ServingState
from symbiosis.routing.model.router import Router
from symbiosis.routing.reports import online


def work(params: OnlineReplayParams) -> None:
    """Write the router's numbers, page and curves."""
    router, serving = Router.load("models/router"), ServingState.load("models/router")
    if params.user.quality_above != serving.satisfaction.above:
        raise InputError(
            f"params.yaml: `online_replay.user.quality_above` is {params.user.quality_above:g}, but the router was "
            f"trained for {serving.satisfaction.above:g}: give `router_train.serving.satisfied_above` the same value"
        )
    llms = Llms.load("data/routing/llms.parquet")
    if llms.names != router.llms.names:
        raise InputError("models/router knows other LLMs than data/routing/llms.parquet: run `dvc repro router-train`")
    folders = Path("data/routing"), Path("data/embeddings")
    offline, stream, test = (read_split(name, llms, *folders) for name in SPLITS)
    evaluation = evaluate(router, serving.experience, offline, stream, test, params)
    targets = ("router.json", "router.html", "curves/quality_cost.csv", "curves/regret.csv")
    with staged(*(f"reports/{target}" for target in targets)) as (metrics, page, curves, regret):
        write_json(metrics, evaluation.numbers)
        page.write_text(online.html(evaluation, llms.names), encoding="utf-8")
        online.quality_cost(evaluation).write_csv(curves)
        online.regret(evaluation).write_csv(regret)


if __name__ == "__main__":
    run("online_replay", OnlineReplayParams, work)
