"""The ladder of signals: what tells the outcomes joins the router, noise does not; blocks are brought to scale."""

import numpy as np
from routing_world import LLMS, split_of, train_params

from bench.signals import beside, climb, routed


def test_a_block_is_centred_scaled_and_clipped_by_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    block = 50 + 20 * rng.standard_normal((400, 3))
    block[-1] = 1e6
    joined = beside(np.zeros((400, 2)), block, np.arange(300), weight=2.0)
    own = joined[:, 2:] * np.sqrt(3) / 2
    np.testing.assert_allclose(own[:300].mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(own[:300].std(axis=0), 1, atol=0.05)
    np.testing.assert_allclose(own[-1], 3)


def test_what_tells_the_outcomes_passes_and_noise_does_not() -> None:
    whole = split_of(240, 0)
    texts = [f"query {row}" for row in range(240)]
    params = train_params(tags="none", dimension=8)
    noise = np.random.default_rng(1).standard_normal((240, 3))
    signals = {
        "noise": lambda fold, base: routed(whole, beside(whole.embeddings, noise, fold.rows), fold, params, 0),
        "answers": lambda fold, base: (0.9 * whole.outcomes.quality[fold.held] + 0.1 * base[0], base[1]),
    }
    aiq, gains = climb(whole, texts, LLMS, signals, params, seeds=2, folds=2)
    assert gains["answers"].passes
    assert gains["answers"].apart > 0
    np.testing.assert_allclose(gains["answers"].aiq - gains["answers"].gain, aiq)
    assert not gains["noise"].passes
    assert len(gains["noise"].by_seed) == 2
