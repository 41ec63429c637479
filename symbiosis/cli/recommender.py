"""Sub-commands of the recommender: items for a user, a guest or a text, for all users, and a reason in words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from symbiosis.cli.output import JSON, note, say, table
from symbiosis.core.errors import InputError, one_line

if TYPE_CHECKING:
    from symbiosis.recommender.inference.asking import Recommendations
    from symbiosis.recommender.inference.recommender import Recommender

User = Annotated[str, typer.Option("--user", metavar="ID", help="Original id or number.")]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data-folder",
        metavar="FOLDER",
        help="Holds data/ and models/ [default: the champion, models/recommender, or this folder].",
    ),
]
Items = Annotated[list[str] | None, typer.Option(metavar="ID", help="As often as there are items, oldest first.")]
Ids = "FILE|ID,ID"
OF_ALL = ("--count", "--output", "--allowed", "--exclude", "--brand", "--category", "--price-from", "--price-to")


def recommend(
    user: Annotated[str | None, typer.Option(metavar="ID", help="Original id or number; none: a guest.")] = None,
    session: Items = None,
    text: Annotated[
        str | None, typer.Option("--text", "--request", metavar="TEXT", help="Rank for these words, too.")
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="How many items.")] = 10,
    text_weight: Annotated[
        float | None,
        typer.Option("--text-weight", "--request-weight", metavar="W", help="Of the words [default: 10]."),
    ] = None,
    allowed: Annotated[
        list[str] | None, typer.Option(metavar=Ids, help="Only these items, as what is in stock.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar=Ids, help="None of these items.")] = None,
    brand: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this brand, or these.")] = None,
    category: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this category, or these.")] = None,
    price_from: Annotated[float | None, typer.Option(metavar="USD", help="Leaves out items without a price.")] = None,
    price_to: Annotated[float | None, typer.Option(metavar="USD", help="Leaves out items without a price.")] = None,
    repeat_purchases: Annotated[bool, typer.Option("--repeat-purchases", help="What the user has, too.")] = False,
    per_brand_limit: Annotated[int | None, typer.Option(metavar="N", help="So many items of a brand at most.")] = None,
    new_items: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Items that came after the training, .jsonl or .parquet.")
    ] = None,
    written: Annotated[bool, typer.Option("--written", help="Reasons in the model's own words, too.")] = False,
    from_facts: Annotated[
        bool, typer.Option("--from-facts", help="Reasons in sentences, by SmolLM2-135M (extra local-llm), too.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="For all users, into --output.")] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Of --all: a parquet file.")] = None,
    data_folder: DataFolder = None,
    as_json: JSON = False,
) -> None:
    """List the best items for a user, a guest or a text, with what speaks for each.

    \b
    symbiosis recommend --user A03VWRTV7PEMO
    symbiosis recommend --user 1 --text "garden gloves" --count 5 --price-to 30
    symbiosis recommend --session B0ODECU2DP --session B0TCUDJ5G3 --allowed stock.txt
    symbiosis recommend --all --count 100 --output recommendations.parquet

    A file of --allowed or --exclude holds an id a line, or, as .parquet or .csv, a column item_id. The reasons are
    counted in the training data and the items' texts; with --written the model adds its own words, with --from-facts a
    pre-trained language model puts the first of these facts into a sentence, which is shown if a rule finds nothing
    invented in it. The score is the model's; with a text, `similarity` is how near the item's text is to it (-1 to 1),
    and the score counts both.
    Nothing but --output is written.
    """
    from symbiosis.recommender.inference.asking import WEIGHT, RecommendationRequest

    weight = WEIGHT if text_weight is None else text_weight
    stock, excluded = None if allowed is None else item_ids(allowed), item_ids(exclude or [])
    if every:
        unused = {"--user": user, "--session": session, "--text": text, "--text-weight": text_weight}
        unused |= {"--per-brand-limit": per_brand_limit, "--written": written or None}
        unused |= {"--from-facts": from_facts or None}
        if given := [name for name, value in unused.items() if value is not None]:
            raise InputError(f"--all goes with {', '.join(OF_ALL[:-1])} and {OF_ALL[-1]}: leave out {given[0]}")
        if output is None:
            raise InputError("--all needs a file: add --output recommendations.parquet")
    elif output is not None:
        raise InputError("--output is the file of --all: add --all, or leave it out")
    if written and from_facts:
        raise InputError("--written and --from-facts are two ways to write reasons: choose one")
    asked = RecommendationRequest(
        0 if every else user,
        tuple(session or ()),
        text,
        weight,
        count,
        stock,
        excluded,
        tuple(brand or ()),
        tuple(category or ()),
        price_from,
        price_to,
        repeat_purchases,
        per_brand_limit,
    )
    if output is not None:
        from symbiosis.recommender.inference.all_users import checked_output

        checked_output(output)
    recommender = opened(data_folder, new_items)
    if output is not None:
        from symbiosis.recommender.inference.all_users import write_all

        rows = write_all(
            recommender,
            output,
            count,
            candidates=recommender.parts.candidates.of(asked, []),
            repeat_purchases=repeat_purchases,
        )
        users = len(recommender.catalogue.users)
        say(
            f"{output}: {rows:,} rows of {users:,} users",
            {"output": str(output), "rows": rows, "users": users},
            as_json,
        )
        return
    found = recommender.recommend(asked)
    reasons, missing = recommender.written(found, user) if written else ({}, "")
    if missing:
        note(missing)
    if from_facts:
        from symbiosis.recommender.inference.fact_writer import FactWriter, written_from_facts

        reasons = written_from_facts(found, recommender.parts.items, FactWriter.load())
    show(found, reasons, as_json)


def opened(data_folder: Path | None, new_items: Path | None) -> "Recommender":
    """Open the recommender, with new items if there are any; their file is checked first."""
    from symbiosis.recommender.data.new_items import read_new_items
    from symbiosis.recommender.inference.recommender import Recommender

    new = None if new_items is None else read_new_items(new_items)
    recommender = Recommender.open(data_folder)
    return recommender if new is None else recommender.with_items(new)


def item_ids(given: list[str]) -> tuple[str, ...]:
    """Return item ids that were given one by one, between commas, or as files.

    Raises
    ------
    InputError
        A file cannot be read, or has no column ``item_id``.
    """
    ids: list[str] = []
    for text in given:
        path = Path(text)
        if path.suffix in {".parquet", ".csv", ".txt"} or _is_file(path):
            ids += _ids_of_file(path)
        else:
            ids += [one.strip() for one in text.split(",") if one.strip()]
    return tuple(ids)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a list of ids that is longer than a name may be
        return False


def _ids_of_file(path: Path) -> list[str]:
    import polars as pl

    from symbiosis.core import parquet_files
    from symbiosis.core.text_files import read_text

    if not _is_file(path):
        raise InputError(f"{path} is {'no file' if path.exists() else 'missing'}: name a file, or ids between commas")
    if path.suffix not in {".parquet", ".csv"}:
        return [line.strip() for line in read_text(path).split("\n") if line.strip()]
    try:
        if path.suffix == ".parquet":
            frame = parquet_files.read(path)
        else:
            frame = pl.read_csv(read_text(path).encode(), infer_schema=False)
    except parquet_files.UNREADABLE as error:
        raise InputError(f"{path} cannot be read ({one_line(error, 200)}): give a sound file") from None
    if "item_id" not in frame.columns:
        raise InputError(f"{path} has no column item_id: rename the column of the ids")
    ids = frame["item_id"].cast(pl.String).drop_nulls().str.strip_chars()
    return ids.filter(ids != "").to_list()


def show(found: "Recommendations", written: dict[int, str], as_json: bool) -> None:
    """Print recommended items, the best first, and on standard error what could not be done."""
    rows: list[dict[str, Any]] = []
    for one in found.items:
        row: dict[str, Any] = {"rank": one.rank, "item": one.item, "item_id": one.item_id, "score": round(one.score, 3)}
        if one.similarity is not None:
            row["similarity"] = round(one.similarity, 3)
        row |= {"title": one.title, "brand": one.brand, "price": one.price, "reason": one.reason}
        if one.item in written:
            row["written"] = written[one.item]
        rows.append(row)
    document = {"items": rows, "method": found.method, "note": found.note, "model": found.model}
    if found.note and not as_json:
        note(found.note)
    shown = [{name: "" if value is None else value for name, value in row.items()} for row in rows]
    say("" if as_json else table(shown) if rows else "no item is left", document, as_json)


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
