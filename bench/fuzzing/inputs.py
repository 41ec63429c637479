"""How inputs are made and changed: bytes anywhere, values inside JSON, and contents behind a line that names a file."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

TOKENS = (
    b"\0 \xff \xfe\xff \xff\xfe \xef\xbb\xbf \r\n \n\n NaN null true -1 1e999 [] {} \" ' \\ \\ud800 <|endoftext|> "
    b"<user_3> 2001-99-99 \x1f\x8b 99999999999999999999 [[[[[[[[ \xc3 \xed\xa0\x80 , : - ! & * @ .inf \t \x85 data: "
    b"[DONE] gzip --json inf 1_000 0x1F %s ../ ' #"
).split(b" ")
# Values that readers have stumbled over.
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1e308, -0.0, 0.5, float("nan"), float("inf"), 2**31, 2**63, 2**64, 10**30, -(2**63),
    "", " ", "\0", "\ud800", "x" * 300, "a\nb", "NaN", "true", "1", "-1", "1e400", "2001-99-99", "0001-01-01T00:00",
    "P1D", "<|endoftext|>", "<M6", "../..", "/", "*", "\u202e", "\N{PILE OF POO}", "a\x1b[31mb", [], {}, [[]], [None],
    [{}], {"": None}, [1, "a"], {"content": "x", "role": "user"}, [{"type": "text", "text": 1}],
)  # fmt: skip
Form = Literal["bytes", "json", "named"]
"""What an input is: any bytes; JSON or lines of JSON; or a line that names a file, and its content."""
MAXIMUM = 1 << 15
"""Bytes of an input."""


def mutated(content: bytes, rng: random.Random, form: Form = "bytes") -> bytes:
    """Change an input in one to four places; the result depends on the input and the state of `rng` alone."""
    name = b""
    if form == "named":
        name, _, content = content.partition(b"\n")
        name += b"\n"
    for _ in range(rng.randint(1, 4)):
        structured = _other_value(content, rng) if form != "bytes" and rng.random() < 0.7 else None
        content = _other_bytes(content, rng) if structured is None else structured
    return name + content[:MAXIMUM]


def _other_bytes(content: bytes, rng: random.Random) -> bytes:
    at, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    end = min(end, at + 40)
    middle = (
        rng.choice(TOKENS),
        b"",
        content[at:end] * 2,
        bytes([rng.randrange(256)]),
        content[at:end] + rng.choice(TOKENS),
    )[rng.randrange(5)]
    return content[:at] + middle + content[end:]


def _other_value(content: bytes, rng: random.Random) -> bytes | None:
    """Change one value of a JSON document, or of one of its lines; None if there is none."""
    lines = content.split(b"\n")
    where = rng.randrange(len(lines))
    for start, stop in ((0, len(lines)), (where, where + 1)):
        try:
            document = [json.loads(b"\n".join(lines[start:stop]))]
        except (ValueError, RecursionError):
            continue
        _change(document, rng)
        try:
            text = json.dumps(document[0], ensure_ascii=rng.random() < 0.5)
        except (ValueError, RecursionError):
            return None
        return b"\n".join([*lines[:start], text.encode("utf-8", "surrogatepass"), *lines[stop:]])
    return None


def _change(document: list[Any], rng: random.Random) -> None:
    places = list(_places(document))
    holder, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind <= 2:
        holder[key] = rng.choice(ODD)
    elif kind == 3:
        other, name = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[name]))
    elif holder is document:
        holder[key] = [holder[key]]
    elif isinstance(holder, dict):
        value = holder.pop(key)
        if kind == 5:
            holder[rng.choice([key.upper(), f"{key}x", "", " ", "id", "\ud800"])] = value
    elif kind == 4:
        del holder[key]
    else:
        holder.insert(key, holder[key])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every holder of a value, a list or an object, with the value's index or key; at most some thousands."""
    waiting = [value]
    seen = 0
    while waiting and seen < 5_000:
        holder = waiting.pop()
        for key in range(len(holder)) if isinstance(holder, list) else list(holder):
            seen += 1
            yield holder, key
            if isinstance(holder[key], list | dict):
                waiting.append(holder[key])


def lines_of(*rows: object) -> bytes:
    """Return lines of JSON."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def file_of(folder: Path, name: str, content: bytes) -> Path:
    """Write a file."""
    path = folder / name
    path.write_bytes(content)
    return path


def parquet_of(folder: Path, name: str, content: bytes) -> Path | None:
    """Write a parquet file: the bytes as they are, or the columns that JSON describes; None if it describes none."""
    import polars as pl

    if content.startswith(b"PAR1"):
        return file_of(folder, name, content)
    try:
        told = json.loads(content)
        kinds = {
            kind: getattr(pl, kind)
            for kind in ("Int64", "UInt64", "Int8", "Float32", "Float64", "Boolean", "String", "Binary", "Categorical")
        } | {kind: getattr(pl, kind) for kind in ("Date", "Datetime", "Duration", "Time", "Null")}
        kinds |= {"Decimal": pl.Decimal(10, 2), "Texts": pl.List(pl.String), "Floats": pl.List(pl.Float32)}
        frame = pl.DataFrame(
            [pl.Series(name, one["v"], kinds.get(one.get("t")), strict=False) for name, one in told.items()]
        )
        frame.write_parquet(folder / name)
    except Exception:
        return None
    return folder / name


def columns_of(rows: list[dict[str, Any]], **kinds: str) -> bytes:
    """Return rows as JSON of columns, some of a kind that is named."""
    return json.dumps({name: {"t": kinds.get(name, ""), "v": [row[name] for row in rows]} for name in rows[0]}).encode()


def written(columns: bytes, folder: Path) -> bytes:
    """Return the bytes of the parquet file that columns make."""
    path = parquet_of(folder, "seed.parquet", columns)
    assert path is not None
    return path.read_bytes()
