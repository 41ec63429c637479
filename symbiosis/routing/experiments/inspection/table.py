"""One look at a table: what was read, what is missing, what can be learned, and the params that it asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import polars as pl

from symbiosis.core.errors import InputError
from symbiosis.core.rounding import rounded
from symbiosis.routing.data import gaps, layouts, sources, table
from symbiosis.routing.experiments.inspection.alike import alike
from symbiosis.routing.experiments.inspection.learnable import Gain, gain_of, noise_of

POWER = 1.96 + 0.84  # normal quantiles: 5 % two-sided, 80 % power
COME_AGAIN = 0.3  # share of queries whose text others have, from which that is how the data are
WORTH_MORE = 0.05  # lead over the best single LLM, as a share of its quality, from which a router aims above it


def inspect(path: Path, seed: int = 0) -> dict[str, Any]:
    """Read a table and tell what is in it.

    Parameters
    ----------
    path
        A file or folder of any layout, see `symbiosis.routing.data.layouts`.
    seed
        Of folds and bootstrap.

    Returns
    -------
    dict
        For JSON: ``read``, ``missing``, ``lacks`` (what forbids to learn from it, or null), and, if nothing does,
        ``parts`` (that no LLM links; the rest is about the first of them), ``noise``, ``llms``, ``alike``, ``gain``
        (of the LLMs that have a cost, where any has) and ``params``.

    Raises
    ------
    InputError
        The table cannot be read, or holds no two LLMs with qualities.
    """
    reading = layouts.read_all(sources.located(path))
    lacks = layouts.lacks(reading) if reading.layout in layouts.LOGS else None
    frame = None if reading.frame.is_empty() else table.typed(reading.frame, path)
    read: dict[str, Any] = {"layout": reading.layout, "what": layouts.TITLES[reading.layout]}
    if lacks is not None or frame is None:
        if frame is not None:
            read |= {"rows": frame.height, "llms": frame["llm"].n_unique()}
        return {"read": read, "missing": reading.left_out, "lacks": lacks or "it is empty"}
    marks = frame["quality"].drop_nulls()
    low, high = (float(marks.min()), float(marks.max())) if len(marks) else (0.0, 1.0)  # type: ignore[arg-type]
    outside = low < 0 or high > 1
    if outside and high > low:
        frame = frame.with_columns((pl.col("quality") - low) / (high - low))
    parts = parts_of(gaps.labelled(frame))
    whole = frame
    if len(parts) > 1:
        frame = frame.filter(pl.col("domain").fill_null(gaps.UNLABELLED).is_in(parts[0]["domains"]))
    known = gaps.labelled(frame.filter(pl.col("quality").is_not_null(), pl.col("query_text").is_not_null()))
    once = gaps.averaged(known)
    if once["llm"].n_unique() < 2:
        raise InputError(
            f"{path}: routing needs at least two LLMs with qualities: give more than {once['llm'].n_unique()}"
        )
    missing: dict[str, Any] = gaps.gaps_of(frame, once) | reading.left_out
    mute = sorted(set(frame["llm"].drop_nulls()) - set(once["llm"]))
    unpriced = gaps.unpriced(once, {})
    missing |= {"llms_without_quality": mute} if mute else {}
    missing |= {"llms_without_cost_or_price": unpriced} if unpriced else {}
    priced = ~pl.col("llm").is_in(unpriced)
    gain, noise = gain_of(once.filter(priced), known.filter(priced), seed), noise_of(known)
    queries = once["query_id"].n_unique()
    read |= {
        "rows": whole.height,
        "queries": queries,
        "llms": once["llm"].n_unique(),
        "domains": once["domain"].n_unique(),
        "quality": "right or wrong" if set(marks.unique()) <= {low, high} else "graded",
        "marks": [low, high],
        "texts_repeated": rounded(_repeated(once)),
    }
    return {
        "read": read,
        "parts": parts if len(parts) > 1 else [],
        "missing": missing | {"share_answered": rounded(once.height / (queries * once["llm"].n_unique()))},
        "lacks": None,
        "noise": None if noise is None else {name: _short(value) for name, value in noise.items()},
        "llms": _llms(once),
        "alike": alike(once),
        "gain": {name: _short(value) for name, value in vars(gain).items()},
        "params": _suggested(
            path,
            parts[0]["domains"] if len(parts) > 1 else [],
            (low, high) if outside else None,
            mute,
            _repeated(once),
            gain,
        ),
    }


def parts_of(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Find the parts of a table that have no LLM in common: each is a routing problem of its own.

    Returns
    -------
    list of dict
        ``domains``, ``llms``, ``queries``; the one with most queries first.
    """
    graph = nx.Graph()
    for llm, domain in frame.select("llm", "domain").drop_nulls().unique().iter_rows():
        graph.add_edge(("llm", llm), ("domain", domain))
    found = []
    for group in nx.connected_components(graph):
        domains = sorted(name for kind, name in group if kind == "domain")
        queries = frame.filter(pl.col("domain").is_in(domains))["query_id"].n_unique()
        found.append({"domains": domains, "llms": sum(kind == "llm" for kind, _ in group), "queries": queries})
    return sorted(found, key=lambda part: (-int(str(part["queries"])), str(part["domains"])))


def configuration(params: Mapping[str, Any], path: Path, data: Path | None) -> dict[str, Any]:
    """Return a file of configs/ that runs the router's stages on a table, for ``make repro CONFIG=NAME``.

    Parameters
    ----------
    params
        As `inspect` suggests them.
    path
        Of the table.
    data
        The folder that SYMBIOSIS_DATA_DIR names: a table below it is linked, any other is named by its whole path.
    """
    place, links = str(path.resolve()), {}
    if data is not None and path.resolve().is_relative_to(data.resolve()):
        below = path.resolve().relative_to(data.resolve())
        place = f"data/local/{below.name}"
        links = {place: below.as_posix()}
    changed = dict(params) | {"download_routing": dict(params["download_routing"]) | {"path": place}}
    return {"base": "routing_tables", "data": links, "params": changed}


def _llms(once: pl.DataFrame) -> list[dict[str, Any]]:
    """Answers, quality and cost of each LLM, and how many answers tell it from the best one."""
    rows = (
        once.group_by("llm")
        .agg(
            pl.len().alias("answers"),
            pl.col("quality").mean(),
            pl.col("quality").var().fill_null(0.0).alias("variance"),
            pl.col("cost_usd").mean(),
        )
        .sort("quality", "llm", descending=[True, False])
        .to_dicts()
    )
    best = rows[0]
    for row in rows:
        apart = best["quality"] - row["quality"]
        spread = best["variance"] + row.pop("variance") if row is not best else 0.0
        row["answers_needed"] = int(np.ceil(POWER**2 * spread / apart**2)) if apart > 0 else None
        row["quality"] = rounded(row["quality"])
        row["cost_usd"] = None if row["cost_usd"] is None else rounded(row["cost_usd"])
    best.pop("variance")
    return rows


def _repeated(once: pl.DataFrame) -> float:
    """Share of the queries whose text an earlier one has."""
    queries = once.select("query_id", "query_text").unique()
    return 1 - queries["query_text"].n_unique() / queries.height


def _suggested(
    path: Path,
    domains: list[str],
    marks: tuple[float, float] | None,
    mute: list[str],
    repeated: float,
    gain: Gain,
) -> dict[str, Any]:
    """Return the blocks of params.yaml that the table asks for; all else is chosen in training."""
    clean: dict[str, Any] = {"domains": domains} if domains else {}
    if marks is not None:
        clean["quality"] = {"worst": marks[0], "best": marks[1], "words": {}}
    if mute:
        clean["exclude_llms"] = mute
    compare: dict[str, Any] = {"equal_texts": "apart"} if repeated >= COME_AGAIN else {}
    study = dict(compare)
    if gain.low >= WORTH_MORE * gain.best_single > 0:
        compare["quality_share"] = round(0.99 * gain.chosen / gain.best_single, 3)
    blocks = {"clean_routing": clean, "compare_routers": compare, "study_feedback": study}
    return {
        "download_routing": {"source": "table", "path": str(path)},
        **{name: block for name, block in blocks.items() if block},
    }


def _short(value: Any) -> Any:
    return rounded(value) if isinstance(value, float) else value
