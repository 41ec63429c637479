"""Answers of simulated LLMs: the table's for its queries, drawn from the LLM's skill for others, the same each time."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from symbiosis.core.errors import InputError
from symbiosis.gateway.simulation.answers import AnswerBook
from symbiosis.gateway.simulation.faults import CHANCES, Fault, Faults
from symbiosis.gateway.simulation.llms import router_llms, simulated_llms, upstream_config
from symbiosis.gateway.simulation.writing import example
from symbiosis.routing.data import synthetic

NOWHERE = Path("no/data/here")


@pytest.fixture(scope="module")
def book() -> AnswerBook:
    return AnswerBook.open(NOWHERE)


def test_a_query_of_the_table_gets_the_tables_quality_and_length(book: AnswerBook) -> None:
    table = synthetic.generate(800, 29)
    for row in table.head(600).iter_rows(named=True):
        answer = book.answer(row["llm"], row["query_text"])
        assert (answer.quality, answer.response_tokens) == (row["quality"], row["response_tokens"])
        assert answer.prompt_tokens == row["prompt_tokens"]


def test_other_prompts_are_drawn_from_what_the_llm_achieves_in_their_domain(book: AnswerBook) -> None:
    table = synthetic.generate(800, 29)
    for domain, words in (("programming", "Write a Python decorator"), ("history", "Tell of the Roman Republic")):
        for llm in ("forge-34b", "quill-34b", "pocket-7b"):
            rows = table.filter(domain=domain, llm=llm)
            expected = rows["quality"].to_numpy().mean()
            drawn = [book.answer(llm, f"{words}, number {number}").quality for number in range(400)]
            assert set(drawn) == {0.0, 1.0}
            # Four standard errors of a mean of 400: the draw is the same each time, so this never flickers.
            assert abs(np.mean(drawn) - expected) < 4 * 0.5 / 400**0.5


def test_the_seed_tells_everything(book: AnswerBook) -> None:
    prompts = [f"prompt {number}" for number in range(50)]
    again, other = AnswerBook.open(NOWHERE), AnswerBook.open(NOWHERE, seed=1)
    answers = [book.answer("sage-70b", prompt) for prompt in prompts]
    assert [again.answer("sage-70b", prompt) for prompt in prompts] == answers
    assert [other.answer("sage-70b", prompt) for prompt in prompts] != answers


def test_an_llm_that_the_table_lacks_and_a_prompt_without_words_are_answered(book: AnswerBook) -> None:
    assert book.answer("newcomer", book.texts[0]).quality in (0.0, 1.0)
    assert book.answer("sage-70b", "").response_tokens >= 1
    assert book.answer("sage-70b", "\ud800").response_tokens >= 1  # half a surrogate pair, as JSON can carry it


def test_without_a_router_the_llms_are_those_of_the_synthetic_table() -> None:
    llms = simulated_llms(router_llms(NOWHERE))
    assert {llm.name for llm in llms} == {llm.name for llm in synthetic.LLMS}
    upstream = upstream_config("http://127.0.0.1:9100/v1", NOWHERE)
    prices = {llm.name: (llm.price_prompt, llm.price_response) for llm in upstream.llms}
    assert prices == {llm.name: (llm.price_prompt, llm.price_response) for llm in synthetic.LLMS}
    assert {llm.name for llm in llms if llm.vision} == {"grand-1t", "sage-70b"}
    assert [llm.name for llm in llms if not llm.tools] == ["pocket-7b"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"city": {"type": "string", "maxLength": 5}, "days": {"type": "integer"}}},
        {"type": "object", "properties": {"of": {"enum": ["a", "b"]}, "list": {"type": "array", "minItems": 3}}},
        {"type": "object", "properties": {"n": {"type": "number", "exclusiveMinimum": 3}, "no": {"type": "null"}}},
        {"anyOf": [{"type": "object", "properties": {"yes": {"type": ["boolean", "null"]}, "c": {"const": 7}}}]},
        {"type": "object", "properties": {"name": {"type": "string", "minLength": 300}}, "required": ["name"]},
    ],
)
def test_an_example_of_a_schema_is_valid(schema: dict[str, Any]) -> None:
    jsonschema.validate(json.loads(json.dumps(example(schema, "Where do we go?"))), schema)


def test_a_schema_that_holds_itself_ends() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    schema["properties"]["again"] = schema
    assert "again" in example(schema, "x")


def test_faults_are_read_as_they_are_written() -> None:
    assert Fault.parse("slow=0.5, disconnect-after=3") == Fault(slow=0.5, disconnect_after=3)
    assert Fault.parse("status=429,retry-after=2,garbage") == Fault(status=429, retry_after=2.0, garbage=True)
    for wrong, told in (
        ("sloow=1", "none of status, retry-after, disconnect"),
        ("status=200", "from 400 to 599"),
        ("disconnect-after=x", "a whole number"),
        ("hang=1", "takes no value"),
        ("slow=inf", "out of range"),
        ("drip", "needs a number"),
    ):
        with pytest.raises(InputError, match=told):
            Fault.parse(wrong)


def test_ordered_faults_end_and_chance_has_its_share() -> None:
    faults = Faults()
    faults.order(Fault(status=503), "a", times=2)
    faults.order(Fault(hang=True), times=1)
    assert [faults.next("a", []) for _ in range(4)] == [*[Fault(status=503)] * 2, Fault(hang=True), Fault()]
    assert faults.next("a", ["garbage"]) == Fault(garbage=True)
    chance, again = Faults(0.3, seed=5), Faults(0.3, seed=5)
    drawn = [chance.next("a", []) for _ in range(500)]
    assert drawn == [again.next("a", []) for _ in range(500)]
    assert set(drawn) == {Fault(), *CHANCES}
    # Four standard errors.
    assert abs(np.mean([fault != Fault() for fault in drawn]) - 0.3) < 4 * (0.3 * 0.7 / 500) ** 0.5
