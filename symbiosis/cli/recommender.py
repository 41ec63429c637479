"""Sub-commands of the recommender: items for a user, and a reason in words."""

from pathlib import Path
from typing import Annotated

import typer

from symbiosis.cli.output import JSON, note, say, table

User = Annotated[str, typer.Option("--user", metavar="ID", help="Original id or number.")]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data-folder",
        metavar="FOLDER",
        help="Holds data/ and models/ [default: the champion, models/recommender, or this folder].",
    ),
]


def recommend(
    user: User,
    request: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Rank for the user and these words, instead of history alone.")
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="How many items.")] = 10,
    request_weight: Annotated[
        float | None, typer.Option(metavar="W", help="Weight of the words beside the user's history [default: 10].")
    ] = None,
    data_folder: DataFolder = None,
    as_json: JSON = False,
) -> None:
    """List the best items that a user has not taken yet.

    \b
    symbiosis recommend --user A03VWRTV7PEMO
    symbiosis recommend --user 1 --request "garden gloves" --count 5
    symbiosis recommend --user 1 --json

    The score is the model's; with --request, `similarity` is how near the item's text is to the words (-1 to 1), and
    the score counts both. It reads data/ and models/ and writes nothing.
    """
    from symbiosis.recommender.inference.asking import WEIGHT, RecommendationRequest
    from symbiosis.recommender.inference.recommender import Recommender

    weight = WEIGHT if request_weight is None else request_weight
    asked = RecommendationRequest(user, text=request, text_weight=weight, count=count)
    found = Recommender.open(data_folder).recommend(asked)
    rows: list[dict[str, object]] = [
        {"rank": one.rank, "item": one.item, "item_id": one.item_id, "score": round(one.score, 3)}
        | ({} if one.similarity is None else {"similarity": round(one.similarity, 3)})
        | {"title": one.title}
        for one in found.items
    ]
    if found.note:
        note(found.note)
    show_items(rows, as_json)


def show_items(rows: list[dict[str, object]], as_json: bool) -> None:
    """Print recommended items, the best first."""
    say("" if as_json else table(rows) if rows else "the user has taken every item", rows, as_json)


def explain(
    user: User,
    item: Annotated[str, typer.Option("--item", metavar="ID", help="Original id or number.")],
    temperature: Annotated[float, typer.Option(help="0: the most probable words; more: words drawn at random.")] = 0.0,
    top_k: Annotated[int, typer.Option(metavar="N", help="Draw from the N most probable words; 0: from all.")] = 0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the draw.")] = 0,
    maximum_words: Annotated[int, typer.Option(metavar="N", help="Longest reason.")] = 60,
    data_folder: DataFolder = None,
    as_json: JSON = False,
) -> None:
    """Say in words why a user would purchase an item.

    \b
    symbiosis explain --user 1 --item 3
    symbiosis explain --user 1 --item B0ODECU2DP --temperature 0.7 --top-k 20 --seed 3

    The words are the pre-trained language model's own: the same seed draws the same words.
    """
    from symbiosis.recommender.inference.reasons import Sampling
    from symbiosis.recommender.inference.recommender import Recommender

    found = Recommender.open(data_folder).explain(user, item, Sampling(temperature, top_k, maximum_words, seed))
    say(f"{found.title}\n{found.reason}", {"user": found.user, "item": found.item, "reason": found.reason}, as_json)
