"""The network that all LLMs share."""

import json
from pathlib import Path

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, draw, train_params

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.fitting.training import train
from symbiosis.routing.model.networks import WIDTH, SharedNetwork
from symbiosis.routing.model.router import Router

N = 600
FOLDS = np.arange(N) % 3


def curved(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, 4), targets (N, 3, 2) and chances of a good answer (N, 3), which depend on products of features."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, 4))
    chance = 1 / (1 + np.exp(-2 * np.stack([x[:, 0] * x[:, 1], -x[:, 0] * x[:, 1], x[:, 2] * x[:, 3]], axis=1)))
    quality = (rng.random((N, 3)) < chance).astype(np.float64)
    length = 4 + np.abs(x[:, :3]) + 0.1 * rng.standard_normal((N, 3))
    return x, np.stack([quality, length], axis=2), chance


def fitted(targets: np.ndarray, x: np.ndarray, known: np.ndarray | None = None) -> tuple[SharedNetwork, np.ndarray]:
    return SharedNetwork.fit(x, 4, targets, FOLDS, steps=200, decay=0.5, seed=3, known=known)


@pytest.fixture(scope="module")
def network() -> tuple[SharedNetwork, np.ndarray]:
    x, targets, _ = curved()
    return fitted(targets, x)


def test_it_learns_what_no_line_holds(network: tuple[SharedNetwork, np.ndarray]) -> None:
    x, targets, _ = curved()
    whole, held_out = network
    line = np.column_stack([x, np.ones(N)])
    flat = line @ np.linalg.lstsq(line, targets.reshape(N, -1), rcond=None)[0]
    new, _, chance = curved(seed=1)
    for predicted in (held_out, whole(x)):
        errors = ((predicted - targets) ** 2).mean(axis=(0, 1))
        assert (errors < 0.9 * ((flat.reshape(targets.shape) - targets) ** 2).mean(axis=(0, 1))).all()
    assert ((whole(new)[:, :, 0] - chance) ** 2).mean() < 0.5 * ((chance - 0.5) ** 2).mean()


def test_a_query_is_predicted_by_a_member_that_has_not_seen_it(network: tuple[SharedNetwork, np.ndarray]) -> None:
    x, targets, _ = curved()
    own = FOLDS == 1
    changed = targets.copy()
    # Only the order within the fold: the levels, which all members share, stay.
    changed[own] = targets[own][::-1]
    again = fitted(changed, x)[1]
    np.testing.assert_allclose(again[own], network[1][own], rtol=0, atol=1e-5)
    assert np.abs(again[~own] - network[1][~own]).max() > 0.05


def test_answers_that_are_not_known_teach_nothing() -> None:
    x, targets, _ = curved()
    known = np.random.default_rng(0).random((N, 3)) < 0.7
    other = targets.copy()
    # Each gap gets the answer of another gap, so that the levels stay.
    for arm, gaps in enumerate(~known.T):
        other[gaps, arm] = targets[gaps, arm][::-1]
    np.testing.assert_allclose(fitted(targets, x, known)[1], fitted(other, x, known)[1], rtol=0, atol=1e-6)


def test_llms_do_not_depend_on_each_other_once_trained(network: tuple[SharedNetwork, np.ndarray]) -> None:
    x, whole = curved()[0], network[0]
    everyone = whole(x)
    np.testing.assert_array_equal(whole.take([2, 0])(x), everyone[:, [2, 0]])
    np.testing.assert_allclose(np.stack([whole.single(row) for row in x]), everyone, rtol=1e-12)
    more = whole.with_average()(x)
    np.testing.assert_array_equal(more[:, :3], everyone)
    odds = np.log(everyone[:, :, 0] / (1 - everyone[:, :, 0])).mean(axis=1)
    np.testing.assert_allclose(more[:, 3, 0], 1 / (1 + np.exp(-odds)), rtol=1e-9)
    np.testing.assert_allclose(more[:, 3, 1], everyone[:, :, 1].mean(axis=1), rtol=1e-12)


@pytest.mark.parametrize("predictor", ["network", "linear+network", "linear+stacked+network"])
def test_a_router_with_a_network_learns_and_is_saved(predictor: str, tmp_path: Path) -> None:
    outcomes, vectors, domain = draw(200, seed=0)
    labels = [DOMAINS[one] for one in domain]
    router, report = train(Split(outcomes, vectors, labels, labels), LLMS, train_params(predictor=predictor))
    assert report["predictor"] == predictor
    assert report["all"]["brier"] < report["all"]["brier_of_mean"]
    router.save(tmp_path / "saved")
    state = json.loads((tmp_path / "saved/router.json").read_text())
    assert (state["format"], state["predictor"]) == (5, predictor)
    again = Router.load(tmp_path / "saved")
    features = router.feature_map(vectors)
    np.testing.assert_array_equal(again.predict(features).quality, router.predict(features).quality)
    before = again.predict(features[:1])
    again.learn(0, features[0], 0.0, 10.0)
    after = again.predict(features[:1])
    assert after.quality[0, 0] < before.quality[0, 0]
    assert after.variance[0, 0] < before.variance[0, 0]
    np.testing.assert_array_equal(after.quality[0, 1:], before.quality[0, 1:])
    (tmp_path / "saved/router.json").write_text(json.dumps(state | {"format": 4}))
    with pytest.raises(InputError, match=f"a predictor {predictor.replace('+', '.')} has the format 5"):
        Router.load(tmp_path / "saved")


def test_members_lie_side_by_side(network: tuple[SharedNetwork, np.ndarray]) -> None:
    assert network[0].hidden.shape == (4, 3 * WIDTH)
    assert network[0].output.shape == (3, 2, 3 * WIDTH)


@pytest.mark.parametrize("name", ["format_4_3e93b77", "format_5"])
def test_routers_saved_in_the_past_predict_as_they_did(name: str) -> None:
    """`tests/golden/routers` holds them: an average of two forms as commit 3e93b77 wrote it, and one with a network."""
    folder = Path(__file__).resolve().parents[2] / "golden" / "routers" / name
    expected = json.loads((folder / "expected.json").read_text())
    router = Router.load(folder)
    told = router.predict(router.feature_map(np.array(expected.pop("vectors"))))
    for what, values in expected.items():
        np.testing.assert_allclose(getattr(told, what), values, rtol=1e-6)
