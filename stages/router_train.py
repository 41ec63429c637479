"""Train the router's predictors of quality and length.  Run it:  python -m stages.router_train"""

from pathlib import Path

from symbiosis.core.artifacts import read_frame, staged, write_json
from symbiosis.core.layout import CHECKPOINTS
from symbiosis.core.stage import run
from symbiosis.routing.data import training_texts
from symbiosis.routing.data.logged import Logged
from symbiosis.routing.data.outcomes import Llms
from symbiosis.routing.data.splits import read_split
from symbiosis.routing.fitting.kept import Kept
from symbiosis.routing.learning.logged_feedback import train_with_log
from symbiosis.routing.learning.reference import Reference
from symbiosis.routing.learning.serving_state import Lessons, ServingState
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.queries.vector_form import VectorForm


def work(params: RouterTrainParams) -> None:
    """Write models/router, with what serving needs, and reports/router_train.json.

    Of the table it reads the offline outcomes alone; of logged feedback all but what is held out. A choice that was
    interrupted goes on where it stopped.
    """
    llms = Llms.load("data/routing/llms.parquet")
    offline = read_split("offline", llms, Path("data/routing"), Path("data/embeddings"))
    texts = read_frame("data/routing/queries.parquet", ["query_text"])["query_text"][offline.outcomes.queries]
    kept = Kept(CHECKPOINTS / "router_train")
    router, report, used = train_with_log(offline, llms, params, Logged.load("data/logged/outcomes.parquet"), kept)
    with staged("models/router", "reports/router_train.json") as (folder, metrics):
        router.save(folder)
        ServingState.fit(
            folder,
            router,
            VectorForm.read("data/embeddings"),
            offline.embeddings,
            offline.outcomes,
            params.serving,
            Lessons.of(used.frame["store"], used.frame["lesson"]),
        ).save(folder)
        Reference.fit(router.feature_map, offline, used.vectors, report, params.seed).save(folder)
        training_texts.save(folder, texts, used.frame["query"])
        write_json(metrics, report)
    kept.clear()


if __name__ == "__main__":
    run("router_train", RouterTrainParams, work)
