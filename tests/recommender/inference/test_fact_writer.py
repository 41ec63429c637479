"""Reasons written from facts, and the rule that says what of them is true."""

from pathlib import Path

import polars as pl
import pytest
import torch
from tiny_language_model import write_language_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from symbiosis.recommender.inference.asking import Recommendation, Recommendations
from symbiosis.recommender.inference.fact_writer import FactWriter, Judgement, Known, Rule, written_from_facts

ITEMS = pl.DataFrame(
    {
        "title": ["Blue Garden Glove", "Copper Teapot", "Steel Teapot", "Garden Hose"],
        "brand": ["Acme", "Bolt", "Bolt", None],
        "categories": [["Garden"], ["Kitchen"], ["Kitchen"], ["Garden"]],
        "description": ["With leather palms.", None, None, None],
    },
    schema_overrides={"brand": pl.String, "description": pl.String},
)
RULE = Rule(ITEMS)
GLOVE = Known(0, "Blue Garden Glove", "Acme", "bought with Garden Hose by 3 others; same category: Garden")
TEAPOT = Known(2, "Steel Teapot", "Bolt", "bought with Copper Teapot by 12 others; same brand")


@pytest.mark.parametrize(
    ("known", "reason", "item", "fact", "invented"),
    [
        (GLOVE, GLOVE.told, True, True, ()),
        (GLOVE, "The blue gloves go with your garden hose: 3 others bought both.", True, True, ()),
        (GLOVE, "The blue gloves have leather palms.", True, False, ()),  # true, but no reason
        (GLOVE, "The blue gloves go with your hose: 4 others bought both.", True, False, ("4",)),
        (GLOVE, "The blue gloves and the hose, 3 bought, are of the same brand.", True, True, ("brand",)),
        (GLOVE, "The hose and the steel, as 3 others.", False, True, ("steel",)),
        (TEAPOT, "The Copper Teapot is popular.", False, False, ("popular",)),
        (TEAPOT, "The Steel Teapot is by Bolt, as your Copper Teapot is.", True, True, ()),
        (TEAPOT, "", False, False, ()),
    ],
)
def test_the_rule(known: Known, reason: str, item: bool, fact: bool, invented: tuple[str, ...]) -> None:
    assert RULE.judge(reason, known) == Judgement(item, fact, invented, False)


def test_what_repeats_itself_is_not_sound() -> None:
    said = GLOVE.told + " garden" * 5
    assert RULE.judge(GLOVE.told, GLOVE).sound
    assert RULE.judge(said, GLOVE).repeats
    assert not RULE.judge(said, GLOVE).sound


def test_the_model_writes_what_it_finds_most_probable_whatever_stands_beside(tmp_path: Path) -> None:
    folder = write_language_model(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    writer = FactWriter(model, tokenizer)
    known = [GLOVE, Known(2, "red glove because red glove", None, "it matches copper teapot"), TEAPOT]
    together = writer.write(known, 5)
    assert together == [writer.write([one], 5)[0] for one in known]
    assert all(text.startswith("The") and len(text.split()) <= 6 for text in together)


GOOD = "The Steel Teapot goes with your Copper Teapot: 12 bought both."


class Says:
    """Stands in for the language model."""

    def write(self, known: list[Known]) -> list[str]:
        return ["The Steel Teapot goes with your Copper Teapot: 12 bought both.", "The glove is a teapot."][
            : len(known)
        ]


def test_facts_stand_in_for_what_is_invented_and_nothing_for_no_facts() -> None:
    items = [
        Recommendation(rank, one.item, "B", one.title, 0.5, one.brand, reason=one.facts)
        for rank, one in enumerate((TEAPOT, GLOVE), start=1)
    ]
    items.append(Recommendation(3, 3, "B3", "Garden Hose", 0.1))
    written = written_from_facts(Recommendations(tuple(items), "model"), ITEMS, Says())  # type: ignore[arg-type]
    assert written == {2: GOOD, 0: GLOVE.told}
