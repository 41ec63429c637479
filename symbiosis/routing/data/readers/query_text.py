"""The text of a query that is given as chat messages: what the messages say, one after the other, without the roles.

Read are the messages of OpenAI's and Anthropic's APIs (``role``, ``content``, a content of parts too), of
OpenTelemetry and Gemini (``role``, ``parts``), and of ShareGPT (``from``, ``value``), and requests that hold them in
``messages``. Where a conversation ends with the assistant's answer, as in training data, that is no part of the query.
"""

import ast
import json

import polars as pl

from symbiosis.core.errors import InputError
from symbiosis.core.text_files import mended

_SAID = ("content", "parts", "value", "text", "messages")
_ANSWERED = {"assistant", "gpt", "model", "bot", "chatgpt"}


def text_of(value: object) -> str | None:
    r"""Return the text of a message or of a list of messages or texts; None if it is no such thing.

    Parameters
    ----------
    value
        A text; a message, ``{"role": ..., "content": ...}``, whose content is a text, null, or a list of parts of
        which those with a text count; or a list of these. The texts are joined by line breaks.

    Examples
    --------
    >>> text_of([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}])
    'Be brief.\nWho?'
    >>> text_of([{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "I."}])
    'Who?'
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        named = [name for name in _SAID if name in value]
        if not named:
            return None
        said = next((value[name] for name in named if value[name] is not None), None)
        if isinstance(said, list) and "messages" not in named:
            return "\n".join(text for text in map(_part, said) if text is not None)
        return "" if said is None else text_of(said) if isinstance(said, str | list) else None
    if isinstance(value, list):
        try:
            texts = [text_of(part) for part in _asked(value) if part is not None]
        except RecursionError:  # nested deeper than any conversation
            return None
        return None if None in texts else "\n".join(text for text in texts if text is not None)
    return None


def is_message(value: object) -> bool:
    """Tell whether a value is one message of a chat."""
    if not isinstance(value, dict):
        return False
    return ("role" in value and ("content" in value or "parts" in value)) or {"from", "value"} <= value.keys()


def _asked(messages: list[object]) -> list[object]:
    """Leave out the answer that a conversation ends with."""
    end = len(messages)
    while end > 1 and (last := messages[end - 1]) and is_message(last) and _speaker(last) in _ANSWERED:
        end -= 1
    return messages[:end] if messages and is_message(messages[0]) else messages


def _speaker(message: object) -> str:
    assert isinstance(message, dict)
    return str(message.get("role") or message.get("from") or "").lower()


def _part(part: object) -> str | None:
    """Return the text of a part of a message, None where it is an image, a call of a tool or the like."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return None
    return next((part[name] for name in ("text", "content") if isinstance(part.get(name), str)), None)


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
        joined = text_of(value) if all(is_message(part) for part in value) else None
        return text if joined is None else mended(joined)
    return text
