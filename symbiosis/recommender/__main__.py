"""Ask the trained recommender for items, by history alone or by a request too, and for a reason in words.

    python -m symbiosis.recommender recommend --user A03VWRTV7PEMO
    python -m symbiosis.recommender recommend --user 1 --request "garden gloves" --count 5
    python -m symbiosis.recommender explain --user 1 --item B0ODECU2DP --seed 3

It reads data/ and models/ as `make repro` leaves them and writes nothing. Users and items go by the original ids of
the data, or by number.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from symbiosis.core.errors import InputError
from symbiosis.core.telemetry import switch_telemetry_off


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    whole = argparse.ArgumentParser(
        prog="python -m symbiosis.recommender",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--user", required=True, help="original id or number")
    shared.add_argument("--data-folder", type=Path, default=Path(), help="holds data/ and models/ (default: .)")
    shared.add_argument("--json", action="store_true", help="one line of JSON")
    commands = whole.add_subparsers(dest="command", required=True)
    recommend = commands.add_parser("recommend", parents=[shared], help="the best items the user has not taken")
    recommend.add_argument("--count", type=int, default=10, help="items (10)")
    recommend.add_argument("--request", help="free text: rank for the user and these words")
    recommend.add_argument("--request-weight", type=float, help="of the words beside the user's history (10)")
    explain = commands.add_parser("explain", parents=[shared], help="why the user would purchase an item")
    explain.add_argument("--item", required=True, help="original id or number")
    explain.add_argument("--temperature", type=float, default=0.0, help="0: the most probable words; more: drawn (0)")
    explain.add_argument("--top-k", type=int, default=0, help="draw from so many candidates only (0: all)")
    explain.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    explain.add_argument("--maximum-words", type=int, default=60, help="longest reason (60)")
    return whole


def recommend(options: argparse.Namespace) -> str:
    """Return the table of the best items."""
    from symbiosis.recommender.inference.recommender import Recommender
    from symbiosis.recommender.inference.requests import WEIGHT

    weight = WEIGHT if options.request_weight is None else options.request_weight
    recommender = Recommender.open(options.data_folder)
    found = recommender.recommend(options.user, options.count, options.request, weight)
    rows = [
        {"rank": row.rank, "item": row.item, "item_id": row.item_id, "score": round(row.score, 3)}
        | ({} if row.similarity is None else {"similarity": round(row.similarity, 3)})
        | {"title": row.title}
        for row in found
    ]
    return json.dumps(rows, ensure_ascii=False) if options.json else table(rows)


def explain(options: argparse.Namespace) -> str:
    """Return the reason and what it is for."""
    from symbiosis.recommender.inference.reasons import Sampling
    from symbiosis.recommender.inference.recommender import Recommender

    sampling = Sampling(options.temperature, options.top_k, options.maximum_words, options.seed)
    explanation = Recommender.open(options.data_folder).explain(options.user, options.item, sampling)
    if options.json:
        return json.dumps(
            {"user": explanation.user, "item": explanation.item, "reason": explanation.reason}, ensure_ascii=False
        )
    return f"{explanation.title}\n{explanation.reason}"


def table(rows: list[dict[str, object]]) -> str:
    """Columns of text, their names above; numbers to the right."""
    if not rows:
        return "the user has taken every item"
    names = list(rows[0])
    cells = [names, *([f"{row[n]:.3f}" if isinstance(row[n], float) else str(row[n]) for n in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    right = [isinstance(rows[0][name], int | float) for name in names]
    aligned = [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in cells
    ]
    return "\n".join(aligned)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input ends in one line and status 1."""
    options = parser().parse_args(arguments)
    switch_telemetry_off()
    try:
        print({"recommend": recommend, "explain": explain}[options.command](options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
