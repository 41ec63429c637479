"""Measure what logged feedback is worth.  Run it:  python -m bench.logged_feedback --runs FOLDER ...

A router is trained on a share of the training queries, which every LLM has answered. It then serves the others: one
LLM answers each, drawn by a softmax over the score, and only the quality of that answer is told. Routers that learn
from this log, too, are compared on test queries with the router that does not, with one that learns from the same log
online, and with one that knows every LLM's answer to all training queries. Then off-policy estimates of a router that
learned from the log (the candidate) and of one that did not (the champion) are compared with the truth: on logs drawn
anew from queries that no router was trained on, with the same exploration.

A run is a folder with params.yaml and data, as `make repro CONFIG=realroute12` leaves it in .runs/realroute12. Queries
for development are never tested.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from bench.children import write_report
from bench.logged_feedback_page import ALL, BASE, EstimateRound, MethodRound, Run, page
from symbiosis.core.errors import InputError
from symbiosis.core.params import PARAMS_FILE, read_document, validate_block
from symbiosis.routing.data.logged import OUTCOMES, Logged
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.data.prices import priced
from symbiosis.routing.data.splits import draw, normalised, read_whole
from symbiosis.routing.experiments.comparison import choices, predictions
from symbiosis.routing.experiments.continual import divide
from symbiosis.routing.experiments.logged_policy import compare
from symbiosis.routing.experiments.logged_rows import Served
from symbiosis.routing.fitting.choice import choose
from symbiosis.routing.fitting.logged_answers import LoggedAnswers
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Experience, Feedback
from symbiosis.routing.learning.logged_feedback import answers_of, train_with_log, trainable
from symbiosis.routing.learning.online_router import OnlineRouter
from symbiosis.routing.metrics.curves import Curve, Reference
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.exploration import among_best
from symbiosis.routing.policy.objectives import TradeOff

TEST_SHARE = 0.2
FIFTHS = 2


@dataclass(frozen=True)
class Exploration:
    """A softmax of the score over the best few LLMs.

    Attributes
    ----------
    amount
        Temperature.
    tried
        How many of the best LLMs may be asked; None: all.
    """

    amount: float
    tried: int | None = None

    @property
    def name(self) -> str:
        """As the tables call it."""
        return f"{self.amount:g} over {'all' if self.tried is None else f'the best {self.tried}'}"

    def chances(self, scores: np.ndarray) -> np.ndarray:
        """Return the probabilities, (N, L), for scores (N, L)."""
        n_llms = scores.shape[1]
        everyone, even = np.ones(n_llms, dtype=bool), np.ones(n_llms)
        return np.stack(
            [among_best(row, even, everyone, self.tried or n_llms, "softmax", self.amount) for row in scores]
        )


EXPLORATIONS = (Exploration(0.005), Exploration(0.02), Exploration(0.1), Exploration(0.02, 3))


@dataclass(frozen=True)
class World:
    """One division of the queries, and the router of those with full outcomes.

    Attributes
    ----------
    full, stream, test
        Queries with full outcomes, those that are served, those that are tested.
    digests
        By number of a query: digest of its text.
    llms, params
        The LLMs, and params with nothing left to choose.
    champion
        Trained on `full`.
    experience
        What `full` says of feedback.
    """

    full: Split
    stream: Split
    test: Split
    digests: np.ndarray
    llms: Llms
    params: RouterTrainParams
    champion: Router
    experience: Experience

    @property
    def trade_off(self) -> float:
        """At which it serves."""
        return self.params.serving.trade_off

    def worth(self, quality: np.ndarray, cost_usd: np.ndarray) -> np.ndarray:
        """Return utilities, in the champion's units of cost."""
        return utility(quality, scaled_cost(cost_usd, self.champion.cost_scale), self.trade_off)

    def scores(self, router: Router, part: Split) -> np.ndarray:
        """Return what a router decides by, (N, L)."""
        return self.worth(*predictions(router, part))

    def served(self, part: Split, exploration: Exploration, rng: np.random.Generator) -> Logged:
        """Let the champion serve queries."""
        chances = exploration.chances(self.scores(self.champion, part))
        drawn = rng.random((len(part), 1))
        arm = np.minimum((chances.cumsum(axis=1) <= drawn).sum(axis=1), len(self.llms) - 1)
        rows, outcomes = np.arange(len(part)), part.outcomes
        known = pl.DataFrame(
            {
                "query": self.digests[outcomes.queries],
                "llm": np.array(self.llms.names)[arm],
                "propensity": chances[rows, arm],
                **{
                    name: getattr(outcomes, name)[rows, arm]
                    for name in ("quality", "response_tokens", "prompt_tokens", "cost_usd")
                },
                "vector": pl.Series(part.embeddings.astype(np.float32)).arr.to_list(),
            }
        )
        unknown = [pl.lit(None, kind).alias(name) for name, kind in OUTCOMES.items() if name not in known.columns]
        return Logged(known.with_columns(unknown).select(*OUTCOMES))


def world_of(
    whole: Split, llms: Llms, queries: pl.DataFrame, params: RouterTrainParams, share: float, seed: int
) -> World:
    """Divide the queries and train the champion."""
    rows, tested = draw(queries, TEST_SHARE, FIFTHS, seed)
    full, stream = divide(whole.take(rows), share, seed)
    llms = priced(llms, full.outcomes)
    params = choose(full, llms, params).params
    champion, _ = train(full, llms, params)
    experience = Experience.fit(champion, full.embeddings, full.outcomes, params.serving.satisfied_above)
    digests = queries.select(normalised(pl.col("query_text")).map_elements(_digest, pl.String))["query_text"].to_numpy()
    return World(full, stream, whole.take(tested), digests, llms, params, champion, experience)


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def learned(world: World, log: Logged, seed: int) -> dict[str, Router]:
    """Train routers on the full outcomes and the log, in several ways.

    Where qualities are permuted among the answers of each LLM, the log tells how good an LLM is on average, and
    nothing of the queries.
    """
    used = trainable(log, world.llms, world.params.logged)

    def by(weight: str) -> Router:
        logged = world.params.logged.model_copy(update={"weight": weight})
        return train_with_log(world.full, world.llms, world.params.model_copy(update={"logged": logged}), log)[0]

    def weighed(weights: Callable[[LoggedAnswers], np.ndarray]) -> Router:
        def answers(_: Router) -> LoggedAnswers:
            told = answers_of(used, world.llms, world.experience, world.params.logged)
            return replace(told, weight=weights(told))

        return train(world.full, world.llms, world.params, answers)[0]

    inverse = np.minimum(1 / used.frame["propensity"].to_numpy(), world.params.logged.clip)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(rows) for rows in _by_llm(used)])
    back = np.concatenate(_by_llm(used))
    quality = used.frame["quality"].to_numpy().copy()
    quality[back] = quality[order]
    permuted = Logged(used.frame.with_columns(pl.Series("quality", quality)))
    kept = world.params.logged.model_copy(update={"holdout_share": 0.0})
    plain = world.params.model_copy(update={"logged": kept})
    return {
        "log, as noisy answers": by("none"),
        "log, inverse propensity": by("inverse"),
        "log, one each": weighed(lambda told: np.ones(len(told))),
        "log, inverse unscaled": weighed(lambda _: inverse),
        "log, online": _online(world, used),
        "log, permuted within LLMs": train_with_log(world.full, world.llms, plain, permuted)[0],
    }


def _by_llm(log: Logged) -> list[np.ndarray]:
    names = log.frame["llm"].to_numpy()
    return [np.flatnonzero(names == name) for name in np.unique(names)]


def _online(world: World, log: Logged) -> Router:
    """Learn from the log answer by answer, as the service does."""
    online = OnlineRouter(world.champion, TradeOff(world.trade_off), experience=world.experience)
    features = world.champion.feature_map(log.vectors)
    columns = log.frame.select("llm", "quality", "response_tokens", "propensity").rows()
    for x, (name, quality, tokens, propensity) in zip(features, columns, strict=True):
        told = Feedback(quality=quality, response_tokens=tokens)
        online.learn(x, [world.llms.names.index(name)], [told], [0.0], propensity)
    return online.router


def scored(world: World, router: Router, seed: int, exploration: str, method: str) -> MethodRound:
    """Play the test queries."""
    outcomes, rows = world.test.outcomes, np.arange(len(world.test))
    quality, cost = predictions(router, world.test)
    curve = Curve.of(choices(quality, cost, world.champion.cost_scale), outcomes)
    arm = world.worth(quality, cost).argmax(axis=1)
    gained = world.worth(outcomes.quality, outcomes.cost_usd)[rows, arm]
    small = Curve(curve.quality.astype(np.float32), curve.cost.astype(np.float32))
    singles = Reference.choose(world.full.outcomes).curve(outcomes)
    return MethodRound(seed, exploration, method, outcomes.queries, small, singles, gained)


def estimated(
    world: World, candidate: Router, log: Logged, exploration: Exploration, repeats: int, seed: int
) -> list[EstimateRound]:
    """Estimate candidate and champion from logs drawn anew, beside what they earn on all untouched queries."""
    held_out = world.stream.take(np.flatnonzero(log.held_out(world.params.logged.holdout_share)))
    parts = (held_out, world.test)
    pool = Split(
        type(held_out.outcomes).join([part.outcomes for part in parts]),
        np.concatenate([part.embeddings for part in parts])[
            np.argsort(np.concatenate([part.outcomes.queries for part in parts]), kind="stable")
        ],
        [""] * sum(map(len, parts)),
        [""] * sum(map(len, parts)),
    )
    worth = world.worth(pool.outcomes.quality, pool.outcomes.cost_usd)
    rows = np.arange(len(pool))
    sides = [replace(one, cost_scale=world.champion.cost_scale) for one in (candidate, world.champion)]
    truths = [float(worth[rows, world.scores(one, pool).argmax(axis=1)].mean()) for one in sides]
    rounds = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        drawn = pool.take(rng.integers(len(pool), size=len(held_out)))
        told = world.served(drawn, exploration, rng)
        served = [Served(one, world.trade_off) for one in sides]
        found = compare(served[0], served[1], told, samples=300, seed=repeat)
        found = replace(found, rows=replace(found.rows, vectors=np.zeros((0, 0))))  # the largest part by far
        rounds.append(EstimateRound(exploration.name, found, truths[0], truths[1], len(held_out)))
    return rounds


def run_of(
    folder: Path, share: float, seeds: int, repeats: int, most: int | None, progress: Callable[[Any], Any] = tqdm
) -> Run:
    """Measure one table.

    Parameters
    ----------
    folder
        With params.yaml and data.
    share
        Of the training queries, that every LLM has answered.
    seeds
        Divisions of the queries.
    repeats
        Logs that estimates are made from, for each division and exploration.
    most
        Use so many queries, drawn at random; None: all.
    progress
        Shows the work.
    """
    params = validate_block(read_document(folder / PARAMS_FILE), "router_train", RouterTrainParams)
    whole, llms, queries = read_whole(folder / "data/routing", folder / "data/embeddings")
    if most is not None and most < len(whole):
        kept = np.sort(np.random.default_rng(0).choice(len(whole), most, replace=False))
        whole, queries = whole.take(kept), queries[kept]
        whole = replace(whole, outcomes=replace(whole.outcomes, queries=np.arange(most)))
    methods: list[MethodRound] = []
    estimates: list[EstimateRound] = []
    logs: list[dict[str, Any]] = []
    for seed in progress(range(seeds)):
        world = world_of(whole, llms, queries, params, share, 1000 + seed)
        everything, _ = train(_joined(world.full, world.stream), world.llms, world.params)
        for name, router in ((BASE, world.champion), (ALL, everything)):
            methods.append(scored(world, router, seed, "", name))
        for exploration in EXPLORATIONS:
            log = world.served(world.stream, exploration, np.random.default_rng(seed))
            routers = learned(world, log, seed)
            methods += [scored(world, router, seed, exploration.name, name) for name, router in routers.items()]
            logs.append(_described(world, log, exploration))
            candidate = routers["log, as noisy answers"]
            estimates += estimated(world, candidate, log, exploration, repeats, seed)
        sizes = (len(world.full), len(world.stream), len(world.test))
        logs[-1] |= {"predictor": world.params.predictor, "tags": world.params.tags}
    return Run(folder.name, share, len(llms), sizes, params, seeds, repeats, methods, estimates, logs)


def _joined(first: Split, second: Split) -> Split:
    outcomes = type(first.outcomes).join([first.outcomes, second.outcomes])
    order = np.argsort(np.concatenate([first.outcomes.queries, second.outcomes.queries]), kind="stable")
    domains, subdomains = first.domains + second.domains, first.subdomains + second.subdomains
    return Split(
        outcomes,
        np.concatenate([first.embeddings, second.embeddings])[order],
        [domains[row] for row in order],
        [subdomains[row] for row in order],
    )


def _described(world: World, log: Logged, exploration: Exploration) -> dict[str, Any]:
    """How much was explored, and what it cost against always asking what looks best."""
    rows, outcomes = np.arange(len(world.stream)), world.stream.outcomes
    worth, best = world.worth(outcomes.quality, outcomes.cost_usd), world.scores(world.champion, world.stream).argmax(1)
    arm = np.array([world.llms.names.index(name) for name in log.frame["llm"]])
    share = np.bincount(arm, minlength=len(world.llms)) / len(arm)
    return {
        "exploration": exploration.name,
        "other": float((arm != best).mean()),
        "price": float((worth[rows, best] - worth[rows, arm]).mean()),
        "asked": float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())),
        "noise": (world.experience.noise.own, world.experience.noise.common),
    }


def main() -> None:
    """Measure, print the page and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders with params.yaml and data")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2], help="of the queries with full outcomes")
    parser.add_argument("--seeds", type=int, default=8, help="divisions of the queries, at least 2")
    parser.add_argument("--repeats", type=int, default=20, help="logs for estimates, for each division and exploration")
    parser.add_argument("--queries", type=int, help="use so many queries of each table alone")
    parser.add_argument("--report", type=Path, help="Markdown file that is written")
    options = parser.parse_args()
    runs = [
        run_of(folder, share, options.seeds, options.repeats, options.queries)
        for share in options.shares
        for folder in options.runs
    ]
    lines = page(runs, (__doc__ or "").split("\n\n", 1)[1].strip(), " ".join(sys.argv[1:]))
    print("\n".join(lines))
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
