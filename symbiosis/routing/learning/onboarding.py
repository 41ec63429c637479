"""A new LLM joins a running router: what the LLMs seen so far say of it, then a small set of probe queries."""

from dataclasses import replace

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Llms
from symbiosis.routing.learning.feedback import Noise
from symbiosis.routing.model.forests import SharedForest, leaves
from symbiosis.routing.model.linear_heads import LinearHeads, inverse_of
from symbiosis.routing.model.predictors import LENGTH, QUALITY
from symbiosis.routing.model.router import Router


def onboard(
    router: Router,
    llm: Llms,
    embeddings: np.ndarray,
    quality: np.ndarray,
    response_tokens: np.ndarray,
    noise: Noise,
    known_quality: np.ndarray | None = None,
) -> Router:
    """Return a router with one LLM more, fitted to its answers to probe queries; the others stay as they are.

    LLMs are alike: good ones are good at the same things. So the weights of a new one are expected to lie where those
    of the others do: their prior is normal with the others' mean, and with their covariance beside the ridge penalty
    (empirical Bayes). What a hundred answers say of one direction of skill then tells of all tags.

    A forest that all LLMs share knows which queries are alike, whoever answers them: what the heads leave of the new
    LLM's answers fills its leaves (`filled`).

    Parameters
    ----------
    router
        Not changed.
    llm
        The one LLM.
    embeddings
        (m, d), of the probe queries; m may be 0.
    quality, response_tokens
        (m,), its answers.
    noise
        Of predicted quality.
    known_quality
        (m, L), the others' answers to the probe queries, where they are known: what they have in common with the new
        LLM's errors is the queries' difficulty, and cancels.

    Raises
    ------
    InputError
        The name is taken, or an answer is not finite or out of range.
    """
    if not (((quality >= 0) & (quality <= 1)).all() and ((response_tokens >= 0) & (response_tokens < np.inf)).all()):
        raise InputError(f"probe answers of {llm.names[0]!r}: quality must lie in 0..1, response tokens not below 0")
    heads, dimension = router.heads, router.heads.dimension
    penalty = heads.penalty.mean(axis=0)
    more = router.with_llm(
        llm.names[0],
        float(llm.price_prompt[0]),
        float(llm.price_response[0]),
        float(llm.startup_s[0]),
        float(llm.tokens_per_s[0]),
        float(penalty.mean()),
    )
    theta = heads.weights[:, :, dimension:]
    mean = theta.mean(axis=0)
    spread = theta[:, :, QUALITY] - mean[:, QUALITY]
    similar = spread.T @ spread / max(len(spread) - 1, 1) / noise.own
    precision = inverse_of(np.diag(1 / penalty) + similar)
    new = LinearHeads(precision[None], (precision @ mean)[None], penalty=penalty[None].copy())
    new.forgetting = heads.forgetting
    if len(embeddings):
        features = router.feature_map(embeddings)
        prior = more.prior(features)[:, -1]
        targets = np.column_stack([quality, np.log(np.maximum(response_tokens, 1.0))]) - prior
        weight = noise.own / (noise.own + noise.common)
        if known_quality is not None:
            errors = known_quality - router.predict(features, np.zeros_like(known_quality)).quality
            variance = 1 / (1 / max(noise.common, 1e-12) + errors.shape[1] / noise.own)
            targets[:, QUALITY] -= variance * errors.sum(axis=1) / noise.own
            weight = noise.own / (noise.own + variance)
        new.update_batch(0, np.sqrt(weight) * features, np.sqrt(weight) * targets)
        if isinstance(more.prior, SharedForest):
            left = targets - new.predict(features)[0][:, 0]
            more = replace(more, prior=filled(more.prior, features, left, noise.own / weight))
            prior = more.prior(features)[:, -1]
        lengths = more.lengths
        predicted = prior[:, LENGTH] + new.predict(features)[0][:, 0, LENGTH]
        smear = np.exp(np.log(np.maximum(response_tokens, 1.0)) - predicted)
        # The others' correction counts as ten answers.
        smears = lengths.smear.copy()
        smears[-1] = (smear.sum() + 10 * smears[-1]) / (len(smear) + 10)
        more = replace(more, lengths=replace(lengths, smear=smears))
    return replace(more, heads=router.heads.extend(new))


def filled(forest: SharedForest, features: np.ndarray, targets: np.ndarray, noise: float) -> SharedForest:
    """Fill the leaves of the last LLM, until now the mean over the others, with its own answers.

    A leaf's value is the posterior mean: the mean over the others counts as many answers as the variance of an answer
    is times that of LLMs around their mean, as the forest knows the others (empirical Bayes, leaving the new one out).

    Parameters
    ----------
    forest
        Of two LLMs or more.
    features
        (m, D), of the queries.
    targets
        (m, 2), by how much quality and log length were above what was expected of the new LLM so far.
    noise
        Variance of an answer's quality.
    """
    others = forest(features)[:, :-1]
    spread = np.maximum(others.var(axis=1, ddof=min(1, others.shape[1] - 1)).mean(axis=0), 1e-6)
    strength = np.array([noise, max(float(targets[:, LENGTH].var()), 1e-6)]) / spread
    value = forest.value.copy()
    for nodes in leaves(forest, features):
        own, place, count = np.unique(nodes, return_inverse=True, return_counts=True)
        sums = np.stack([np.bincount(place, column) for column in targets.T], axis=1)
        value[own, -1] += (sums / (count[:, None] + strength)).astype(value.dtype)
    return replace(forest, value=value)
