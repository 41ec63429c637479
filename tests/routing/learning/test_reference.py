"""The reference of a router's training queries: distances, how often they ring by mistake, and the files."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, draw, train_params

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.reference import FILE, LEVEL, TENSORS, Distance, Reference

WINDOWS = 200


@pytest.fixture(scope="module")
def reference() -> Reference:
    outcomes, vectors, domain = draw(400, 1)
    names = [DOMAINS[number] for number in domain]
    return fitted(Split(outcomes, vectors, names, names), vectors[:0])


def fitted(offline: Split, logged: np.ndarray) -> Reference:
    router, report = train(offline, LLMS, train_params())
    return Reference.fit(router.feature_map, offline, logged, report, seed=3)


def distances(reference: Reference, vectors: np.ndarray) -> tuple[Distance, Distance]:
    tags = reference.tag_distance(reference.tag_counts(vectors))
    assert tags is not None
    return tags, reference.vector_distance(vectors)


@pytest.mark.parametrize("n", [50, 400])
def test_false_alarms_are_as_rare_as_stated(n: int, reference: Reference) -> None:
    """New windows of the same world exceed the thresholds as rarely as stated, and come near to them."""
    found = np.array(
        [
            [distance.value / distance.threshold for distance in distances(reference, draw(n, 50_000 + seed)[1])]
            for seed in range(WINDOWS)
        ]
    )
    rung = (found > 1).sum(axis=0)
    assert (rung <= LEVEL * WINDOWS + 4 * np.sqrt(LEVEL * WINDOWS)).all(), rung
    assert (found.max(axis=0) > 0.6).all()


def test_another_mix_of_domains_rings(reference: Reference) -> None:
    """Queries of one domain alone, and a mix of domains that has moved by a third."""
    _, vectors, domain = draw(2000, 7)
    moved = np.concatenate([vectors[domain == 0][:130], vectors[domain == 1][:40], vectors[domain == 2][:30]])
    for window in (vectors[domain == 2][:50], moved):
        for found in distances(reference, window):
            assert found.value > found.threshold


def test_other_queries_of_the_same_tags_ring(reference: Reference) -> None:
    """Vectors that lie elsewhere, though the mix of tags stays."""
    vectors = draw(200, 8)[1]
    shifted = vectors + 0.4 * np.eye(16)[12]
    found = reference.vector_distance(shifted)
    assert found.value > found.threshold
    distance, spread = reference.shift(shifted)
    assert distance == pytest.approx(0.4 / reference.spread, rel=0.3)
    assert spread == pytest.approx(1.0, rel=0.1)


def test_what_was_learned_from_feedback_is_no_drift() -> None:
    """Queries that ring while the router knows the table alone are its own once it was trained on their like."""
    outcomes, vectors, domain = draw(400, 2)
    names = [DOMAINS[number] for number in domain]
    offline = Split(outcomes, vectors, names, names)
    _, more, domains = draw(4000, 9)
    served = more[domains == 0]
    for logged, rings in ((served[:0], True), (served[:1000], False)):
        reference = fitted(offline, logged)
        assert reference.queries == 400 + len(logged)
        mixed = np.concatenate([served[-70:], draw(30, 10)[1]])
        assert [found.value > found.threshold for found in distances(reference, mixed)] == [rings, rings]


def test_equal_and_disjoint_mixes(reference: Reference) -> None:
    """The distance is 0 for the training's own mix and 1 for tags that training never had."""
    same = reference.tag_distance(reference.counts)
    assert same is not None
    assert same.value == 0.0
    only = replace(reference, counts=np.array([400, 0, 0]))
    other = only.tag_distance(np.array([0, 30, 30]))
    assert other is not None
    assert other.value == pytest.approx(1.0)
    assert replace(reference, tags=("cluster",), counts=np.array([400])).tag_distance(np.array([60])) is None


def test_names_and_counts(reference: Reference) -> None:
    """Tags carry the names of their domains; all training queries are counted once."""
    assert set(reference.tags) == set(DOMAINS)
    assert reference.counts.sum() == reference.queries == 400
    assert reference.served.ece > 0


def test_saved_and_read_again(reference: Reference, tmp_path: Path) -> None:
    """All survives but for the rounding to float32; the same training writes the same bytes."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        reference.save(tmp_path / name)
    for file in (FILE, TENSORS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    again = Reference.load(tmp_path / "one")
    assert again is not None
    for field in fields(Reference):
        before, after = getattr(reference, field.name), getattr(again, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_allclose(after, before, atol=1e-4)
        else:
            assert after == before
    assert Reference.load(tmp_path) is None


def test_damage_is_told(reference: Reference, tmp_path: Path) -> None:
    reference.save(tmp_path)
    tensors = tmp_path / TENSORS
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"reference\.safetensors is missing or damaged"):
        Reference.load(tmp_path)
    (tmp_path / FILE).write_text('{"format": 2}')
    with pytest.raises(InputError, match=r"reference\.json: `format`: .* run `dvc repro router-train`"):
        Reference.load(tmp_path)
