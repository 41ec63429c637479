"""The bench of new LLMs: known from the start is best, too many probes are refused, 90 % lies between probes."""

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, draw, replay_params, train_params

from bench.newcomers import lines_of, one_split, queries_needed
from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Split


def test_answers_of_all_queries_are_as_good_as_having_known_the_llms() -> None:
    outcomes, vectors, domain = draw(600, 0)
    labels = [DOMAINS[d] for d in domain]
    whole = Split(outcomes, vectors, labels, labels)
    rows = np.arange(500)
    split = one_split(whole, LLMS, rows, [10, 300], 0, train_params(), replay_params(), alone=True)
    assert split.known > split.without + 0.02
    assert split.added[1] == pytest.approx(split.known, abs=0.01)
    assert split.alone[1] == pytest.approx(split.known, abs=0.02)
    assert 0 < split.share <= 1
    with pytest.raises(InputError, match="--probes 5000 are more than the"):
        one_split(whole, LLMS, rows, [5000], 0, train_params(), replay_params())
    page = "\n".join(lines_of("world", 500, 4, [10, 300], [split, split]))
    assert "90 % is recovered from" in page
    assert "| 300 |" in page


def test_ninety_percent_lie_between_the_probes_that_were_tried() -> None:
    assert queries_needed([10, 20, 40], np.array([0.95, 0.92, 1.0])) == 10
    assert queries_needed([10, 20, 40], np.array([0.5, 0.8, 1.0])) == pytest.approx(30)
    assert queries_needed([10, 20, 40], np.array([0.95, 0.8, 1.0])) == pytest.approx(30)  # not before a fall below
    assert queries_needed([10, 20], np.array([0.5, 0.8])) == np.inf
