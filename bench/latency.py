"""Measure predicted times to an answer and their intervals.  Run it:  python -m bench.latency --run FOLDER --table FILE

A router is trained on four fifths of the queries whose latencies were measured; time to the first token and token rate
of every LLM are fitted to the latencies of the same queries. The time to each answer of the other queries is then
predicted from their text: start-up + expected tokens / rate, or by ridge regression of the log latency on the router's
features. An interval should hold 90 % of the measured latencies:

- ``lengths``: log-normal, as far as the length of the answer is uncertain;
- ``lengths and 0.2``: the same and the usual jitter of a service time, `symbiosis.routing.policy.response_time.JITTER`;
- ``lengths and jitter``: the jitter fitted to each LLM;
- ``conformal``: the quantiles of each LLM's errors of log latency on queries held out within the training queries.

A run is a folder with params.yaml and data, as `make repro CONFIG=bfcl2024` leaves it in .runs/bfcl2024; the table is
the one that it was made of.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from bench.children import write_report
from bench.encoder_quality import FOLDS, folds_of
from symbiosis.core.errors import InputError
from symbiosis.core.params import PARAMS_FILE, read_document, validate_block
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.data.prices import priced
from symbiosis.routing.data.splits import read_whole
from symbiosis.routing.fitting.training import train
from symbiosis.routing.model.cost_model import LogRidge
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.policy.response_time import JITTER, completion_interval
from symbiosis.routing.simulation.service_times import ServiceTime

LEAST = 30  # measured latencies of an LLM, in training and in test
TAIL = 0.05


@dataclass(frozen=True)
class Errors:
    """What is predicted and how often an interval holds, per LLM with latencies, (L,).

    Attributes
    ----------
    by_tokens, by_features
        Mean absolute error of the predicted latency as a share of the mean latency.
    jitter
        Fitted: standard deviation of the log of a service time whose tokens are known.
    covered, width
        By kind of interval: share of the answers within it, and its median width as a share of the predicted time.
    """

    by_tokens: np.ndarray
    by_features: np.ndarray
    jitter: np.ndarray
    covered: dict[str, np.ndarray]
    width: dict[str, np.ndarray]


def latencies(table: Path, query_ids: list[str], llms: Llms) -> np.ndarray:
    """Read seconds to each answer, (N, L), NaN where none was measured."""
    frame = pl.read_parquet(table, columns=["query_id", "llm", "latency_s"]).drop_nulls("latency_s")
    row, arm = ({name: place for place, name in enumerate(names)} for names in (query_ids, llms.names))
    found = np.full((len(query_ids), len(llms)), np.nan)
    for query, llm, seconds in frame.iter_rows():
        if query in row and llm in arm and seconds > 0:
            found[row[query], arm[llm]] = seconds
    return found


def measure(whole: Split, llms: Llms, texts: list[str], seconds: np.ndarray, params: RouterTrainParams) -> Errors:
    """Fit to four fifths of the queries and judge on the others; see the module."""
    folds = folds_of(texts, 0)
    rows, held = np.flatnonzero(folds != 0), np.flatnonzero(folds == 0)
    training = whole.take(rows)
    kept = [
        arm for arm in range(len(llms)) if min(np.isfinite(seconds[part, arm]).sum() for part in (rows, held)) >= LEAST
    ]
    if not kept:
        raise InputError("no LLM has enough measured latencies: take another table")
    router = train(training, priced(llms, training.outcomes), params)[0]
    features = router.feature_map(whole.embeddings)
    tokens = router.predict(features).response_tokens
    sigma = np.zeros(len(llms)) if router.ranges is None else router.ranges.lengths.sigma
    names = ("lengths", f"lengths and {JITTER:g}", "lengths and jitter", "conformal")
    covered: dict[str, list[float]] = {name: [] for name in names}
    width: dict[str, list[float]] = {name: [] for name in names}
    by_tokens, by_features, jitters = [], [], []
    for arm in kept:
        known = np.isfinite(seconds[:, arm])
        own, test = rows[known[rows]], held[known[held]]
        fit = ServiceTime.fit(whole.outcomes.response_tokens[own, arm], seconds[own, arm])
        jitters.append(fit.jitter)
        expected = fit.startup_s + tokens[:, arm] / fit.tokens_per_s
        direct = LogRidge.fit(features[own], seconds[own, arm, None])(features[test], np.full((len(test), 1), np.nan))
        true = seconds[test, arm]
        by_tokens.append(float(np.abs(expected[test] - true).mean() / true.mean()))
        by_features.append(float(np.abs(direct[:, 0] - true).mean() / true.mean()))
        # The router has seen the training queries, so their errors are a little too small for the conformal interval.
        low, high = np.quantile(np.log(seconds[own, arm] / expected[own]), [TAIL, 1 - TAIL])
        intervals = [
            *(
                completion_interval(0.0, fit.startup_s, expected[test], float(sigma[arm]), jitter)
                for jitter in (0.0, JITTER, fit.jitter)
            ),
            (expected[test] * np.exp(low), expected[test] * np.exp(high)),
        ]
        for name, (lower, upper) in zip(names, intervals, strict=True):
            covered[name].append(float(((true >= lower) & (true <= upper)).mean()))
            width[name].append(float(np.median((upper - lower) / expected[test])))
    return Errors(
        np.array(by_tokens),
        np.array(by_features),
        np.array(jitters),
        {name: np.array(values) for name, values in covered.items()},
        {name: np.array(values) for name, values in width.items()},
    )


def main() -> None:
    """Print a table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a pipeline that ran")
    parser.add_argument("--table", type=Path, required=True, help="its table, *.parquet with latency_s")
    parser.add_argument("--report", type=Path, help="Markdown file that is written")
    options = parser.parse_args()
    whole, llms, queries = read_whole(options.run / "data/routing", options.run / "data/embeddings")
    params = validate_block(read_document(options.run / PARAMS_FILE), "router_train", RouterTrainParams)
    seconds = latencies(options.table, queries["query_id"].to_list(), llms)
    timed = np.flatnonzero(np.isfinite(seconds).any(axis=1))
    texts = queries["query_text"].gather(timed).to_list()
    errors = measure(whole.take(timed), llms, texts, seconds[timed], params)
    lines = [
        "# Predicted times to an answer: `python -m bench.latency`",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
        f"{len(timed):,} queries, {len(errors.by_tokens)} LLMs with latencies, one of {FOLDS} folds held out. Mean "
        f"absolute error as a share of the mean latency, median of the LLMs: {np.median(errors.by_tokens):.1%} by "
        f"tokens, {np.median(errors.by_features):.1%} by features. Fitted jitter, median: "
        f"{np.median(errors.jitter):.2f}.",
        "",
        "| interval | holds, median | least | most | width as a share of the time |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {np.median(held):.1%} | {held.min():.1%} | {held.max():.1%} "
            f"| {np.median(errors.width[name]):.2f} |"
            for name, held in errors.covered.items()
        ),
    ]
    print("\n".join(lines[4:]))
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
