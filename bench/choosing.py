"""How long a router takes to choose by itself and to train, on a table of the size of RouterBench.

    python -m bench.choosing                                  # 36,000 queries, 11 LLMs; prints a table
    python -m bench.choosing --queries 4000 --predictor stacked
    python -m bench.choosing --report reports/bench/choosing.md

The table is made up: embeddings around centres, each with its own skill of every LLM, and noise. Seconds are wall-clock
and processor time of this machine; peak memory is that of the process.
"""

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.children import write_report
from symbiosis.core.params import read_document
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.fitting.choice import choose
from symbiosis.routing.fitting.training import train
from symbiosis.routing.model.params import PREDICTORS, RouterTrainParams

CENTRES = 60
DIMENSION = 402


def table(queries: int, llms: int, seed: int) -> tuple[Split, Llms]:
    """Make a table up, with labels that are right for a part of the centres."""
    rng = np.random.default_rng(seed)
    centre = rng.integers(CENTRES, size=queries)
    vectors = rng.standard_normal((CENTRES, DIMENSION))[centre] + 1.5 * rng.standard_normal((queries, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    skill = np.clip(0.6 + 0.2 * rng.standard_normal((CENTRES, llms)), 0.05, 0.95)
    quality = (rng.random((queries, llms)) < skill[centre]).astype(np.float64)
    prompt = np.repeat(rng.integers(50, 800, size=(queries, 1)), llms, axis=1).astype(np.float64)
    response = np.rint(np.exp(4 + 0.5 * rng.standard_normal((queries, llms)) + rng.random(CENTRES)[centre][:, None]))
    price = np.geomspace(0.1, 10, llms) / 1e6
    arms = Llms(tuple(f"llm{n}" for n in range(llms)), price, 3 * price, np.full(llms, 0.5), np.full(llms, 60.0))
    outcomes = Outcomes(np.arange(queries), quality, prompt, response, arms.cost_usd(prompt, response))
    labels = [f"domain {number % 20}" for number in centre]
    return Split(outcomes, vectors, labels, [f"{label} / {n}" for label, n in zip(labels, centre, strict=True)]), arms


def measured(split: Split, llms: Llms, params: RouterTrainParams, predictors: list[str]) -> list[dict[str, Any]]:
    """Choose, then train each of the predictors on the chosen features."""
    begun = _now()
    choice = choose(split, llms, params)
    rows = [_row("choosing", begun, choice.report()["choice"]["chosen"]["predictor"])]
    for predictor in predictors or [str(choice.params.predictor)]:
        begun = _now()
        report = train(split, llms, choice.params.model_copy(update={"predictor": predictor}))[1]
        rows.append(_row(f"training, {predictor}", begun, f"Brier {report['all']['brier']:.4f}"))
    return rows


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _row(what: str, begun: tuple[float, float], result: str) -> dict[str, Any]:
    wall, processor = (now - then for now, then in zip(_now(), begun, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "what": what,
        "seconds": f"{wall:.1f}",
        "of processor": f"{processor:.1f}",
        "peak GiB": f"{peak:.1f}",
        "result": result,
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=36_000)
    parser.add_argument("--llms", type=int, default=11)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--predictor", action="append", choices=PREDICTORS, default=[], help="train this one, too")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    params = RouterTrainParams.model_validate(read_document()["router_train"])
    rows = measured(*table(options.queries, options.llms, options.seed), params, options.predictor)
    lines = [
        f"# Choosing and training: {options.queries} queries, {options.llms} LLMs\n",
        "| " + " | ".join(rows[0]) + " |",
        "| " + " | ".join("---" for _ in rows[0]) + " |",
        *("| " + " | ".join(map(str, row.values())) + " |" for row in rows),
    ]
    print("\n".join(lines))
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    main()
