"""Sub-commands of the recommender: items for a user, and a reason in words."""

from pathlib import Path
from typing import Annotated

import typer

from symbiosis.cli.output import JSON, say, table
from symbiosis.core.errors import InputError

User = Annotated[str, typer.Option("--user", metavar="ID", help="Original id or number.")]
DataFolder = Annotated[Path, typer.Option("--data-folder", metavar="FOLDER", help="Holds data/ and models/.")]


def recommend(
    user: User,
    request: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Rank for the user and these words, instead of history alone.")
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="How many items.")] = 10,
    request_weight: Annotated[
        float | None, typer.Option(metavar="W", help="Weight of the words beside the user's history [default: 10].")
    ] = None,
    data_folder: DataFolder = Path(),
    as_json: JSON = False,
) -> None:
    """List the best items that a user has not taken yet.

    \b
    symbiosis recommend --user A03VWRTV7PEMO
    symbiosis recommend --user 1 --request "garden gloves" --count 5
    symbiosis recommend --user 1 --json

    The score is the model's; with --request, `likeness` is how near the item's text is to the words (-1 to 1), and
    the score counts both. It reads data/ and models/ and writes nothing.
    """
    import math

    if count < 1:
        raise InputError(f"--count {count} must be at least 1")
    if request is not None and not request.strip():
        raise InputError("--request is empty: give words, or leave it out")
    if request_weight is not None and not 0 <= request_weight < math.inf:
        raise InputError(f"--request-weight {request_weight} must be a number not below 0")

    import numpy as np

    from symbiosis.core.layout import CLEAN, DISTANCES, EMBEDDINGS, FINETUNED, GRAPH, PROPAGATION
    from symbiosis.recommender.data.catalogue import Catalogue
    from symbiosis.recommender.data.interactions import read_matrix
    from symbiosis.recommender.inference.requests import WEIGHT, Requests, best_items
    from symbiosis.recommender.inference.scoring import Recommender

    weight = WEIGHT if request_weight is None else request_weight
    catalogue = Catalogue.load(data_folder / CLEAN)
    number = catalogue.user(user)
    shape = (len(catalogue.users), len(catalogue.items))
    train, validation = (
        read_matrix(data_folder / CLEAN / f"{part}.parquet", shape) for part in ("train", "validation")
    )
    likeness = None
    if request is not None:
        likeness = Requests.load(data_folder / EMBEDDINGS, catalogue.items).likeness(request)
    model = Recommender.load(*(data_folder / folder for folder in (FINETUNED, GRAPH, DISTANCES, PROPAGATION)))
    scores = model.scores(np.array([number]), train)[0]
    # The test items count as not yet taken: they are what the recommender is judged by.
    items, ranked = best_items(scores, train + validation, number, count, model.seed, likeness, weight)
    rows = [
        {"rank": place + 1, "item": int(item), "item_id": catalogue.items["item_id"][int(item)]}
        | {"score": round(float(score), 3)}
        | ({} if likeness is None else {"likeness": round(float(likeness[item]), 3)})
        | {"title": catalogue.title(int(item))}
        for place, (item, score) in enumerate(zip(items, ranked, strict=True))
    ]
    say("" if as_json else table(rows) if rows else "the user has taken every item", rows, as_json)


def explain(
    user: User,
    item: Annotated[str, typer.Option("--item", metavar="ID", help="Original id or number.")],
    temperature: Annotated[float, typer.Option(help="0: the most probable words; more: words drawn at random.")] = 0.0,
    top_k: Annotated[int, typer.Option(metavar="N", help="Draw from the N most probable words; 0: from all.")] = 0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the draw.")] = 0,
    maximum_words: Annotated[int, typer.Option(metavar="N", help="Longest reason.")] = 60,
    data_folder: DataFolder = Path(),
    as_json: JSON = False,
) -> None:
    """Say in words why a user would purchase an item.

    \b
    symbiosis explain --user 1 --item 3
    symbiosis explain --user 1 --item B0ODECU2DP --temperature 0.7 --top-k 20 --seed 3

    The words are the pre-trained language model's own: the same seed draws the same words.
    """
    from symbiosis.core.layout import CLEAN, DISTANCES, GRAPH, PRETRAINED
    from symbiosis.recommender.data.catalogue import Catalogue
    from symbiosis.recommender.inference.reasons import Sampling, Writer

    sampling = Sampling(temperature, top_k, maximum_words, seed)
    catalogue = Catalogue.load(data_folder / CLEAN)
    numbers = catalogue.user(user), catalogue.item(item)
    writer = Writer.load(data_folder / PRETRAINED, data_folder / GRAPH, data_folder / DISTANCES)
    reason = writer.reason(*numbers, sampling)
    document = {"user": numbers[0], "item": numbers[1], "reason": reason}
    say(f"{catalogue.title(numbers[1])}\n{reason}", document, as_json)
