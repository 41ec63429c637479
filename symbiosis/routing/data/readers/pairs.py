"""Comparisons of two answers, to a quality of each.

AlpacaEval's ``annotations.json`` (Dubois et al. 2024, arXiv 2404.04475; repository tatsu-lab/alpaca_eval): records with
``instruction``, ``dataset``, ``generator_1``, ``output_1``, ``generator_2``, ``output_2``, and ``preference``, which
goes from 1 (the first answer) over 1.5 (a draw) to 2 (the second), also in between, where the judge gives
probabilities. Chatbot Arena's votes (arXiv 2403.04132): ``model_a``, ``model_b``, ``winner``, ``prompt`` or
``conversation_a``.

Where one LLM is the first of every pair, as AlpacaEval's reference is, the quality of another one is the probability
that its answer is preferred to that, and the reference's own is .5. Else each LLM has the share that its answer won.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from symbiosis.routing.data.readers.nested import response_tokens
from symbiosis.routing.data.readers.records import Record

ALPACA = {"generator_1", "generator_2", "preference"}
ARENA = {"model_a", "model_b", "winner"}
_SECOND = {"model_a": 0.0, "a": 0.0, "model_b": 1.0, "b": 1.0}


def rows(records: Iterable[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """Yield the two answers of each pair, with the place of its record; pairs without a verdict are left out."""
    pairs = list(records)
    firsts = {record.get("generator_1") for _, record in pairs}
    reference = firsts.pop() if len(firsts) == 1 else None
    for place, record in pairs:
        is_alpaca = record.keys() >= ALPACA
        second = _preference(record.get("preference")) if is_alpaca else _winner(record.get("winner"))
        if second is None:
            continue
        if is_alpaca:
            about = {"query_text": record.get("instruction"), "domain": record.get("dataset")}
            names, responses = ("generator_1", "generator_2"), ("output_1", "output_2")
        else:
            asked = next((record[n] for n in ("prompt", "conversation_a", "question") if record.get(n)), None)
            about = {"query_text": asked, "domain": record.get("category")}
            names, responses = ("model_a", "model_b"), ("response_a", "response_b")
        first = 0.5 if is_alpaca and record["generator_1"] == reference else 1 - second
        for name, response, quality in zip(names, responses, (first, second), strict=True):
            tokens = response_tokens({"response": record.get(response)})
            basis = None if tokens is None else "characters"
            answer = {"llm": record[name], "quality": quality, "response_tokens": tokens, "tokens_basis": basis}
            yield place, about | answer


def _preference(value: Any) -> float | None:
    """Return the probability that the second answer is preferred; None where there is no verdict."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number - 1 if 1 <= number <= 2 else None


def _winner(value: Any) -> float | None:
    text = str(value).lower()
    return 0.5 if text.startswith("tie") or text == "both" else _SECOND.get(text)
