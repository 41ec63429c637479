"""Mutated inputs for every reader: anything but a result or a one-line `InputError` is a crash.

Run it:  python -m bench.fuzzing READER --seconds 600      (READER: one of READERS, or all)

Inputs are small legal ones, bytes of which are changed, cut out, repeated and replaced by tokens that readers have
stumbled over. Deterministic for a seed and a number of inputs. Crashes are written to a folder, one file each.
"""

import argparse
import json
import random
import tempfile
import time
import traceback
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.core.text_files import decoded
from symbiosis.params import validate
from symbiosis.reviews.records import read_metadata, read_reviews
from symbiosis.routing.data import gaps, selection, suites, table
from symbiosis.routing.data.params import CleanRoutingParams

TOKENS = (
    b"\0 \xff \xfe\xff \xff\xfe \xef\xbb\xbf \r\n \n\n NaN null true -1 1e999 [] {} \" ' \\ \\ud800 <|endoftext|> "
    b"<user_3> 2001-99-99 "
    b"\x1f\x8b 99999999999999999999 [[[[[[[[ \xc3 \xed\xa0\x80 , : - ! & * @ .inf"
).split(b" ")
REVIEW: dict[str, object] = {
    "reviewerID": "A1",
    "asin": "B1",
    "overall": 5.0,
    "unixReviewTime": 1_400_000_000,
    "reviewText": "good",
}
ITEM: dict[str, object] = {
    "asin": "B1",
    "title": "Bolt <M6",
    "brand": "x",
    "category": ["a", "b"],
    "description": ["c"],
}
CELL: dict[str, object] = {
    "query_text": "Who?",
    "domain": "d",
    "quality": 1,
    "cost_usd": 0.1,
    "cost_basis": "source",
    "latency_s": 1.5,
}


def _lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _rows() -> list[dict[str, object]]:
    return [{"query_id": f"q{n}", "llm": llm, **CELL} for n in range(3) for llm in ("a", "b")]


def _csv() -> bytes:
    rows = _rows()
    return "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]).encode()


def _table(path: Path) -> None:
    frame = table.read_table(path)
    table.require_plausible(frame, path)
    params = CleanRoutingParams.model_validate(read_document(Path("params.yaml"))["clean_routing"])
    chosen = selection.choose(gaps.averaged(gaps.labelled(frame)), path)
    suites.check(selection.complete(chosen, path, params.incomplete_queries, params.missing_costs), params)


def _params(path: Path) -> None:
    validate(read_document(path))


Reader = tuple[str, Callable[[], bytes], Callable[[Path], object]]
READERS: dict[str, Reader] = {
    "reviews": ("r.json", lambda: _lines([REVIEW] * 3), lambda path: read_reviews(path, StringIO(), 1.0)),
    "metadata": ("m.json", lambda: _lines([ITEM] * 3), lambda path: read_metadata(path, StringIO(), 1.0, {"B1"})),
    "jsonl": ("t.jsonl", lambda: _lines(_rows()), _table),
    "csv": ("t.csv", _csv, _table),
    "params": ("params.yaml", lambda: Path("params.yaml").read_bytes(), _params),
    "prompts": ("prompt", lambda: "Reverse a list in Pythön".encode(), lambda path: decoded(path.read_bytes(), "it")),
}


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Change an input in one to four places."""
    for _ in range(rng.randint(1, 4)):
        at, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        end = min(end, at + 40)
        kind = rng.randrange(5)
        middle = (
            rng.choice(TOKENS),
            b"",
            content[at:end] * 2,
            bytes([rng.randrange(256)]),
            content[at:end] + rng.choice(TOKENS),
        )[kind]
        content = content[:at] + middle + content[end:]
    return content


def fuzz(
    reader: str, seconds: float, inputs: int | None = None, seed: int = 0, crashes: Path | None = None
) -> list[str]:
    """Try mutated inputs, and return one text per crash; prints how many were tried.

    Parameters
    ----------
    reader
        One of `READERS`.
    seconds, inputs
        Whichever comes first ends it.
    seed
        Of the mutations.
    crashes
        Folder for the inputs that crashed.
    """
    name, made, read = READERS[reader]
    rng, legal = random.Random(seed), made()
    found: dict[str, str] = {}
    tried, deadline = 0, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        while time.monotonic() < deadline and (inputs is None or tried < inputs):
            content = legal if tried == 0 else mutated(legal, rng)
            path.write_bytes(content)
            tried += 1
            try:
                read(path)
            except InputError as error:
                if "\n" in str(error) and reader != "params":
                    found.setdefault("several lines", f"{error}")
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                key = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
                if key not in found and crashes is not None:
                    crashes.mkdir(parents=True, exist_ok=True)
                    (crashes / f"{reader}-{len(found)}").write_bytes(content)
                found.setdefault(key, f"{key}: {error}")
    print(f"{reader}: {tried:,} inputs, {len(found)} kinds of crash", flush=True)
    return list(found.values())


def main() -> None:
    """Fuzz from the command line; status 1 if something crashed."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzzing", description=__doc__)
    parser.add_argument("reader", choices=[*READERS, "all"])
    parser.add_argument("--seconds", type=float, default=600, help="for each reader")
    parser.add_argument("--inputs", type=int, help="at most so many for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crashes", type=Path, default=Path(".fuzzing"))
    chosen = parser.parse_args()
    names = list(READERS) if chosen.reader == "all" else [chosen.reader]
    found = [
        crash for name in names for crash in fuzz(name, chosen.seconds, chosen.inputs, chosen.seed, chosen.crashes)
    ]
    for crash in found:
        print(crash[:500])
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
