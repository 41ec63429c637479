"""Measure how many answers a new LLM needs.  Run it:  python -m bench.newcomers --data FOLDER

Three routers are trained on nine tenths of the training queries: one without the two most used LLMs, one with them from
the start, and one that is then given their answers to a number of probe queries. The result is the share of the gain in
utility from having them that the probes recover on other queries, without feedback. Beside it is a whole router trained
on the probe queries alone: it shows how much is due to the number of answers and not to the way an LLM is added. Only
development queries are used; every split draws three quarters to train on and one quarter to test. The router is
configured by the params.yaml of the current folder.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import trange

from bench.children import write_report
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document, validate_block
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.data.splits import development, read_whole
from symbiosis.routing.experiments.continual import divide
from symbiosis.routing.experiments.newcomers import RouterPair, probes_of
from symbiosis.routing.experiments.params import OnlineReplayParams
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.router import Router
from symbiosis.routing.model.training import train


def mean_utility(router: Router, outcomes: Outcomes, embeddings: np.ndarray, params: OnlineReplayParams) -> float:
    """Return the mean utility of queries at the configured trade-off, with idle LLMs."""
    predicted = router.predict(router.feature_map(embeddings))

    def of(quality: np.ndarray, cost: np.ndarray) -> np.ndarray:
        return utility(quality, scaled_cost(cost, router.cost_scale), params.score.trade_off, params.score.weighting)

    rows, arms = np.arange(len(outcomes)), of(predicted.quality, predicted.cost_usd).argmax(axis=1)
    return float(of(outcomes.quality[rows, arms], outcomes.cost_usd[rows, arms]).mean())


def one_split(
    whole: Split, llms: Llms, rows: np.ndarray, probes: Sequence[int], seed: int, document: Mapping[str, object]
) -> tuple[float, float, list[float], list[float]]:
    """Return utility without the LLMs, with them, and per number of probes: LLMs added, and router of probes alone.

    Parameters
    ----------
    whole, llms
        All queries.
    rows
        Rows of the queries that may be used.
    probes
        Numbers of probe queries.
    seed
        Seed of the split and the probes.
    document
        ``params.yaml``.

    Raises
    ------
    InputError
        There are fewer queries than probes.
    """
    params = validate_block(document, "router_train", RouterTrainParams)
    replay = validate_block(document, "online_replay", OnlineReplayParams)
    order = np.random.default_rng(seed).permutation(rows)
    cut = len(order) // 4
    test, training = whole.take(np.sort(order[:cut])), whole.take(np.sort(order[cut:]))
    offline, _ = divide(training, 0.9, seed)
    if len(offline) < max(probes):
        raise InputError(f"--probes {max(probes)} are more than the {len(offline)} offline queries: ask for fewer")
    pair = RouterPair.train(offline, llms, params, replay)

    def value(router: Router, arms: list[int]) -> float:
        return mean_utility(router, test.outcomes.of_llms(arms), test.embeddings, replay)

    added, alone = [], []
    for count in probes:
        asked = probes_of(offline, count, seed)
        added.append(value(pair.added(offline, llms, asked), pair.order))
        few = offline.take(asked)
        small, _ = train(few, llms, params)
        small = replace(small, cost_scale=pair.known.cost_scale)
        alone.append(mean_utility(small, test.outcomes, test.embeddings, replay))
    return value(pair.without, pair.old), value(pair.known, pair.order), added, alone


def main() -> None:
    """Print a table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data folder of a pipeline that ran")
    parser.add_argument("--probes", type=int, nargs="+", default=[50, 200, 500, 700, 1200, 1700, 2000])
    parser.add_argument("--splits", type=int, default=30)
    parser.add_argument("--fifths", type=int, default=2, help="of the queries, that are development")
    parser.add_argument("--report", type=Path, help="Markdown file that is written")
    options = parser.parse_args()
    whole, llms, queries = read_whole(options.data / "routing", options.data / "embeddings")
    rows = np.flatnonzero(development(queries["query_id"].to_list(), options.fifths))
    if len(rows) < 100:
        raise InputError(f"{options.data}: {len(rows)} development queries are too few: raise --fifths")
    document = read_document()
    seeds = trange(options.splits, unit="split")
    drawn = [one_split(whole, llms, rows, options.probes, seed, document) for seed in seeds]
    without, known = (np.array([split[place] for split in drawn]) for place in (0, 1))
    chosen = np.random.default_rng(0).integers(len(drawn), size=(2000, len(drawn)))
    gain = (known - without)[chosen].mean(axis=1)

    def share(utilities: np.ndarray) -> str:
        recovered = utilities - without
        low, high = np.quantile(recovered[chosen].mean(axis=1) / gain, [0.025, 0.975])
        return f"{recovered.mean() / (known - without).mean():.0%} [{low:.0%}, {high:.0%}]"

    lines = [
        "# Answers that a new LLM needs: `python -m bench.newcomers`",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
        f"{len(rows):,} development queries, {len(llms)} LLMs, {len(drawn)} splits; utility without the two "
        f"{without.mean():.4f}, with them {known.mean():.4f}. Intervals: bootstrap over the splits, which share "
        "queries and so are somewhat too narrow.",
        "",
        "| probe queries | recovered by adding | by training on the probes alone |",
        "| ---: | ---: | ---: |",
    ]
    for place, count in enumerate(options.probes):
        cells = (share(np.array([split[kind][place] for split in drawn])) for kind in (2, 3))
        lines.append(f"| {count:,} | {' | '.join(cells)} |")
    print("\n".join(lines))
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
