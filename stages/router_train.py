"""Train the router's predictors of quality and response length.  Run it:  python -m stages.router_train"""

from pathlib import Path

from symbiosis.core.artifacts import read_frame, staged, write_json
from symbiosis.core.stage import run
from symbiosis.routing.data import training_texts
from symbiosis.routing.data.outcomes import Llms
from symbiosis.routing.data.splits import read_split
from symbiosis.routing.learning.reference import Reference
from symbiosis.routing.learning.serving_state import ServingState
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.training import train
from symbiosis.routing.queries.vector_form import VectorForm


def work(params: RouterTrainParams) -> None:
    """Write models/router, with what serving needs, and reports/router_train.json from the offline outcomes alone."""
    llms = Llms.load("data/routing/llms.parquet")
    offline = read_split("offline", llms, Path("data/routing"), Path("data/embeddings"))
    texts = read_frame("data/routing/queries.parquet", ["query_text"])["query_text"][offline.outcomes.queries]
    router, report = train(offline, llms, params)
    with staged("models/router", "reports/router_train.json") as (folder, metrics):
        router.save(folder)
        ServingState.fit(
            folder,
            router,
            VectorForm.read("data/embeddings"),
            offline.embeddings,
            offline.outcomes,
            params.serving,
        ).save(folder)
        Reference.fit(router.feature_map, offline.embeddings, offline.subdomains, report, params.seed).save(folder)
        training_texts.save(folder, texts)
        write_json(metrics, report)


if __name__ == "__main__":
    run("router_train", RouterTrainParams, work)
