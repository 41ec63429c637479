"""Compare the router with every baseline on one split of its own.  Run it:  python -m stages.compare_routers 1"""

import argparse
from pathlib import Path

import numpy as np

from symbiosis.core.artifacts import staged
from symbiosis.core.params import read_document, validate_block
from symbiosis.core.stage import run
from symbiosis.routing.data.splits import draw, learned_only, read_whole
from symbiosis.routing.experiments.comparison import compare
from symbiosis.routing.experiments.comparison_results import SINGLES, SplitResult
from symbiosis.routing.experiments.left_out import leave_one_domain_out
from symbiosis.routing.experiments.params import CompareRoutersParams
from symbiosis.routing.experiments.robustness import flip_rates, sample_of
from symbiosis.routing.metrics.curves import Reference
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.queries.query_encoder import QueryEncoder
from symbiosis.routing.queries.vector_form import VectorForm


def work(seed: int, params: CompareRoutersParams) -> None:
    """Put the pipeline's parts together, split them anew, and write what every method did with the test queries."""
    router = validate_block(read_document(), "router_train", RouterTrainParams)
    whole, llms, queries = read_whole(Path("data/routing"), Path("data/embeddings"))
    untested = learned_only(queries, whole.outcomes)
    train, test = draw(queries, params.test_share, params.development_fifths, seed, params.equal_texts, untested)
    training, tested = whole.take(train), whole.take(test)
    compared = compare(training, tested, llms, router, params, params.seed + seed)
    if params.robustness is not None and seed == params.splits[0]:
        part = sample_of(tested, params.robustness.queries, params.seed)
        encoder = QueryEncoder.load("models/encoder", VectorForm.read("data/embeddings"))
        compared.report["robustness"] = flip_rates(
            compared.choosers,
            tested.take(part),
            queries["query_text"][test[part]].to_list(),
            lambda texts: np.stack(encoder.many(texts)),
            compared.report["operating_point"]["position"],
        )
    reference = Reference.choose(training.outcomes)
    curves = {**compared.curves, SINGLES: reference.curve(tested.outcomes)}
    with staged(f"data/comparison/{seed}") as (folder,):
        SplitResult(test, curves, compared.report, compared.streams).save(folder)
        if params.leave_domains_out and seed == params.splits[0]:
            left_out, settings = leave_one_domain_out(whole, llms, router, params.leave_domains_out, params.seed)
            left_out[SINGLES] = Reference.choose(whole.outcomes).curve(whole.outcomes)
            SplitResult(np.arange(len(whole)), left_out, {"settings": settings}).save(folder / "domains")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.compare_routers", description=__doc__)
    parser.add_argument("split", type=int, help="the seed of the split")
    chosen = parser.parse_args().split
    run("compare_routers", CompareRoutersParams, lambda params: work(chosen, params))
