"""Adding new LLMs mid-stream, compared with a router that knew them from the start and one without them.

After MixLLM (arXiv 2502.18482), which added two LLMs to eleven.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from symbiosis.core.statistics import interval
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.experiments.continual import divide, stratified
from symbiosis.routing.experiments.online import rule_of
from symbiosis.routing.experiments.params import OnlineReplayParams
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Experience
from symbiosis.routing.learning.onboarding import onboard
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.router import Router
from symbiosis.routing.simulation.replay import FeedbackKind, ReplayedRouter, run

ROUTERS = ("without", "added", "known")


@dataclass(frozen=True)
class NewcomerResult:
    """Utility of three routers on the test queries while the stream goes on.

    Attributes
    ----------
    steps
        (S,), queries of the stream since the new LLMs joined.
    queries
        (M,), the test queries.
    utility
        By router (`ROUTERS`): (S, M), of each test query at each step.
    withheld
        Names of the LLMs that joined.
    probe_usd
        What the new LLMs' answers to the probe queries cost.
    """

    steps: np.ndarray
    queries: np.ndarray
    utility: dict[str, np.ndarray]
    withheld: tuple[str, ...]
    probe_usd: float

    def recovered(self, weights: np.ndarray) -> list[dict[str, float]]:
        """Share of the gain from knowing the LLMs from the start that was recovered, at each step.

        Parameters
        ----------
        weights
            (B, M), bootstrap weights of the test queries.

        Returns
        -------
        list of dict
            ``step``, ``without``, ``added``, ``known``: mean utility; ``recovered`` and its 95 % bounds ``low`` and
            ``high``, absent where knowing the LLMs gains nothing.
        """
        rows = []
        for place, step in enumerate(self.steps.tolist()):
            without, added, known = (self.utility[name][place] for name in ROUTERS)
            rows.append(
                {
                    "step": step,
                    "without": float(without.mean()),
                    "added": float(added.mean()),
                    "known": float(known.mean()),
                    **_share(added - without, known - without, weights),
                }
            )
        return rows


def _share(recovered: np.ndarray, whole: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Share of a gain, (M,) per query each, with its interval; samples without a gain are left out."""
    drawn, of = weights @ recovered, weights @ whole
    if whole.mean() == 0 or not of.any():
        return {}
    return {"recovered": float(recovered.mean() / whole.mean()), **interval(drawn[of != 0] / of[of != 0])}


def most_used(router: Router, offline: Split, params: OnlineReplayParams, n: int) -> list[int]:
    """Arms of the `n` LLMs that the router sends most offline queries to: those whose absence would be felt."""
    features = router.feature_map(offline.embeddings)
    predictions = router.predict(features)
    cost = scaled_cost(predictions.cost_usd, router.cost_scale)
    worth = utility(predictions.quality, cost, params.score.trade_off, params.score.weighting)
    counts = np.bincount(worth.argmax(axis=1), minlength=len(router.llms))
    return [int(arm) for arm in np.argsort(-counts, kind="stable")[:n]]


@dataclass(frozen=True)
class RouterPair:
    """Two routers trained offline: one does not know some LLMs, one knows them from the start.

    Attributes
    ----------
    without, known
        The routers, their costs on one scale.
    old, new
        Arms, among all, of the LLMs that both know, and of those that join; `known` has the latter last.
    experience
        Of the router without them.
    """

    without: Router
    known: Router
    old: list[int]
    new: list[int]
    experience: Experience

    @property
    def order(self) -> list[int]:
        """Arms of `known`'s LLMs among all."""
        return [*self.old, *self.new]

    @classmethod
    def train(
        cls,
        offline: Split,
        llms: Llms,
        train_params: RouterTrainParams,
        params: OnlineReplayParams,
        withheld: Sequence[str] = (),
    ) -> "RouterPair":
        """Train both; see `adapt` for the parameters."""
        everything = _trained(offline, llms, range(len(llms)), train_params)
        named = [llms.names.index(name) for name in withheld]
        new = named or most_used(everything, offline, params, min(2, len(llms) - 1))
        old = [arm for arm in range(len(llms)) if arm not in new]
        without = _trained(offline, llms, old, train_params)
        experience = Experience.fit(
            without, offline.embeddings, offline.outcomes.of_llms(old), train_params.serving.satisfied_above
        )
        # The cost scale is a matter of the study, not of who is withheld.
        without = replace(without, cost_scale=everything.cost_scale)
        return cls(without, everything.take([*old, *new]), old, new, experience)

    def added(self, offline: Split, llms: Llms, rows: np.ndarray) -> Router:
        """Give the router without them the new LLMs, by their answers to some of the offline queries."""
        asked = offline.outcomes.take(rows)
        router = self.without
        for place, arm in enumerate(self.new):
            before = self.order[: len(self.old) + place]
            router = onboard(
                router,
                llms.take([arm]),
                offline.embeddings[rows],
                asked.quality[:, arm],
                asked.response_tokens[:, arm],
                self.experience.noise,
                asked.quality[:, before],
            )
        return router


def probes_of(offline: Split, n: int, seed: int) -> np.ndarray:
    """Rows of `n` probe queries, stratified by tag; all, if there are fewer."""
    return stratified(offline.subdomains, n, seed)


def adapt(
    training: Split,
    test: Split,
    llms: Llms,
    offline_share: float,
    train_params: RouterTrainParams,
    params: OnlineReplayParams,
    seed: int,
    *,
    withheld: Sequence[str] = (),
    probes: int = 100,
    queries: int = 1000,
    every: int = 100,
    feedback: FeedbackKind = "refined",
) -> NewcomerResult:
    """Withhold LLMs, add them with a probe set, and go on learning.

    Parameters
    ----------
    training, test, llms, offline_share, train_params, params, seed
        See `symbiosis.routing.experiments.continual.continual`.
    withheld
        Names; if empty, the two LLMs that a router trained on all of them uses most.
    probes
        Offline queries that each new LLM answers when it joins, stratified by tag.
    queries
        Length of the stream.
    every
        Queries between two looks at the test queries.
    feedback
        Kind of feedback that all three routers get.
    """
    offline, stream = divide(training, offline_share, seed)
    pair = RouterPair.train(offline, llms, train_params, params, withheld)
    rows = probes_of(offline, probes, seed)
    routers = {
        "without": (pair.without, pair.old),
        "added": (pair.added(offline, llms, rows), pair.order),
        "known": (pair.known, pair.order),
    }
    taken = np.arange(min(queries, len(stream.outcomes)))
    worth = {}
    for name, (router, arms) in routers.items():
        worth[name] = _followed(
            router,
            pair.experience,
            stream.outcomes.take(taken).of_llms(arms),
            stream.embeddings[taken],
            test.outcomes.of_llms(arms),
            test.embeddings,
            params,
            feedback,
            every,
            seed,
            range(len(pair.old), len(pair.order)) if name == "added" else (),
        )
    steps = every * np.arange(len(worth["known"]))
    probe_usd = float(offline.outcomes.take(rows).cost_usd[:, pair.new].sum())
    return NewcomerResult(steps, test.outcomes.queries, worth, tuple(llms.names[arm] for arm in pair.new), probe_usd)


def _trained(offline: Split, llms: Llms, arms: Sequence[int], params: RouterTrainParams) -> Router:
    """Train on the given LLMs only."""
    outcomes = offline.outcomes.of_llms(arms)
    kept = llms.take(arms)
    return train(Split(outcomes, offline.embeddings, offline.domains, offline.subdomains), kept, params)[0]


def _followed(
    router: Router,
    experience: Experience,
    outcomes: Outcomes,
    embeddings: np.ndarray,
    test: Outcomes,
    test_embeddings: np.ndarray,
    params: OnlineReplayParams,
    feedback: FeedbackKind,
    every: int,
    seed: int,
    newcomers: Sequence[int],
) -> np.ndarray:
    """Utility of the test queries before the stream and after each `every` answers, (S, M)."""
    rule = rule_of(params)
    learner = ReplayedRouter(
        router,
        outcomes,
        embeddings,
        rule,
        feedback,
        experience,
        params.learning,
        params.binary,
        params.user,
        np.random.default_rng(seed),
        newcomers,
    )
    seen: list[np.ndarray] = []
    answers = 0

    def look() -> None:
        scores = learner.policy(test_embeddings).scores(replace(rule, exploration=0.0))
        rows, arms = np.arange(len(test)), scores.argmax(axis=1)
        cost = scaled_cost(test.cost_usd[rows, arms], router.cost_scale)
        seen.append(utility(test.quality[rows, arms], cost, rule.trade_off, rule.weighting))

    def answered(query: int, arm: int, wait_s: float, dropped: bool) -> None:
        nonlocal answers
        learner.answered(query, arm, wait_s, dropped)
        answers += 1
        if answers % every == 0:
            look()

    # The simulator refuses capacities of LLMs that this router does not know.
    capacities = {name: own for name, own in params.stream.llms.items() if name in router.llms.names}
    stream = params.stream.model_copy(update={"llms": capacities})
    look()
    run(outcomes, router.llms, stream, learner.choose, answered, seed=seed)
    return np.stack(seen)
