"""The bench of new LLMs: known from the start is best, and too many probes are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, draw, train_params

from bench.newcomers import one_split
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.routing.data.outcomes import Split

ROOT = Path(__file__).resolve().parents[2]


def test_answers_of_all_queries_are_as_good_as_having_known_the_llms() -> None:
    outcomes, vectors, domain = draw(600, 0)
    labels = [DOMAINS[d] for d in domain]
    whole = Split(outcomes, vectors, labels, labels)
    document: dict[str, Any] = read_document(ROOT / "params.yaml")
    document |= {"router_train": train_params().model_dump(mode="json")}
    rows = np.arange(500)
    without, known, added, alone = one_split(whole, LLMS, rows, [10, 300], 0, document)
    assert known > without + 0.02
    assert added[1] == pytest.approx(known, abs=0.01)
    assert alone[1] == pytest.approx(known, abs=0.02)
    with pytest.raises(InputError, match="--probes 5000 are more than the"):
        one_split(whole, LLMS, rows, [5000], 0, document)
