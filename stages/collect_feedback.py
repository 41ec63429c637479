"""Collect what users told of answers, for the router to learn from.  Run it:  python -m stages.collect_feedback"""

from collections.abc import Sequence

import numpy as np

from symbiosis.core.artifacts import read_array, read_frame, staged, write_json
from symbiosis.core.layout import (
    COLLECT_METRICS,
    ENCODER,
    EXPORTS,
    LLMS,
    LOGGED_OUTCOMES,
    QUERIES,
    QUERY_EMBEDDINGS,
)
from symbiosis.core.stage import run
from symbiosis.routing.data.logged import Known, collect
from symbiosis.routing.data.outcomes import Llms
from symbiosis.routing.data.params import CollectFeedbackParams
from symbiosis.routing.data.readers import exports
from symbiosis.routing.queries.query_encoder import QueryEncoder
from symbiosis.routing.queries.vector_form import VectorForm


def work(params: CollectFeedbackParams) -> None:
    """Write data/logged/outcomes.parquet from all exports in data/local/feedback; without any, always the same file."""
    form = VectorForm.read(QUERY_EMBEDDINGS)

    def encode(texts: Sequence[str]) -> Sequence[np.ndarray]:
        return QueryEncoder.load(ENCODER, form).many(texts)

    known = Known(
        Llms.load(LLMS).names,
        form.model_dump(),
        read_frame(QUERIES, ["query_text", "split"]),
        read_array(QUERY_EMBEDDINGS / "queries.npy", mmap=True),
        encode,
    )
    logged, counts = collect(exports.read(EXPORTS), known, params)
    with staged(LOGGED_OUTCOMES, COLLECT_METRICS) as (file, metrics):
        logged.frame.write_parquet(file)
        write_json(metrics, counts)


if __name__ == "__main__":
    run("collect_feedback", CollectFeedbackParams, work)
