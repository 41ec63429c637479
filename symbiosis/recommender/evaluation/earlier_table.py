"""Rows of an earlier table beside those of new runs: the whole takes hours, so a few variants may be run alone.

A row that is kept stays what it was: it was compared with the full model of its own commit, which the table names.
"""

from pathlib import Path
from typing import Any

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError

_OF_VARIANTS = ("variants", "loss", "variant seeds", "seconds", "commits")
_OF_DATA = ("data", "split")

Summary = dict[str, dict[str, Any]]


def read_earlier(file: Path) -> Summary:
    """Read a table that `symbiosis.recommender.evaluation.table` wrote.

    Raises
    ------
    InputError
        There is none, or it has another form.
    """
    earlier = read_json(file)
    for name, part in earlier.items():
        if missing := [key for key in (*_OF_VARIANTS, *_OF_DATA) if key not in part]:
            raise InputError(f"{file}: `{name}` lacks `{missing[0]}`: this is no table, or one of another version")
    return earlier


def keep_earlier(earlier: Summary, new: Summary) -> Summary:
    """Return the earlier table with the rows of new runs in the place of its own.

    Parameters
    ----------
    earlier, new
        As `symbiosis.recommender.evaluation.table.summarise` returns them.

    Returns
    -------
    dict
        All data sets of both. Where both have one, the new variants replace or join the earlier ones; the methods are
        the new ones only if none of the earlier baselines is missing among them, for their gains belong together.

    Raises
    ------
    InputError
        A data set was split or cleaned in another way.
    """
    merged = earlier | {name: part for name, part in new.items() if name not in earlier}
    for name in earlier.keys() & new.keys():
        old, fresh = earlier[name], new[name]
        if any(old[key] != fresh[key] for key in _OF_DATA):
            raise InputError(f"{name} is not the data of the earlier table: {fresh['data']} against {old['data']}")
        complete = old["methods"].keys() <= fresh["methods"].keys()
        base = fresh if complete else old
        # What belongs to the full model comes from the same table as its methods.
        full = {key: {"full": base[key]["full"]} for key in ("seconds", "commits")}
        rows = {key: old[key] | fresh[key] | full.get(key, {}) for key in _OF_VARIANTS}
        # Earlier versions had neither.
        rows |= {key: old.get(key, {}) | fresh[key] for key in ("marked", "over seeds")}
        rows["over seeds"] |= base.get("over seeds", {})
        leaking = {*fresh["invalid"], *(set(old["invalid"]) - fresh["variants"].keys())}
        merged[name] = base | rows | {"invalid": sorted(leaking)}
    return dict(sorted(merged.items()))
