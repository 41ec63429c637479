"""Train the router's predictors of quality and response length.  Run it:  python -m stages.router_train"""

from symbiosis.core.artifacts import read_frame, staged, write_json
from symbiosis.routing.data.outcomes import Llms, Outcomes, load_embeddings
from symbiosis.routing.learning.serving_state import ServingState
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.training import train
from symbiosis.routing.queries.vector_form import VectorForm
from symbiosis.stage import run


def work(params: RouterTrainParams) -> None:
    """Write models/router, with what serving needs, and reports/router_train.json from the offline outcomes alone."""
    llms = Llms.load("data/routing/llms.parquet")
    outcomes = Outcomes.load("data/routing/offline.parquet", llms)
    embeddings = load_embeddings("data/embeddings", outcomes.queries)
    queries = read_frame("data/routing/queries.parquet", ["query_text", "domain", "subdomain"])
    queries = queries[outcomes.queries]
    router, report = train(
        embeddings, outcomes, llms, queries["domain"].to_list(), queries["subdomain"].to_list(), params
    )
    with staged("models/router", "reports/router_train.json") as (folder, metrics):
        router.save(folder)
        ServingState.fit(
            folder,
            router,
            VectorForm.read("data/embeddings"),
            embeddings,
            outcomes,
            queries["query_text"].to_list(),
            params.serving,
        ).save(folder)
        write_json(metrics, report)


if __name__ == "__main__":
    run("router_train", RouterTrainParams, work)
