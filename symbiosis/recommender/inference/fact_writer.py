"""Reasons in sentences, written by a pre-trained language model from facts, and the rule that checks them.

The scratch model of this project writes from its own memory (`symbiosis.recommender.inference.reasons`); the one here,
SmolLM2-135M, is given the title and the first of the facts that `symbiosis.recommender.inference.grounds` found, with
examples, and only puts it into a sentence. It still invents things, so each sentence is checked against a rule, and the
facts themselves stand in for what fails.
"""

import copy
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from symbiosis.recommender.data.item_texts import item_texts
from symbiosis.recommender.inference.asking import Recommendations

if TYPE_CHECKING:
    import torch

EXAMPLES = """\
Item: Cedar Bird House
Fact: bought with Garden Bird Feeder by 12 others
Reason: The Cedar Bird House goes with your Garden Bird Feeder, for 12 others bought both.

Item: Trail Socks, 3 Pairs
Fact: like your words: light, socks
Reason: The Trail Socks are what you asked for: light socks.

Item: Copper Kettle
Fact: same category: Kitchen Steel
Reason: The Copper Kettle is in the category Kitchen Steel, like what you have.

Item: Wooden Train
Fact: popular: bought by 31
Reason: The Wooden Train is popular and was bought by 31.

Item: Linen Shirt
Fact: same brand as Wool Scarf
Reason: The Linen Shirt is of the same brand as your Wool Scarf.

"""
_WORDS_OF_TITLE = 10
"""That the model is given: it copies a long title without end."""
TOLD = ("title", "brand", "categories")
"""Fields whose words make up what a catalogue is about."""
_RARE = 0.05
"""A word in a larger share of the items names none of them."""
_ENOUGH = 2
"""Words that name a title or a fact; all of them where it has fewer."""
_MOST_OFTEN = 4
_BATCH = 16
_WORD = re.compile(r"[^\W\d_]{4,}|\d+(?:[.,]\d+)*")


def words_of(text: str) -> set[str]:
    """Words of four letters or more without their plural, and numbers.

    Examples
    --------
    >>> sorted(words_of("12 Cedar bird Houses, the 1.75 mm"))
    ['1.75', '12', 'bird', 'cedar', 'house']
    """
    return {word.rstrip("s") if len(word) > 4 else word for word in _WORD.findall(text.casefold())}


# How facts are told, and what a sentence around them says: words that claim nothing of an item.
_FRAME = frozenset(
    words_of(
        """
        bought with other others same like your words item reason facts goes both also because this that they them
        their from have been people customers purchased users user great good perfect choice match matches well together
        what asked when while which will would want need needs
        """
    )
)
_CLAIMS = words_of(EXAMPLES) - _FRAME
"""What only a fact can say: `brand`, `category`, `popular`, and what the examples are about."""


@dataclass(frozen=True)
class Known:
    """What a reason may be written from.

    Attributes
    ----------
    item
        Number.
    title, brand
        Of the item; the brand is None if it is not known.
    facts
        As `symbiosis.recommender.inference.grounds.Grounds.reasons` tells them, between semicolons.
    """

    item: int
    title: str
    brand: str | None
    facts: str

    @property
    def told(self) -> str:
        """Title and facts in one line."""
        return f"{self.title}: {self.facts}" if self.facts else self.title


@dataclass(frozen=True)
class Judgement:
    """What the rule finds in a reason.

    Attributes
    ----------
    names_item, names_fact
        Whether two words of its title are there that no fact has, and two words of one fact that the title has not (or
        all, where there are fewer).
    invented
        Words that belong to other items of the catalogue, numbers and claims (`brand`, `category`, `popular`) that are
        in no fact and nowhere in the item's texts.
    repeats
        Whether a word is said more than four times.
    """

    names_item: bool
    names_fact: bool
    invented: tuple[str, ...]
    repeats: bool

    @property
    def sound(self) -> bool:
        """Whether all is as it should be."""
        return self.names_item and self.names_fact and not self.invented and not self.repeats


class Rule:
    """Checks reasons against what is known.

    Parameters
    ----------
    items
        ``title, brand, categories, description``, one row an item, in order.
    """

    def __init__(self, items: pl.DataFrame) -> None:
        counts = Counter(word for text in item_texts(items, TOLD) for word in words_of(text))
        self._rare = {word for word, count in counts.items() if count <= max(1, _RARE * len(items))}
        self._texts = item_texts(items)

    def judge(self, reason: str, known: Known) -> Judgement:
        """Judge a reason of one or more sentences."""
        said, title = words_of(reason), words_of(known.title)
        pieces = [words_of(piece) - _FRAME for piece in known.facts.split("; ")]
        if known.brand and "same brand" in known.facts:
            pieces.append(words_of(known.brand))
        facts = set().union(*pieces)
        # Of a fact that shares words with the title, the others are what tells that it was named.
        telling = [piece - title or piece for piece in pieces]
        true = title | facts | words_of(self._texts[known.item]) | words_of(known.facts) | _FRAME
        invented = sorted(word for word in said - true if word in self._rare or word in _CLAIMS or word[0].isdigit())
        repeats = max(Counter(reason.lower().split()).values(), default=0) > _MOST_OFTEN
        return Judgement(
            _names(said, title - facts or title), any(_names(said, one) for one in telling), tuple(invented), repeats
        )


def _names(said: set[str], words: set[str]) -> bool:
    return bool(words) and len(said & words) >= min(_ENOUGH, len(words))


def _prompt(known: Known) -> str:
    title = " ".join(known.title.split()[:_WORDS_OF_TITLE])
    return f"Item: {title}\nFact: {known.facts.split('; ')[0]}\nReason: The"


class FactWriter:
    """SmolLM2-135M, asked to put facts into a sentence; see `symbiosis.text.smollm2`.

    Parameters
    ----------
    model, tokenizer
        Any causal language model of `transformers` with its tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        tokenizer.padding_side = "left"
        vocabulary = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        newline = [number for number, token in enumerate(vocabulary) if "\u010a" in token or "\n" in token]
        self._ends = [tokenizer.eos_token_id, *newline]  # bytes are written as letters: U+010A is the line feed

    @classmethod
    def load(cls) -> "FactWriter":
        """Load SmolLM2-135M.

        Raises
        ------
        InputError
            Its package is not installed.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from symbiosis.text.smollm2 import converted, quiet_loading

        folder = converted()
        quiet_loading()
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        return cls(model, AutoTokenizer.from_pretrained(folder))

    def write(self, known: Sequence[Known], maximum_tokens: int = 40) -> list[str]:
        """Write a sentence for each item, the most probable one; whether it is true is for `Rule` to say.

        Parameters
        ----------
        known
            Of each item.
        maximum_tokens
            Longest sentence; what is longer is cut.
        """
        import torch

        prefix = self._examples
        written = []
        for start in range(0, len(known), _BATCH):
            prompts = [_prompt(one) for one in known[start : start + _BATCH]]
            given = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
            ids = torch.cat([prefix.expand(len(prompts), -1), given["input_ids"]], dim=1)
            mask = torch.cat([torch.ones_like(prefix).expand(len(prompts), -1), given["attention_mask"]], dim=1)
            read = copy.deepcopy(self._read_examples)
            read.batch_repeat_interleave(len(prompts))
            with torch.inference_mode():
                made = self.model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    past_key_values=read,
                    max_new_tokens=maximum_tokens,
                    do_sample=False,
                    eos_token_id=self._ends,
                    pad_token_id=self.tokenizer.eos_token_id,
                )
            texts = self.tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)
            written += [" ".join(f"The{text}".split()) for text in texts]
        return written

    @cached_property
    def _examples(self) -> "torch.Tensor":
        ids: torch.Tensor = self.tokenizer(EXAMPLES, return_tensors="pt", add_special_tokens=False)["input_ids"]
        return ids

    @cached_property
    def _read_examples(self) -> Any:
        """Keys and values of the examples: they are three quarters of a prompt, and read once."""
        import torch

        with torch.inference_mode():
            return self.model(self._examples, use_cache=True).past_key_values


def written_from_facts(found: Recommendations, items: pl.DataFrame, writer: FactWriter) -> dict[int, str]:
    """Write a reason for each recommended item that something speaks for; where the rule refuses it, the facts.

    Parameters
    ----------
    found
        With their facts.
    items
        ``title, brand, categories, description``, one row an item, in order.
    writer
        Writes them.

    Returns
    -------
    dict
        Reasons by item.
    """
    known = [Known(one.item, one.title, one.brand, one.reason) for one in found.items if one.reason]
    rule = Rule(items)
    return {
        one.item: text if rule.judge(text, one).sound else one.told
        for one, text in zip(known, writer.write(known), strict=True)
    }
