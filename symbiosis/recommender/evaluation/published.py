"""Rows that others have published for the same population and protocol; not run by us."""

from collections.abc import Mapping
from typing import Any

from symbiosis.recommender.metrics.metrics import protocol_with
from symbiosis.reporting.names import metric
from symbiosis.reporting.page import Block, Section, Table, Text

METRICS = ("hr@5", "ndcg@5", "hr@10", "ndcg@10")

_S3REC = "all-rank table of S3-Rec's authors (GitHub: aHuiWang/CIKM2020-S3Rec)"
_TIGER = "Rajput et al. 2023, Recommender systems with generative retrieval (TIGER), table 1"
_GENREC = "GitHub: phonism/genrec, README"
_SECOND_HAND = "second-hand"
_BEAUTY = (
    ("PopRec", 0.0080, 0.0044, 0.0152, 0.0068, _S3REC),
    ("GRU4Rec", 0.0164, 0.0099, 0.0283, 0.0137, _S3REC),
    ("BERT4Rec", 0.0203, 0.0124, 0.0347, 0.0170, _S3REC),
    ("Caser", 0.0205, 0.0131, 0.0347, 0.0176, _S3REC),
    ("FDSA", 0.0267, 0.0163, 0.0407, 0.0208, _S3REC),
    ("HGN", 0.0325, 0.0206, 0.0512, 0.0266, _S3REC),
    ("SASRec", 0.0387, 0.0249, 0.0605, 0.0318, _S3REC),
    ("S3-Rec", 0.0387, 0.0244, 0.0647, 0.0327, _S3REC),
    ("P5", 0.0163, 0.0107, 0.0254, 0.0136, _TIGER),
    ("TIGER", 0.0454, 0.0321, 0.0648, 0.0384, _TIGER),
    ("TIGER, re-run", 0.0465, 0.0297, 0.0721, 0.0378, _GENREC),
    ("SASRec, re-run", 0.0469, 0.0305, 0.0688, 0.0375, _GENREC),
    ("HSTU", 0.0486, 0.0340, 0.0708, 0.0412, _GENREC),
    ("LC-Rec", 0.0525, 0.0352, 0.0791, 0.0438, _GENREC),
    ("ActionPiece", 0.0511, 0.0340, 0.0775, 0.0424, _SECOND_HAND),
    ("EAGER-LLM", 0.0548, 0.0369, 0.0830, 0.0459, _SECOND_HAND),
    ("SASRec, cross-entropy", 0.0601, 0.0420, 0.0859, 0.0503, "a practitioner's run, ties shuffled, three seeds"),
    ("BARGE", None, None, 0.0927, 0.0547, _SECOND_HAND),
)
_POPULATIONS = {(22363, 12101): ("Amazon Beauty 2014, 5-core, last item held out, all items ranked", _BEAUTY)}


def published_rows(data: Mapping[str, int], metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what others have published for the same users and items, each user's last item being the test.

    Parameters
    ----------
    data
        Numbers of ``users`` and ``items``.
    metrics
        Of a method on this split, by name: those of another protocol have no published rows.

    Returns
    -------
    dict or None
        ``data`` and ``note`` in words, and in ``rows`` of every ``method`` its ``source`` and those of `METRICS` that
        are published. None if nothing is known for this population.

    Examples
    --------
    >>> found = published_rows({"users": 22363, "items": 12101}, dict.fromkeys([*METRICS, "mrr"]))
    >>> [row["ndcg@10"] for row in found["rows"] if row["method"] == "TIGER"]
    [0.0384]
    >>> published_rows({"users": 22364, "items": 12101}, dict.fromkeys([*METRICS, "mrr"])) is None
    True
    """
    found = _POPULATIONS.get((data["users"], data["items"]))
    if found is None or not set(METRICS).issubset(protocol_with(metrics).metrics):
        return None
    name, table = found
    rows = []
    for method, *values, source in table:
        known = {column: value for column, value in zip(METRICS, values, strict=True) if value is not None}
        rows.append({"method": method, **known, "source": source})
    return {"data": name, "note": "published by others, not run by us", "rows": rows}


def published_section(published: Mapping[str, Any] | None, heading: str = "Published by others") -> list[Block]:
    """Return the block of a page with these rows, the best first; none without any."""
    if not published:
        return []
    ordered = sorted(published["rows"], key=lambda row: -row["ndcg@10"])
    rows = [
        [row["method"], *(f"{row[name]:.4f}" if name in row else "" for name in METRICS), row["source"]]
        for row in ordered
    ]
    note = (
        f"{published['data']}. NOT RUN BY US: figures as their sources give them, without intervals. Second-hand ones "
        "were read in another paper than the method's own. Settings, tuning and the order of items of one day differ."
    )
    return [Section(heading, [Table(["Method", *map(metric, METRICS), "Source"], rows), Text(note)])]
