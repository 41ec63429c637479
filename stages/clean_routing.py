"""Validate the routing table and split its queries.  Run it:  python -m stages.clean_routing"""

import sys
from pathlib import Path

from symbiosis.core.artifacts import staged, write_json
from symbiosis.core.stage import run
from symbiosis.reporting.quality import require
from symbiosis.routing.data import gaps
from symbiosis.routing.data.cleaning import clean, read
from symbiosis.routing.data.params import CleanRoutingParams
from symbiosis.routing.data.selection import choose, complete, first_of_each_text
from symbiosis.routing.data.suites import check

ROUTING = Path("data/routing")
QUALITY = Path("reports/data_quality")


def work(params: CleanRoutingParams) -> None:
    """Write the queries, the LLMs, the outcomes of each split in a file of its own, and the data quality report."""
    table, path = read(Path("data/raw/routing"), params.quality)
    frame = gaps.averaged(gaps.labelled(table))
    frame = choose(frame, path, domains=params.domains, llms=params.llms, exclude_llms=params.exclude_llms)
    unpriced = gaps.unpriced(frame, params.prices) if params.missing_costs == "estimate" else []
    if unpriced:
        print(f"note: {left_out(unpriced)}", file=sys.stderr)
        frame = choose(frame, path, exclude_llms=unpriced)
    whole = complete(frame, path, params.incomplete_queries, params.missing_costs)
    if params.repeated_texts == "drop":
        whole = first_of_each_text(whole)
    if params.missing_tokens == "label":
        whole = gaps.with_label_tokens(whole)
    summary, html = require("Routing table", check(whole, params), QUALITY / "routing.failed.html")
    summary["queries_dropped"] = frame["query_id"].n_unique() - whole["query_id"].n_unique()
    summary |= gaps.gaps_of(table, whole)
    if unpriced:
        summary["llms_without_cost_or_price"] = unpriced
    cleaned = clean(whole, path, params)
    targets = [ROUTING / f"{name}.parquet" for name in cleaned]
    with staged(*targets, QUALITY / "routing.json", QUALITY / "routing.html") as (*files, json_file, html_file):
        for file, part in zip(files, cleaned.values(), strict=True):
            part.write_parquet(file, compression="zstd")
        write_json(json_file, summary)
        html_file.write_text(html, encoding="utf-8")


def left_out(unpriced: list[str]) -> str:
    """Say which LLMs are left out, and what to do to keep them."""
    return (
        f"{len(unpriced)} LLMs have neither costs nor a price, but others do: left out are {', '.join(unpriced)}; "
        "give `clean_routing.prices` to keep them"
    )


if __name__ == "__main__":
    run("clean_routing", CleanRoutingParams, work)
