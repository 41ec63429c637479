"""Train a router on the table and on logged feedback: what each logged answer tells, and how much it counts.

While a router serves, one LLM answers a query, and its error may be the query's as well as the LLM's
(`symbiosis.routing.learning.feedback.Noise`); satisfied or not is a noisy observation of quality (`Satisfaction`).
Logged answers count in training exactly as much as they do there. Optionally they are weighted by the inverse of their
propensity, so that in expectation they weigh as if every LLM had answered every query (Horvitz and Thompson 1952);
weights are clipped (Ionides 2008) and scaled to mean 1.
"""

from typing import Any

import numpy as np

from symbiosis.routing.data.logged import Logged
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.fitting.kept import Kept
from symbiosis.routing.fitting.logged_answers import LoggedAnswers
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Experience, Noise
from symbiosis.routing.model.params import LoggedParams, RouterTrainParams
from symbiosis.routing.model.router import Router


def train_with_log(
    offline: Split, llms: Llms, params: RouterTrainParams, logged: Logged, kept: Kept | None = None
) -> tuple[Router, dict[str, Any], Logged]:
    """Train a router; without logged rows exactly as `symbiosis.routing.fitting.training.train` does.

    Parameters
    ----------
    offline, llms, params, kept
        See there.
    logged
        All that was collected; what is held out is left out here.

    Returns
    -------
    Router
    dict
        For ``reports/router_train.json``.
    Logged
        The rows that it was trained on.
    """
    used = trainable(logged, llms, params.logged)
    if not len(used):
        return *train(offline, llms, params, kept=kept), used

    def answers(router: Router) -> LoggedAnswers:
        known = Experience.fit(router, offline.embeddings, offline.outcomes, params.serving.satisfied_above)
        return answers_of(used, llms, known, params.logged)

    router, report = train(offline, llms, params, answers, kept)
    report["logged"]["held_out"] = len(logged) - len(used)
    return router, report, used


def trainable(logged: Logged, llms: Llms, params: LoggedParams) -> Logged:
    """Return the rows that may be trained on: not held out, and of LLMs that are there."""
    there = logged.frame["llm"].is_in(list(llms.names)).to_numpy()
    return logged.take(~logged.held_out(params.holdout_share) & there)


def answers_of(logged: Logged, llms: Llms, known: Experience, params: LoggedParams) -> LoggedAnswers:
    """Return what logged rows, at least one, say of quality and length, and how much they count.

    Parameters
    ----------
    logged, llms
        All rows are of these LLMs.
    known
        What offline data say of feedback.
    params
        Of the weights.
    """
    arms = {name: arm for arm, name in enumerate(llms.names)}
    frame = logged.frame
    return LoggedAnswers(
        logged.vectors,
        np.array([arms[name] for name in frame["llm"]]),
        logged.quality(known.satisfaction.satisfied, known.satisfaction.dissatisfied),
        frame["response_tokens"].to_numpy().astype(np.float64),
        weights(frame["quality"].is_null().to_numpy(), frame["propensity"].to_numpy(), known, params),
        np.array([int(query[:13], 16) for query in frame["query"]]),
    )


def weights(binary: np.ndarray, propensity: np.ndarray, known: Experience, params: LoggedParams) -> np.ndarray:
    """How many answers of full feedback each logged answer is worth, (M,).

    Parameters
    ----------
    binary
        (M,) bool, whether only satisfied or not was told.
    propensity
        (M,), NaN where no router chose: such an answer weighs as one of average propensity.
    known
        Variances: what the query's part, and satisfied or not, add to an LLM's own.
    params
        Whether propensities count.
    """
    noise = known.noise

    def worth(variance: float) -> float:  # as `symbiosis.routing.learning.online_router.OnlineRouter.learn`
        share = Noise(noise.own + variance, noise.common).attribute(np.zeros(1))[1]
        return share * noise.own / (noise.own + variance)

    worths = np.where(binary, worth(known.satisfaction.variance), worth(0.0))
    if params.weight == "none":
        return worths
    inverse = np.minimum(1 / propensity, params.clip)
    drawn = ~np.isnan(inverse)
    if drawn.any():
        inverse = np.where(drawn, inverse / inverse[drawn].mean(), 1.0)
        return worths * inverse
    return worths
