"""Rows published by others: only beside the same population and protocol, and marked as not run by us."""

import re

from symbiosis.recommender.evaluation.published import METRICS, published_rows, published_section
from symbiosis.recommender.metrics.metrics import HELD_OUT_SETS, NEXT_ITEM

BEAUTY = {"users": 22363, "items": 12101}


def test_rows_stand_beside_their_own_population_alone() -> None:
    assert published_rows(BEAUTY, NEXT_ITEM.metrics) is not None
    assert published_rows(BEAUTY, HELD_OUT_SETS.metrics) is None
    for other in ({"users": 22362}, {"items": 12100}):
        assert published_rows(BEAUTY | other, NEXT_ITEM.metrics) is None
    assert published_section(None) == []


def test_every_row_has_a_source_and_possible_values() -> None:
    found = published_rows(BEAUTY, NEXT_ITEM.metrics)
    assert found is not None
    assert "not run by us" in found["note"]
    assert len({row["method"] for row in found["rows"]}) == len(found["rows"])
    for row in found["rows"]:
        assert row["source"]
        values = {name: row[name] for name in METRICS if name in row}
        assert {"hr@10", "ndcg@10"} <= values.keys()
        for depth in ("5", "10"):  # a hit is worth a half at the sixth place and one at the first
            if f"hr@{depth}" in values:
                assert 0 < values[f"ndcg@{depth}"] < values[f"hr@{depth}"] < 1
        if "hr@5" in values:
            assert values["hr@5"] < values["hr@10"]
            assert values["ndcg@5"] < values["ndcg@10"]


def test_the_page_says_who_has_run_them() -> None:
    [section] = published_section(published_rows(BEAUTY, NEXT_ITEM.metrics))
    document = str(section)
    assert "NOT RUN BY US" in document
    values = [float(cells[3]) for row in re.findall(r"<tr.*?</tr>", document, re.S)[1:]
              if (cells := re.findall(r"<td[^>]*>\s*(.*?)\s*</td>", row, re.S)[-5:])]  # fmt: skip
    assert values == sorted(values, reverse=True)
