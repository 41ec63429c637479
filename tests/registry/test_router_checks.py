"""Routers on the same held-out queries: better, equal, sabotaged, and what makes a comparison unfair."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gate_world import PARAMS, texts_of, write_router, write_workspace
from routing_world import FORM, LLMS

from symbiosis.core import layout
from symbiosis.core.artifacts import read_frame
from symbiosis.core.errors import InputError
from symbiosis.registry.checks.check import Check
from symbiosis.registry.checks.queries import Calibration, Decided, HeldOut, ServedRouter
from symbiosis.registry.checks.router import AIQ, CALIBRATION, UTILITY, router_checks
from symbiosis.routing.data import training_texts
from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.metrics.curves import Curve
from symbiosis.routing.queries.query_encoder import QueryEncoder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a good router; read only."""
    folder = write_workspace(tmp_path_factory.mktemp("judged") / "work")
    return write_router(folder, folder)


@pytest.fixture(scope="module")
def poor(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a router trained on outcomes of other queries."""
    return write_router(root, tmp_path_factory.mktemp("poor"), shuffled=True)


def judged(candidate: Path, champion: Path | None, root: Path) -> dict[str, Check]:
    return {check.name: check for check in router_checks(candidate, champion, root, PARAMS)}


def test_better_passes_and_sabotaged_is_refused(root: Path, poor: Path) -> None:
    """The same difference from both sides: paired, and with the sign turned."""
    better, worse = judged(root, poor, root), judged(poor, root, root)
    assert better[UTILITY].passed
    assert not worse[UTILITY].passed
    assert worse[UTILITY].value == pytest.approx(-better[UTILITY].value)
    assert worse[UTILITY].low == pytest.approx(-better[UTILITY].high)
    assert better[AIQ].value == pytest.approx(-worse[AIQ].value)
    assert not better[AIQ].decides
    assert set(better) == {UTILITY, CALIBRATION, AIQ}


def test_equal_passes(root: Path, tmp_path: Path) -> None:
    """A router like the champion passes within the margin: so does the champion itself, without a difference."""
    same = judged(root, root, root)
    assert [same[name].value for name in (UTILITY, CALIBRATION, AIQ)] == [0, 0, 0]
    assert all(check.passed for check in same.values())
    other = judged(write_router(root, tmp_path, seed=1), root, root)
    assert other[UTILITY].passed


def test_the_first_is_compared_with_averages(root: Path, tmp_path: Path) -> None:
    """A good router beats the best LLM, one that always asks the worst does not, nor one that expects nonsense."""
    first = judged(root, None, root)
    assert first[UTILITY].passed
    assert first[UTILITY].value > 0.05
    assert "less that of always asking dear-all" in first[UTILITY].words
    assert first[CALIBRATION].passed
    # With the names turned round it asks for each query the LLM whose opposite it learned about.
    turned = judged(write_router(root, tmp_path, names=LLMS.names[::-1]), None, root)
    assert not turned[UTILITY].passed
    assert not turned[CALIBRATION].passed


def test_utility_and_calibration_by_hand() -> None:
    """Two queries, two LLMs, trade-off 1: half the quality less half the scaled cost."""
    outcomes = Outcomes(
        np.arange(2), np.array([[1.0, 0.0], [0.5, 1.0]]), np.ones((2, 2)), np.ones((2, 2)),
        np.array([[0.5, 2.0], [0.5, 1.0]]),
    )  # fmt: skip
    held_out = HeldOut(Path(), Llms(("a", "b"), *np.ones((4, 2))), outcomes, ("x", "y"), outcomes)
    object.__setattr__(held_out, "cost_scale", 1.0)
    # .5 * 1 - .5 * .5; .5 * 1 - .5 * 1; and a cost of 2 counts as 1: .5 * 0 - .5 * 1.
    assert held_out.utilities(np.array([0, 1]), 1.0).tolist() == [0.25, 0.0]
    assert held_out.utilities(np.array([1, 1]), 1.0).tolist() == [-0.5, 0.0]
    curve = Curve.of(np.zeros((1, 2), dtype=int), outcomes)
    one = Decided(np.array([0, 1]), np.array([[0.75, 0.25], [0.75, 0.75]]), curve)
    # Bin .7 to .8 holds gaps -.25, +.25 and -.25, bin .2 to .3 holds +.25: (|-.25| + |.25|) / 4.
    whole = Calibration.of(one, one, outcomes)
    assert whole.error == pytest.approx(0.125)
    # All weight on a query: (|-.25| + |.25|) / 2, and the second query's gaps cancel.
    assert whole.samples(np.array([[0.5, 0.5], [1, 0], [0, 1]])) == pytest.approx([0.125, 0.25, 0.0])
    # The other does not know the second LLM: -.25 and +.25 in one bin.
    ignorant = replace(one, quality=np.array([[0.75, np.nan], [0.75, np.nan]]))
    assert Calibration.of(one, ignorant, outcomes).error == pytest.approx(0.0)
    assert Calibration.of(one, ignorant, outcomes).answers.tolist() == [1, 1]
    # An answer that nobody has given does not count.
    known = np.array([[True, True], [False, True]])
    assert Calibration.of(one, one, replace(outcomes, known=known)).answers.tolist() == [2, 1]
    with pytest.raises(InputError, match="no LLM in common"):
        Calibration.of(one, replace(one, quality=np.full((2, 2), np.nan)), outcomes)


def test_queries_that_one_was_trained_on_are_left_out(root: Path, tmp_path: Path) -> None:
    """However they are written; with too few left nothing is judged."""
    known = [text.lower().replace("  ", " ") + " " for text in texts_of(root, "test")[:70]]
    champion = write_router(root, tmp_path, texts=known)
    words = judged(root, champion, root)[UTILITY].words
    assert "utility on 50 held-out queries" in words
    assert "70 of 120 left out, as one of the two was trained on their text" in words
    nearly_all = write_router(root, tmp_path, texts=texts_of(root, "test")[:101])
    with pytest.raises(InputError, match="19 test queries are new to both, 20 are needed"):
        router_checks(root, nearly_all, root, PARAMS)
    with pytest.raises(InputError, match="19 test queries are new to both"):  # the candidate's own lessons, too
        router_checks(nearly_all, root, root, PARAMS)


def test_routers_that_do_not_tell_what_they_were_trained_on(root: Path, tmp_path: Path, poor: Path) -> None:
    """A champion may be favoured, which is said; a candidate must be that of the workspace."""
    silent = write_router(root, tmp_path / "silent", seed=1)
    (silent / layout.ROUTER / training_texts.FILE).unlink()
    assert "does not tell what it was trained on, which may favour it" in judged(root, silent, root)[UTILITY].words
    with pytest.raises(InputError, match="the candidate does not tell which texts it was trained on"):
        router_checks(silent, root, root, PARAMS)
    work = write_router(write_workspace(tmp_path / "work"), tmp_path / "work")
    (work / layout.ROUTER / training_texts.FILE).unlink()
    assert judged(work, poor, work)[UTILITY].passed
    (silent / layout.ROUTER / training_texts.FILE).write_bytes(b"no array")
    with pytest.raises(InputError, match=r"training_texts\.npy is damaged"):
        router_checks(silent, root, root, PARAMS)


def test_llms_that_differ_are_told(root: Path, tmp_path: Path) -> None:
    """Both are judged over the LLMs that they and the table know."""
    names = ("alge-mid", "bio-mid", "dear-all", "gone")
    champion = write_router(root, tmp_path, names=names)
    words = judged(root, champion, root)[UTILITY].words
    assert "without gone of the champion, which the table does not know" in words
    assert "only the candidate knows poor-cheap" in words
    strangers = write_router(root, tmp_path, names=("a", "b", "c", "d"))
    with pytest.raises(InputError, match="the champion knows none of the LLMs in data/routing/llms.parquet"):
        router_checks(root, strangers, root, PARAMS)


def test_a_router_of_another_encoder_gets_its_own_vectors(
    root: Path, poor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors come from the pipeline where the form is the router's, else from the bundle's encoder."""
    held_out = HeldOut.read(root)
    champion = ServedRouter.read("champion", poor)
    vectors = held_out.vectors(FORM, poor / layout.ENCODER)
    assert vectors.shape == (120, 16)
    asked = {}

    class Other:
        def many(self, texts: tuple[str, ...]) -> list[np.ndarray]:
            asked["texts"] = texts
            return list(vectors[::-1])

    monkeypatch.setattr(QueryEncoder, "load", lambda encoder, form: asked.update(encoder=encoder) or Other())
    other = replace(champion, serving=champion.serving.model_copy(update={"vectors": FORM.model_copy(
        update={"maximum_tokens": 7})}))  # fmt: skip
    turned, straight = other.decide(held_out, 1.4), champion.decide(held_out, 1.4)
    assert turned.quality == pytest.approx(straight.quality[::-1])
    assert asked == {"encoder": poor / layout.ENCODER, "texts": tuple(texts_of(root, "test"))}


def test_incomplete_answers_are_told(root: Path, tmp_path: Path) -> None:
    """Where an LLM has not answered a test query, an estimate stands for its answer and does not count as observed."""
    work = write_workspace(tmp_path / "work")
    write_router(work, work)
    file = work / layout.ROUTING_TEST
    table = read_frame(file)
    table.filter((table["query"] % 3 > 0) | (table["llm"] > 0)).write_parquet(file)
    assert "answers that nobody has given are estimated" in judged(work, root, work)[UTILITY].words
