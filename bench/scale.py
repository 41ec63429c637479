"""Time and peak memory of the recommender's stages by the number of interactions, each run by its own command.

    python -m bench.scale                                  # 10^4 to 10^6 interactions
    python -m bench.scale --sizes 8345140 --stages clean build_graph
    python -m bench.scale --page reports/scale.html        # only draw what was measured

Every size has a scratch folder below ``--folder`` with raw reviews (`bench.scale_source`), a copy of the code and the
params of this workspace. A stage that was measured is not run again, unless with ``--again``; so a run that was stopped
goes on where it was. Measured are the processor time of the process, which other work on the machine hardly changes,
and its largest resident memory. The exponent of a stage is the slope of the logarithms over the sizes from `LEAST`
interactions on, after what the smallest size takes, which is imports, was taken off.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.scale_source import sizes
from symbiosis.core.artifacts import read_json, staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.layout import RAW_REVIEWS
from symbiosis.reporting import page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
STAGES = ("clean", "build_graph", "corpus", "embed_items", "propagation")
SIZES = (10_000, 100_000, 300_000, 1_000_000)
LEAST = 100_000
"""Interactions from which on a size counts for the exponent."""
Row = dict[str, Any]


def prepare(folder: Path, interactions: int) -> None:
    """Make the scratch folder of a size: raw reviews, code and params."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("symbiosis", "stages"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", folder)
    raw = folder / RAW_REVIEWS
    if not raw.exists():
        with staged(raw) as (made,):
            # In a process of its own: what it holds would count as the peak memory of the stages that this one starts.
            subprocess.run(
                [sys.executable, "-m", "bench.scale_source", str(interactions), str(made)], cwd=ROOT, check=True
            )


def measured(folder: Path, stage: str) -> Row:
    """Run a stage in its scratch folder.

    Returns
    -------
    dict
        ``cpu_s``, ``wall_s``, ``peak_mib``.

    Raises
    ------
    InputError
        The stage failed; the end of what it printed is in the message.
    """
    log = folder / f"{stage}.log"
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"stages.{stage}"], cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"stages.{stage} in {folder} failed: {log.read_text(encoding='utf-8')[-300:]}")
    return {
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "wall_s": round(time.monotonic() - began, 1),
        "peak_mib": usage.ru_maxrss >> 10,
    }


def exponents(rows: Sequence[Row], value: str) -> dict[str, float]:
    """Fit the slope of log(value - value at the smallest size) over log(interactions), sizes from `LEAST` on.

    Stages with fewer than two such sizes have none.

    Examples
    --------
    >>> rows = [{"stage": "clean", "interactions": n, "cpu_s": 5 + n / 1000} for n in (1, 10**5, 10**6)]
    >>> exponents(rows, "cpu_s")
    {'clean': 1.0}
    """
    found = {}
    for stage in dict.fromkeys(row["stage"] for row in rows):
        start, *others = sorted((row["interactions"], row[value]) for row in rows if row["stage"] == stage)
        points = [(n, number - start[1]) for n, number in others if n >= LEAST and number > start[1]]
        if len(points) > 1:
            x, y = np.log(np.array(points, dtype=float)).T
            found[stage] = round(float(np.polyfit(x, y, 1)[0]), 2)
    return found


def render(rows: Sequence[Row]) -> str:
    """Return the page: a drawing, the exponents and all measurements."""
    time_of, memory_of = exponents(rows, "cpu_s"), exponents(rows, "peak_mib")
    slopes = [
        (stage, *(f"{found[stage]:.2f}" if stage in found else "" for found in (time_of, memory_of)))
        for stage in dict.fromkeys(row["stage"] for row in rows)
    ]
    numbers = [
        (row["stage"], f"{row['interactions']:,}", f"{row['cpu_s']:,.1f}", f"{row['peak_mib']:,}") for row in rows
    ]
    body = [
        page.Figure.of(_drawing(rows), "processor time and peak memory by interactions"),
        page.Section("Exponents", [page.Table(("stage", "processor time", "peak memory"), slopes)]),
        page.Section("Measurements", [page.Table(("stage", "interactions", "processor s", "peak MiB"), numbers)]),
    ]
    return page.render("Scale", "Synthetic reviews, users and items in proportion; one process, one thread.", body)


def _drawing(rows: Sequence[Row]) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for axis, value, label in zip(axes, ("cpu_s", "peak_mib"), ("processor time, s", "peak memory, MiB"), strict=True):
        for stage in dict.fromkeys(row["stage"] for row in rows):
            points = sorted((row["interactions"], row[value]) for row in rows if row["stage"] == stage)
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=stage)
        axis.set(xscale="log", yscale="log", xlabel="interactions", ylabel=label)
        axis.grid(color="0.9", linewidth=0.6)
    axes[0].legend(fontsize=8)
    return drawing


def main() -> None:
    """Measure what is missing, size by size, and write the results after every stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="interactions (default: %(default)s)")
    parser.add_argument("--stages", nargs="+", default=STAGES, help="in their order (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("data/local/scale"), help="scratch (default: %(default)s)")
    parser.add_argument("--report", type=Path, default=Path("reports/scale.json"), help="(default: %(default)s)")
    parser.add_argument("--page", type=Path, help="write this page of all that was measured, and run nothing")
    parser.add_argument("--again", action="store_true", help="run stages again that were measured")
    given = parser.parse_args()
    rows: list[Row] = read_json(given.report)["rows"] if given.report.exists() else []
    if given.page:
        with staged(given.page) as (made,):
            made.write_text(render(rows), encoding="utf-8")
        return
    for interactions in sorted(given.sizes):
        folder = given.folder / str(interactions)
        users, items = sizes(interactions)
        for stage in given.stages:
            known = [row for row in rows if (row["interactions"], row["stage"]) == (interactions, stage)]
            if known and not given.again:
                continue
            prepare(folder, interactions)
            row = {"stage": stage, "interactions": interactions, "users": users, "items": items}
            row |= measured(folder, stage)
            rows = sorted(
                [*(row for row in rows if row not in known), row],
                key=lambda row: (row["stage"], row["interactions"]),
            )
            print(json.dumps(row), flush=True)
            found = {name: exponents(rows, name) for name in ("cpu_s", "peak_mib")}
            with staged(given.report) as (made,):
                write_json(made, {"exponents": found, "rows": rows})


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
