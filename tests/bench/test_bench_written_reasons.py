"""The bench of written reasons: what a language model wrote is kept, and an interrupted run goes on."""

from pathlib import Path
from typing import Any

import pytest

from bench import written_reasons
from bench.written_reasons import SMOLLM2, measure, report
from symbiosis.recommender.inference.fact_writer import FactWriter, Known, Rule


def test_a_run_goes_on_where_the_last_one_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recommender_world import items_table

    items = items_table()
    known = [Known(n, items["title"][n], None, f"popular: bought by {n + 1}") for n in range(4)]
    asked: list[str] = []

    class Writes:
        def write(self, part: list[Known]) -> list[str]:
            asked.extend(one.title for one in part)
            return [f"The {one.title} is popular, bought by {one.item + 1}." for one in part[:1]] + ["No."] * (
                len(part) - 1
            )

    monkeypatch.setattr(FactWriter, "load", Writes)
    monkeypatch.setattr(written_reasons, "AT_ONCE", 2)
    monkeypatch.setattr(written_reasons, "pairs_of", lambda *_: ([(0, n) for n in range(4)], known, Rule(items)))
    with pytest.raises(SystemExit, match="lacks 2 reasons: run again"):
        measure(tmp_path, 4, tmp_path / "kept.json", 2)
    measured: dict[str, Any] = measure(tmp_path, 4, tmp_path / "kept.json", 2)
    assert asked == [one.title for one in known]
    sound = {way: row["sound"]["mean"] for way, row in measured["ways"].items()}
    assert sound == {"facts": 1, SMOLLM2: 0.5, f"{SMOLLM2}, checked": 1}
    assert "The scratch model writes nothing" in measured["note"]  # the folder has none
    assert len(report(measured)) == 4 + 3
