"""The bench of recommendations: what it asks, and that its check of filters notices a broken one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recommender_world import write_recommender

from bench import recommendations as bench
from symbiosis.gateway.recommending.body import RecommendationBody
from symbiosis.recommender.inference.candidates import Candidates
from symbiosis.recommender.inference.recommender import Recommender


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recommender(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("kind", bench.KINDS)
def test_every_kind_of_request_can_be_asked(folder: Path, kind: str) -> None:
    recommender = Recommender.open(folder)
    for body in bench.bodies(folder, kind, 5):
        answer = recommender.recommend(RecommendationBody.model_validate(body | {"text": None, "user": 0}).request())
        assert answer.method == "model"
    assert len({str(body) for body in bench.bodies(folder, kind, 20)}) > 2


def test_a_broken_filter_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = Recommender.open(folder)
    sound = bench.filters(recommender, 40)
    assert (sound["requests"], sound["wrong"]) == (40, 0)
    assert sound["items"] > 20
    monkeypatch.setattr(Candidates, "of", lambda self, *_: np.ones(len(self), dtype=bool))
    assert bench.filters(recommender, 40)["wrong"] > 20


def test_all_users_are_ranked_and_a_part_of_them(folder: Path) -> None:
    some, everyone = (bench.measure("all", folder, share=share) for share in (0.34, 1))
    found: dict[str, Any] = {name: (some[name], everyone[name]) for name in ("users", "rows")}
    assert found["users"] == (1, 3)
    assert found["rows"][1] > found["rows"][0] > 0
    assert 0 < everyone["before_mib"] < 1.01 * everyone["peak_mib"]  # the kernel counts the two a little apart


def test_a_quarter_of_the_users_names_none_twice_and_from_everywhere() -> None:
    some = bench.some_users(1000, 0.25)
    assert len(some) == len(set(some.tolist())) == 250
    assert min(some) < 100
    assert max(some) > 900
    assert bench.some_users(3, 1).tolist() == [0, 1, 2]


def test_the_page_names_the_size_of_the_data(folder: Path) -> None:
    assert bench.catalogue_size(folder).startswith("3 users, ")
