"""The heads behind LinUCB and Thompson sampling agree with MABWiser's; made by bench/library_bandits.py."""

import json
from pathlib import Path

import numpy as np

from symbiosis.routing.model.linear_heads import LinearHeads

MADE = json.loads(Path(__file__).with_name("mabwiser.json").read_text(encoding="utf-8"))


def played() -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of every arm for the contexts asked for, (N, L) each, after the stream."""
    contexts = np.array(MADE["contexts"])
    heads = LinearHeads.blank(3, contexts.shape[1], 1, 1.0)
    for context, arm, reward in zip(contexts, MADE["arms"], MADE["rewards"], strict=True):
        heads.update(arm, context, np.array([reward]))
    means, variances = heads.predict(np.array(MADE["asked"]))
    return means[:, :, 0], np.sqrt(variances)


def test_optimistic_values_are_the_librarys() -> None:
    mean, deviation = played()
    np.testing.assert_allclose(mean + MADE["exploration"] * deviation, MADE["lin_ucb"], rtol=1e-9)


def test_posteriors_are_those_that_the_library_draws_from() -> None:
    mean, deviation = played()
    spread = MADE["exploration"] * deviation
    # The library's are means and deviations of draws: within five standard errors of both.
    error = spread / np.sqrt(MADE["draws"])
    assert (np.abs(np.array(MADE["thompson"]["mean"]) - mean) < 5 * error).all()
    assert (np.abs(np.array(MADE["thompson"]["deviation"]) - spread) < 5 * error).all()
