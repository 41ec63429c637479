"""Abilities: what cannot serve a request is not asked."""

import pytest

from symbiosis.gateway.config.schema import LlmConfig
from symbiosis.gateway.requests.abilities import able, lacking, serves
from symbiosis.gateway.requests.chat import Needs


def llm(**abilities: object) -> LlmConfig:
    return LlmConfig.model_validate({"name": "a", "price_prompt": 1, "price_response": 1, **abilities})


@pytest.mark.parametrize(
    ("abilities", "needs"),
    [
        ({"tools": False}, Needs(tools=True)),
        ({"vision": False}, Needs(vision=True)),
        ({"json_mode": False}, Needs(json_mode=True)),
        ({"context": 99}, Needs(tokens=100)),
    ],
)
def test_one_lacking_ability_suffices(abilities: dict[str, object], needs: Needs) -> None:
    everything = {"tools": True, "vision": True, "json_mode": True, "context": 100}
    assert serves(llm(**everything), needs)
    assert not serves(llm(**{**everything, **abilities}), needs)
    assert str(lacking(llm(**{**everything, **abilities}), needs)).startswith(next(iter(abilities)))


def test_llm_without_an_upstream_serves_nothing() -> None:
    llms = [llm(vision=True), None, llm(vision=False)]
    assert able(llms, Needs(vision=True)).tolist() == [True, False, False]
