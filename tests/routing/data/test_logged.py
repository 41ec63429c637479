"""Collected feedback: what is left out, encoded anew and kept back from training."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from routing_world import FORM, LLMS

from symbiosis.core.errors import InputError
from symbiosis.routing.data.logged import OUTCOMES, Known, Logged, collect
from symbiosis.routing.data.params import CollectFeedbackParams
from symbiosis.routing.data.readers.exports import EXPORT

ALL = CollectFeedbackParams(maximum_age_days=None, maximum_rows=None)
TEXTS = ["What is offline?", "What is online?", "What is a test?"]
DAY = 86_400.0


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def vector(number: int) -> list[float]:
    return np.eye(16)[number].tolist()


def encoded(texts: Sequence[str]) -> list[np.ndarray]:
    return [np.full(16, len(text)) for text in texts]


KNOWN = Known(
    LLMS.names,
    FORM.model_dump(),
    pl.DataFrame({"query_text": TEXTS, "split": ["offline", "online", "test"]}),
    np.array([vector(n) for n in range(3)], dtype=np.float32),
    encoded,
)


def row(number: int, **values: Any) -> dict[str, Any]:
    plain = {
        "store": "a" * 16, "lesson": number, "sequence": number, "decision": f"d-{number}", "at": number * DAY,
        "told_at": number * DAY, "source": "user", "mode": "apply", "policy": "auto", "router": "abc", "version": 1,
        "chosen": "bio-mid", "llm": "bio-mid", "propensity": 0.5, "quality": 0.25, "form": FORM.model_dump_json(),
        "vector": vector(5), "text_sha256": sha(f"text {number}"), "text": f"text {number}",
    }  # fmt: skip
    return plain | values


def collected(
    *rows: dict[str, Any], params: CollectFeedbackParams = ALL, known: Known = KNOWN
) -> tuple[pl.DataFrame, dict[str, Any]]:
    logged, counts = collect(pl.DataFrame(list(rows), schema=EXPORT), known, params)
    assert dict(logged.frame.schema) == OUTCOMES
    return logged.frame, counts


def test_nothing_exported_is_nothing_collected(tmp_path: Path) -> None:
    frame, counts = collected()
    assert frame.is_empty()
    assert counts["kept"] == 0
    for name in "ab":
        frame.write_parquet(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    logged = Logged.load(tmp_path / "a")
    assert (len(logged), logged.vectors.shape, logged.held_out(0.5).shape) == (0, (0, 0), (0,))


def test_duplicates_unknown_llms_and_other_vectors_are_left_out_and_counted() -> None:
    other = FORM.model_copy(update={"precision": "int8"}).model_dump_json()
    frame, counts = collected(
        row(1),
        row(2, decision="d-1"),
        row(3, llm="gone"),
        row(4, form=other),
        row(5, form=other, text=None),
        row(6, form="", text=None),
        row(7, form="", vector=[], mode="explicit", propensity=None, router=""),
        row(8, vector=[1.0, 2.0], text=None),
    )
    assert frame["decision"].to_list() == ["d-1", "d-4", "d-7"]
    assert frame["vector"].to_list() == [vector(5), [6.0] * 16, [6.0] * 16]
    assert counts["exported"] == 8
    assert (counts["duplicates"], counts["of_unknown_llms"]) == (1, 1)
    assert (counts["encoded_anew"], counts["of_other_vectors"], counts["kept"]) == (2, 3, 3)
    assert (counts["by_mode"], counts["with_propensity"]) == ({"apply": 2, "explicit": 1}, 2)


def test_old_feedback_is_left_out_counted_from_the_newest() -> None:
    rows = [row(1), row(5), row(9)]
    young = CollectFeedbackParams(maximum_age_days=4, maximum_rows=None)
    frame, counts = collected(*rows, params=young)
    assert frame["decision"].to_list() == ["d-5", "d-9"]
    assert counts["too_old"] == 1
    few = CollectFeedbackParams(maximum_age_days=None, maximum_rows=2)
    frame, counts = collected(row(9), row(1), row(5), params=few)
    assert frame["decision"].to_list() == ["d-9", "d-5"]
    assert counts["beyond_maximum_rows"] == 1


def test_a_query_of_the_table_is_found_by_its_text_its_hash_or_its_vector() -> None:
    frame, counts = collected(
        row(1, text=" what IS  a\ntest? ", text_sha256=sha("anything")),
        row(2, text=None, text_sha256=sha(TEXTS[2])),
        row(3, text=None, text_sha256="", vector=vector(2)),
        row(4, text=TEXTS[1]),
        row(5, text=TEXTS[0]),
        row(6),
        row(7, text=None),
        row(8, text="another", vector=vector(2)),  # the same to a router
    )
    assert frame["split"].to_list() == ["test", "test", "test", "online", "offline", None, None, "test"]
    assert counts["by_split"] == {"offline": 1, "online": 1, "test": 4}
    # Whichever way a query is told, it is the same query.
    assert frame["query"][0] == frame["query"][1] == sha("what is a test?")
    assert frame["query"][6] == sha("text 7")
    assert Logged(frame).held_out(0.0).tolist() == [True, True, True, True, False, False, False, True]


def test_a_text_that_one_row_holds_names_the_query_of_another() -> None:
    frame, _ = collected(row(1, text="Why?", text_sha256=sha("Why?")), row(2, text=None, text_sha256=sha("Why?")))
    assert frame["query"].to_list() == [sha("why?")] * 2


def test_a_share_of_the_queries_is_held_out_for_good() -> None:
    many = [row(n, text=f"query {n // 2}") for n in range(2000)]
    logged = Logged(collected(*many)[0])
    held = logged.held_out(0.2)
    assert held.mean() == pytest.approx(0.2, abs=0.03)
    np.testing.assert_array_equal(held[::2], held[1::2])  # all answers to a query together
    np.testing.assert_array_equal(Logged(collected(*many[500:700])[0]).held_out(0.2), held[500:700])
    assert (held <= logged.held_out(0.3)).all()
    assert not logged.held_out(0.0).any()


def test_binary_feedback_stands_for_a_quality() -> None:
    frame, counts = collected(row(1), row(2, quality=None, satisfied=True), row(3, quality=None, satisfied=False))
    assert Logged(frame).quality(0.875, 0.125).tolist() == [0.25, 0.875, 0.125]
    assert counts["binary"] == 2


def test_outcomes_of_another_version_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"query": ["a"]}).write_parquet(tmp_path / "outcomes.parquet")
    with pytest.raises(InputError, match="collect-feedback"):
        Logged.load(tmp_path / "outcomes.parquet")
