"""Measure how many answers a new LLM needs.  Run it:  python -m bench.newcomers --runs FOLDER ...

Three routers are trained on nine tenths of the training queries: one without the two most used LLMs, one with them from
the start, and one that is then given their answers to a number of probe queries. The result is the share of the gain in
utility from having them that the probes recover on other queries, without feedback, and the number of probes that
recovers 90 % of it. Every split draws three quarters of the queries to train on and one quarter to test; what the
params leave to ``auto`` is chosen once, on all of them. With ``--alone`` a whole router is trained on the probe queries
alone, too: it shows how much is due to the number of answers and not to the way an LLM is added.

What noise allows: if the new LLMs are worth a on the queries that they should get, and a single answer's quality has
variance s around what the router expects, then s / a^2 answers are needed to tell an advantage from nothing by one
standard error, for each kind of query on which the LLMs differ.

A run is a folder with params.yaml and data, as `make repro CONFIG=realroute12` leaves it in .runs/realroute12.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.children import write_report
from symbiosis.core.errors import InputError
from symbiosis.core.params import PARAMS_FILE, read_document, validate_block
from symbiosis.core.progress import tqdm
from symbiosis.core.statistics import bounds
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.data.splits import FIFTHS, development, read_whole
from symbiosis.routing.experiments.continual import divide
from symbiosis.routing.experiments.newcomers import RouterPair, probes_of
from symbiosis.routing.experiments.params import OnlineReplayParams
from symbiosis.routing.fitting.choice import choose
from symbiosis.routing.fitting.training import train
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.router import Router

ENOUGH = 0.9
SAMPLES = 2000


def chosen_llms(router: Router, embeddings: np.ndarray, params: OnlineReplayParams) -> np.ndarray:
    """Return the arm that each query is sent to at the configured trade-off, with idle LLMs, (N,)."""
    predicted = router.predict(router.feature_map(embeddings))
    return _worth(predicted.quality, predicted.cost_usd, router, params).argmax(axis=1)


def mean_utility(router: Router, outcomes: Outcomes, embeddings: np.ndarray, params: OnlineReplayParams) -> float:
    """Return the mean utility of queries at the configured trade-off, with idle LLMs."""
    rows, arms = np.arange(len(outcomes)), chosen_llms(router, embeddings, params)
    return float(_worth(outcomes.quality[rows, arms], outcomes.cost_usd[rows, arms], router, params).mean())


def _worth(quality: np.ndarray, cost: np.ndarray, router: Router, params: OnlineReplayParams) -> np.ndarray:
    return utility(quality, scaled_cost(cost, router.cost_scale), params.score.trade_off, params.score.weighting)


@dataclass(frozen=True)
class SplitResult:
    """Utilities on one split.

    Attributes
    ----------
    without, known
        Of the router without the new LLMs, and of that which knew them from the start.
    added, alone
        Per number of probes: LLMs added, and router of probes alone; the latter empty if it was not asked for.
    withheld
        Names of the new LLMs.
    share
        Of the test queries that the router that knows them sends to them.
    noise
        Variance of a single answer's quality, `symbiosis.routing.learning.feedback.Noise.own`.
    """

    without: float
    known: float
    added: list[float]
    alone: list[float]
    withheld: tuple[str, ...]
    share: float
    noise: float


def one_split(
    whole: Split,
    llms: Llms,
    rows: np.ndarray,
    probes: Sequence[int],
    seed: int,
    params: RouterTrainParams,
    replay: OnlineReplayParams,
    alone: bool = False,
) -> SplitResult:
    """Train the routers of one split and judge them.

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
    params, replay
        Of the router, and of its decisions.
    alone
        Whether routers are trained on the probes alone, too.

    Raises
    ------
    InputError
        There are fewer queries than probes.
    """
    order = np.random.default_rng(seed).permutation(rows)
    cut = len(order) // 4
    test, training = whole.take(np.sort(order[:cut])), whole.take(np.sort(order[cut:]))
    offline, _ = divide(training, 0.9, seed)
    if len(offline) < max(probes):
        raise InputError(f"--probes {max(probes)} are more than the {len(offline)} offline queries: ask for fewer")
    pair = RouterPair.train(offline, llms, params, replay)

    def value(router: Router, arms: list[int]) -> float:
        return mean_utility(router, test.outcomes.of_llms(arms), test.embeddings, replay)

    added, by_themselves = [], []
    for count in probes:
        asked = probes_of(offline, count, seed)
        added.append(value(pair.added(offline, llms, asked), pair.order))
        if alone:
            small, _ = train(offline.take(asked), llms, params)
            small = replace(small, cost_scale=pair.known.cost_scale)
            by_themselves.append(mean_utility(small, test.outcomes, test.embeddings, replay))
    taken = chosen_llms(pair.known, test.embeddings, replay) >= len(pair.old)
    return SplitResult(
        value(pair.without, pair.old),
        value(pair.known, pair.order),
        added,
        by_themselves,
        tuple(llms.names[arm] for arm in pair.new),
        float(taken.mean()),
        pair.experience.noise.own,
    )


def queries_needed(probes: Sequence[int], recovered: np.ndarray) -> float:
    """Return the number of probes from which on at least 90 % is recovered, between those tried by a straight line.

    Parameters
    ----------
    probes
        Rising.
    recovered
        (P,), share of the gain.

    Returns
    -------
    float
        Infinite if the last is below.
    """
    below = np.flatnonzero(recovered < ENOUGH)
    if not len(below):
        return float(probes[0])
    last = int(below[-1])
    if last == len(probes) - 1:
        return float("inf")
    step = (ENOUGH - recovered[last]) / (recovered[last + 1] - recovered[last])
    return float(probes[last] + step * (probes[last + 1] - probes[last]))


def lines_of(name: str, queries: int, llms: int, probes: Sequence[int], splits: Sequence[SplitResult]) -> list[str]:
    """Write a table's part of the page."""
    without, known = (np.array([getattr(split, what) for split in splits]) for what in ("without", "known"))
    gain = known - without
    drawn = np.random.default_rng(0).integers(len(splits), size=(SAMPLES, len(splits)))
    resampled = gain[drawn].mean(axis=1)
    low, high = bounds(resampled)
    counted = Counter(llm for split in splits for llm in split.withheld)
    share = float(np.mean([split.share for split in splits]))
    lines = [
        f"## {name}",
        "",
        f"{queries:,} queries, {llms} LLMs, {len(splits)} splits; most often withheld: "
        f"{', '.join(llm for llm, _ in counted.most_common(2))}. Utility without {without.mean():.4f}, with "
        f"{known.mean():.4f}: gain {gain.mean():+.4f} [{low:+.4f}, {high:+.4f}].",
        "",
    ]
    if low <= 0:
        return [*lines, "Having the LLMs gains nothing beyond noise: there is nothing to recover.", ""]
    shares = {
        kind: np.array([getattr(split, kind) for split in splits]) - without[:, None] for kind in ("added", "alone")
    }
    needed = queries_needed(probes, shares["added"].mean(axis=0) / gain.mean())
    advantage = gain.mean() / max(share, 1e-9)
    noise = float(np.mean([split.noise for split in splits]))
    lines += [
        f"90 % is recovered from {f'{needed:,.0f} probes' if np.isfinite(needed) else 'no number tried'}. "
        f"{share:.0%} of the queries go to the new LLMs, which are worth {advantage:.3f} there; single answers vary by "
        f"{noise:.3f}: {noise / advantage**2:,.0f} answers for each kind of query.",
        "",
        "| probe queries | recovered by adding |" + (" by training on the probes alone |" if splits[0].alone else ""),
        "| ---: | ---: |" + (" ---: |" if splits[0].alone else ""),
    ]
    for place, count in enumerate(probes):
        cells = []
        for kind in ("added", "alone") if splits[0].alone else ("added",):
            own = shares[kind][:, place]
            ends = bounds(own[drawn].mean(axis=1) / resampled)
            cells.append(f"{own.mean() / gain.mean():.0%} [{ends[0]:.0%}, {ends[1]:.0%}]")
        lines.append(f"| {count:,} | {' | '.join(cells)} |")
    return [*lines, ""]


def of_run(run: Path, options: argparse.Namespace) -> list[str]:
    """Measure one table and write its part of the page."""
    whole, llms, queries = read_whole(run / "data/routing", run / "data/embeddings")
    rows = np.flatnonzero(development(queries["query_id"].to_list(), options.fifths))
    rows = np.sort(np.random.default_rng(0).permutation(rows)[: options.queries])
    if len(rows) < 100:
        raise InputError(f"{run}: {len(rows)} queries are too few: raise --fifths")
    document = read_document(run / PARAMS_FILE)
    replay = validate_block(document, "online_replay", OnlineReplayParams)
    params = choose(whole.take(rows), llms, validate_block(document, "router_train", RouterTrainParams)).params
    most = int(0.66 * len(rows))
    probes = [count for count in options.probes if count <= most]
    splits = [
        one_split(whole, llms, rows, probes, seed, params, replay, options.alone)
        for seed in tqdm(range(options.splits), desc=run.name, unit="split")
    ]
    return lines_of(f"{run.name} ({params.predictor}, tags {params.tags})", len(rows), len(llms), probes, splits)


def main() -> None:
    """Print the page and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders of pipelines that ran")
    parser.add_argument("--probes", type=int, nargs="+", default=[25, 50, 100, 200, 350, 500, 1000, 1700])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--queries", type=int, default=4000, help="at most, drawn at random")
    parser.add_argument("--fifths", type=int, default=2, help=f"of the queries that are used; {FIFTHS}: all")
    parser.add_argument("--alone", action="store_true", help="train routers on the probes alone, too")
    parser.add_argument("--report", type=Path, help="Markdown file that is written")
    options = parser.parse_args()
    lines = [
        "# Answers that a new LLM needs: `python -m bench.newcomers`",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
        "Intervals: bootstrap over the splits, which share queries and so are somewhat too narrow.",
        "",
    ]
    for run in options.runs:
        own = of_run(run, options)
        print("\n".join(own), flush=True)
        lines += own
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
