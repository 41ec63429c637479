"""Records that hold the answers of several LLMs to one query each, to one row per answer.

Four forms, in JSON and in the nested columns of Hugging Face's parquet files:

- a map of scores: ``{"question": ..., "scores": {"LLM": 0.8, ...}}``, as RouterDC's data (arXiv 2409.19886; repository
  shuhao02/RouterDC, ``datasets/split2_model7``) and LLMRouter's ``dcrouter_preprocessed`` have it; further maps with
  the same keys, such as ``costs``, go with it;
- parallel lists: ``{"query": ..., "llm_name_list": [...], "perf_list": [...]}``, LLMRouter's ``data/routerdc``
  (repository ulab-uiuc/LLMRouter);
- a list of answers: ``{"prompt": ..., "completions": [{"model": ..., "score": ...}, ...]}``, as UltraFeedback has it;
- a structure per LLM: ``{"prompt": ..., "LLM": {"score": ..., "num_input_tokens": ...}}``, as SPROUT (CARROT, arXiv
  2502.03261) has it.

And a file per LLM, ``{"model_name": ..., "dataset_name": ..., "records": [...]}``, as LLMRouterBench (arXiv 2601.07206)
keeps its results.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from symbiosis.routing.data.outcomes import CHARACTERS_PER_TOKEN
from symbiosis.routing.data.readers.columns import ALIASES, COLUMNS
from symbiosis.routing.data.readers.records import Record

_OTHERS: dict[str, tuple[str, ...]] = {  # names that only occur inside such records
    "query_text": ("origin_query",),
    "quality": ("overall_score", "performance_score", "perf", "acc", "accuracy"),
    "prompt_tokens": ("num_input_tokens",),
    "response_tokens": ("num_output_tokens", "token_num"),
    "llm": ("llm_name", "name"),
    "domain": ("dataset_name", "source"),
}
NAMES: dict[str, tuple[str, ...]] = {
    column: (column, *ALIASES.get(column, ()), *_OTHERS.get(column, ())) for column in COLUMNS
}
"""Of a column, in records like these: its own name, and others for the same, first come first served."""
_ANSWER = [c for c in COLUMNS if c not in ("query_id", "query_text", "domain", "subdomain")]
_RESPONSES = ("response", "output", "completion", "answer", "model_response")
_LISTS = ("{}s", "{}_list", "{}_lists", "{}")


def told(record: Mapping[str, Any], column: str) -> Any:
    """Return what a record says of a column, under the first name that it has; None if it says nothing."""
    return next((record[name] for name in NAMES[column] if record.get(name) is not None), None)


def answers_of(record: Record) -> list[Record]:
    """Return one row per answer that a record holds; none if it is not of the four forms."""
    if any(isinstance(record.get(name), str) for name in ("llm", *ALIASES["llm"])):
        return []  # it is of one LLM, whatever marks of it there are
    parts = _of_structures(record) or _of_list(record) or _of_maps(record) or _of_parallel_lists(record)
    if not parts:
        return []
    about = {c: told(record, c) for c in COLUMNS if c not in _ANSWER}
    return [about | {name: value for name, value in part.items() if value is not None} for part in parts]


def rows(records: Iterable[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """Yield one row per answer, with the place of its record."""
    for place, record in records:
        for inner in _unfolded(record):
            yield from ((place, row) for row in answers_of(inner) or [_row(inner)])


def is_results_of_one(record: Record) -> bool:
    """Tell whether a record is a whole file of one LLM's answers."""
    listed = record.get("records")
    return told(record, "llm") is not None and isinstance(listed, list) and bool(listed) and isinstance(listed[0], dict)


def response_tokens(record: Mapping[str, Any]) -> int | None:
    """Estimate the tokens of a response that is there as a text."""
    text = next((record[name] for name in _RESPONSES if isinstance(record.get(name), str)), None)
    return None if text is None else -(-len(text) // CHARACTERS_PER_TOKEN)


def _unfolded(record: Record) -> list[Record]:
    """Return the records of a file of one LLM's answers, each with what the file says of all; or the record itself."""
    if not is_results_of_one(record):
        return [record]
    common = {c: told(record, c) for c in ("llm", "domain")}
    return [common | one for one in record["records"]]


def _row(record: Mapping[str, Any]) -> Record:
    """Return the row that a record of one answer says."""
    row = {c: told(record, c) for c in COLUMNS}
    if row["response_tokens"] is None and (estimate := response_tokens(record)) is not None:
        row |= {"response_tokens": estimate, "tokens_basis": "characters"}
    return row


def _of_structures(record: Record) -> list[Record]:
    found = {name: value for name, value in record.items() if isinstance(value, dict) and _marked(value)}
    if len(found) < 2:  # one may be anything, such as metadata
        return []
    about: Record = dict.fromkeys(("query_text", "query_id", "domain", "subdomain"))
    return [_row(value) | about | {"llm": name} for name, value in found.items() if _is_mark(told(value, "quality"))]


def _marked(value: Mapping[str, Any]) -> bool:
    """Tell whether a structure has a place for a quality, given or null."""
    return any(name in value and (value[name] is None or _is_mark(value[name])) for name in NAMES["quality"])


def _of_list(record: Record) -> list[Record]:
    for value in record.values():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            found = [_row(one) for one in value if told(one, "llm") is not None]
            if any(row["quality"] is not None for row in found):
                return [row | {"query_id": None, "query_text": None} for row in found]
    return []


def _of_maps(record: Record) -> list[Record]:
    marks = _named(record, "quality", dict)
    if not isinstance(marks, dict) or not marks or not all(v is None or _is_mark(v) for v in marks.values()):
        return []
    others = {c: _named(record, c, dict) for c in _ANSWER if c not in ("llm", "quality")}
    return [
        {"llm": llm, "quality": mark} | {c: told_of[llm] for c, told_of in others.items() if told_of and llm in told_of}
        for llm, mark in marks.items()
        if mark is not None  # a parquet file has every key in every row
    ]


def _of_parallel_lists(record: Record) -> list[Record]:
    llms, marks = _named(record, "llm", list), _named(record, "quality", list)
    if not llms or not marks or len(llms) != len(marks) or not all(isinstance(llm, str) for llm in llms):
        return []
    others = {c: _named(record, c, list) for c in _ANSWER if c not in ("llm", "quality")}
    others = {c: values for c, values in others.items() if values and len(values) == len(llms)}
    return [
        {"llm": llm, "quality": mark} | {c: values[place] for c, values in others.items()}
        for place, (llm, mark) in enumerate(zip(llms, marks, strict=True))
    ]


def _named(record: Record, column: str, kind: type) -> Any:
    """Return the map or list of a column's values, under the plural of one of its names; None if there is none."""
    names = (form.format(name) for name in NAMES[column] for form in _LISTS)
    return next((record[name] for name in names if isinstance(record.get(name), kind)), None)


def _is_mark(value: object) -> bool:
    return isinstance(value, int | float)
