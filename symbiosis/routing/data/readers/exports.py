"""Frozen exports of the store of decisions: what is in the files, and how they are read.

`symbiosis.routing.serving.exporting` writes them.
"""

import re
from pathlib import Path

import polars as pl

from symbiosis.core import parquet_files
from symbiosis.core.errors import InputError, quoted

EXPORT: dict[str, pl.DataType] = {
    "store": pl.String(),
    "lesson": pl.Int64(),
    "sequence": pl.Int64(),
    "decision": pl.String(),
    "at": pl.Float64(),
    "told_at": pl.Float64(),
    "source": pl.String(),
    "mode": pl.String(),
    "policy": pl.String(),
    "router": pl.String(),
    "version": pl.Int64(),
    "chosen": pl.String(),
    "llm": pl.String(),
    "propensity": pl.Float64(),
    "quality": pl.Float64(),
    "satisfied": pl.Boolean(),
    "response_tokens": pl.Float64(),
    "prompt_tokens": pl.Float64(),
    "cost_usd": pl.Float64(),
    "expected_quality": pl.Float64(),
    "expected_prompt_tokens": pl.Float64(),
    "expected_cost_usd": pl.Float64(),
    "form": pl.String(),
    "vector": pl.List(pl.Float32()),
    "text_sha256": pl.String(),
    "text": pl.String(),
}
"""Columns of an export, one row per decision with feedback:

- ``store``, ``lesson``: the store's key, and the feedback's number there, 1, 2, 3, ... in order of arrival
- ``sequence``, ``decision``, ``at``: place, id and time (seconds since the epoch) of the decision
- ``told_at``, ``source``: when the feedback came, and from whom
- ``mode``, ``policy``, ``router``, ``version``: see `symbiosis.routing.serving.records.DecisionEntry`
- ``chosen``, ``llm``: the LLM that was decided for, and the one that answered, which all that follows is about
- ``propensity``: with which a router chose it; null where it was not asked because a router chose it
- ``quality``, ``satisfied``: what was told, one of the two
- ``response_tokens``, ``prompt_tokens``, ``cost_usd``: of the answer where they are known
- ``expected_...``: what the router expected of it; 0 where none decided
- ``form``, ``vector``: of the query, the form being a `symbiosis.routing.queries.vector_form.VectorForm` as JSON, empty
  where it is not known; no numbers where no router decided
- ``text_sha256``, ``text``: of the query, the text where it may be kept
"""

REQUIRED = tuple(name for name in ("store", "lesson", "decision", "at", "mode", "llm", "vector", "text_sha256"))
"""Columns without nulls."""
_NAME = re.compile(r"decisions-([0-9a-f]{16})-(\d+)-(\d+)\.parquet")


def name_of(store: str, first: int, last: int) -> str:
    """Return the name of the file with the lessons of a store from the first to the last number."""
    return f"decisions-{store}-{first:010}-{last:010}.parquet"


def highest(folder: Path, store: str) -> int:
    """Return the highest number of a store's lessons that its exports in a folder hold; 0 without any."""
    names = (_NAME.fullmatch(file.name) for file in folder.glob("decisions-*.parquet"))
    return max((int(found[3]) for found in names if found and found[1] == store), default=0)


def read(folder: Path) -> pl.DataFrame:
    """Read all exports of a folder, by store and lesson; files of other names than ``*.parquet`` are none.

    Returns
    -------
    polars.DataFrame
        The columns of `EXPORT`; no rows where there is no folder or no export.

    Raises
    ------
    InputError
        A file is damaged or is no export.
    """
    if not folder.is_dir():
        return pl.DataFrame(schema=EXPORT)
    # A file that another process is writing lies in a folder whose name begins with a dot.
    parts = [_read(path) for path in sorted(folder.glob("*.parquet")) if not path.name.startswith(".")]
    return pl.concat([pl.DataFrame(schema=EXPORT), *parts]).sort("store", "lesson", maintain_order=True)


def _read(path: Path) -> pl.DataFrame:
    remedy = f"restore {path.name} from a copy, or move it out of {path.parent}"
    try:
        frame = parquet_files.read(path)
    except parquet_files.UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is damaged ({reason}): {remedy}") from None
    for name, kind in EXPORT.items():
        if name not in frame.columns:
            raise InputError(f"{path} is no export of decisions (it has no column {name}): {remedy}")
        if frame.schema[name] not in (kind, pl.Null()):
            raise InputError(f"{path}: column {name} holds {frame.schema[name]}, not {kind}: {remedy}")
    frame = frame.select(pl.col(name).cast(kind) for name, kind in EXPORT.items())
    whole = pl.any_horizontal(pl.col("quality", "satisfied").is_not_null())
    drawn = pl.col("propensity").is_between(0, 1, closed="right")
    finite = pl.col("vector").list.eval(pl.element().is_finite()).list.all()
    amounts = ("response_tokens", "prompt_tokens", "cost_usd")
    checks = {
        **{f"{name} is missing": pl.col(name).is_not_null() for name in REQUIRED},
        "it has neither quality nor satisfied": whole,
        "quality is outside 0..1": pl.col("quality").is_between(0, 1).fill_null(True),
        "propensity is outside 0..1": drawn.fill_null(True),
        "the vector holds a value that is not finite": finite,
        **{
            f"{name} is negative or not finite": (pl.col(name).is_finite() & (pl.col(name) >= 0)).fill_null(True)
            for name in amounts
        },
    }
    for fault, sound in checks.items():
        bad = frame.filter(~sound.fill_null(False))
        if bad.height:
            decision = quoted(bad["decision"][0])
            raise InputError(f"{path}, decision {decision}: {fault} ({bad.height} such rows): {remedy}")
    return frame
