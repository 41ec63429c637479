"""The text of a query that is given as chat messages: what the messages say, one after the other, without the roles."""

import ast
import json

import polars as pl

from symbiosis.core.errors import InputError
from symbiosis.core.text_files import mended


def text_of(value: object) -> str | None:
    r"""Return the text of a message or of a list of messages or texts; None if it is no such thing.

    Parameters
    ----------
    value
        A text; a message, ``{"role": ..., "content": ...}``, whose content is a text, null, or a list of parts of
        which those with a ``text`` count; or a list of these. The texts are joined by line breaks.

    Examples
    --------
    >>> text_of([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}])
    'Be brief.\nWho?'
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        if "content" not in value:
            return None
        content = value["content"]
        if isinstance(content, list):
            return "\n".join(part["text"] for part in content if isinstance(part, dict) and _has_text(part))
        return "" if content is None else content if isinstance(content, str) else None
    if isinstance(value, list):
        texts = [text_of(part) for part in value if part is not None]
        return None if None in texts else "\n".join(text for text in texts if text is not None)
    return None


def _has_text(part: dict[str, object]) -> bool:
    return isinstance(part.get("text"), str)


def texts(column: pl.Series) -> pl.Series:
    """Turn a column of texts, lists of texts or chat messages into texts.

    A text that is itself a list of messages, written as JSON or in Python's notation, counts as these messages.

    Raises
    ------
    InputError
        A value is none of these; the message names the row.
    """
    if column.dtype.is_nested():
        found = [None if value is None else text_of(value) for value in column.to_list()]
        for row, (value, given) in enumerate(zip(found, column.is_not_null(), strict=True), start=1):
            if value is None and given:
                raise InputError(f"`{column.name}` in row {row} is neither a text nor chat messages: correct it")
        return pl.Series(column.name, found, dtype=pl.String)
    column = column.cast(pl.String, strict=False)
    candidates = column.filter(column.str.contains(r"^\s*\[\s*\{").fill_null(value=False)).unique()
    replaced = {text: _of_written_list(text) for text in candidates}
    changed = {text: value for text, value in replaced.items() if value != text}
    return column.replace(list(changed), list(changed.values())) if changed else column


def _of_written_list(text: str) -> str:
    for read in (json.loads, ast.literal_eval):  # literals only: evaluates no names, calls or operators
        try:
            value = read(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        are_messages = all(isinstance(part, dict) and {"role", "content"} <= part.keys() for part in value)
        joined = text_of(value) if are_messages else None
        return text if joined is None else mended(joined)
    return text
