"""Settings that training wrote: the right values, and one line on what is no setting."""

import json
from pathlib import Path
from typing import Any

import pytest

from symbiosis.core.errors import InputError
from symbiosis.recommender.inference.settings import TrainingSettings

WHOLE: dict[str, Any] = {"bias": "ones", "graph_term": True, "maximum_items": 8, "seed": 5, "mean_rating": None, "x": 1}


def load(folder: Path, told: Any) -> TrainingSettings:
    (folder / "training.json").write_text(json.dumps(told))
    return TrainingSettings.load(folder, "seed", "maximum_items", stage="finetune")


def test_they_are_what_the_file_says(tmp_path: Path) -> None:
    settings = load(tmp_path, WHOLE)
    assert (settings.bias, settings.graph_term, settings.maximum_items, settings.seed) == ("ones", True, 8, 5)
    assert settings.mean_rating is None
    assert settings.content_epochs is None


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({key: value for key, value in WHOLE.items() if key != "seed"}, "`seed` is missing"),
        (WHOLE | {"seed": "5"}, "`seed`: Input should be a valid integer"),
        (WHOLE | {"maximum_items": 0}, "`maximum_items`: .* greater than or equal to 1"),
        (WHOLE | {"bias": "two"}, "`bias`: Input should be 'none', 'ones', 'paper' or 'learned'"),
        ([], "Input should be"),
    ],
)
def test_what_is_none_is_named(tmp_path: Path, told: Any, fault: str) -> None:
    with pytest.raises(InputError, match=rf"training.json is damaged \(.*{fault}.*\): run `dvc repro finetune`"):
        load(tmp_path, told)
