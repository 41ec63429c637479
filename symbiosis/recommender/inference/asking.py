"""What the recommender is asked and what it answers."""

import math
from dataclasses import dataclass
from typing import Literal

from symbiosis.core.errors import InputError, quoted

WEIGHT = 10.0
"""Weight of the similarity to a text: of 5, 10, 20 and 40 the best on validation for the categories of the embedded
data and the title words of gift_cards18; for the title words of the embedded data 20 is a little better."""

MOST_ITEMS, LONGEST_TEXT = 10_000, 10_000
"""Items of a session, of `allowed` and of `excluded` each are at most a hundred times as many; characters of a text."""

HEAVIEST = 1_000_000
"""Of `text_weight`: scores are float32."""

Method = Literal["model", "text", "popularity"]


@dataclass(frozen=True)
class RecommendationRequest:
    """Whom to recommend to, and which items are candidates.

    Attributes
    ----------
    user
        Original id or number; None for a guest.
    session
        Item ids, oldest first: what a guest looked at, or what a known user took after the training data.
    text
        Free text: rank for these words too, or, without user and session, for them alone.
    text_weight
        Weight of the similarity to the text beside the score by history.
    count
        Items at most.
    allowed
        If given, only these items are candidates: what is in stock.
    excluded
        These items are none.
    brands, categories
        If given, candidates are of one of the brands, and of one of the categories.
    price_from, price_to
        If given, candidates have a price within these bounds; an item without a price does not.
    repeat_purchases
        Whether what the user already took is a candidate too.
    per_brand_limit
        So many items of a brand at most; items without a brand are not limited.
    """

    user: str | int | None = None
    session: tuple[str, ...] = ()
    text: str | None = None
    text_weight: float = WEIGHT
    count: int = 10
    allowed: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    price_from: float | None = None
    price_to: float | None = None
    repeat_purchases: bool = False
    per_brand_limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be answered.

        Raises
        ------
        InputError
            A value is out of range, or there is neither a user nor a session nor a text.
        """
        if self.user is None and not self.session and self.text is None:
            raise InputError("whom to recommend to is missing: give a user, the items of a session, or a text")
        if self.count < 1:
            raise InputError(f"count {self.count} must be at least 1")
        if self.text is not None and not self.text.strip():
            raise InputError("the text is empty: give words, or leave it out")
        if self.text is not None and len(self.text) > LONGEST_TEXT:
            raise InputError(f"the text has {len(self.text):,} characters: give at most {LONGEST_TEXT:,}")
        if not 0 <= self.text_weight <= HEAVIEST:
            raise InputError(f"text weight {self.text_weight:g} must be a number from 0 to {HEAVIEST:,}")
        for name in ("price_from", "price_to"):
            price = getattr(self, name)
            if price is not None and not 0 <= price < math.inf:
                raise InputError(f"{name} {price} must be a number not below 0")
        if self.price_from is not None and self.price_to is not None and self.price_from > self.price_to:
            raise InputError(f"price_from {self.price_from} is above price_to {self.price_to}: exchange them")
        if self.per_brand_limit is not None and self.per_brand_limit < 1:
            raise InputError(f"per_brand_limit {self.per_brand_limit} must be at least 1; leave it out for no limit")
        if len(self.session) > MOST_ITEMS:
            raise InputError(f"the session has {len(self.session):,} items: give at most the last {MOST_ITEMS:,}")
        for name in ("session", "allowed", "excluded", "brands", "categories"):
            for value in getattr(self, name) or ():
                if not isinstance(value, str):
                    raise InputError(f"{name} holds {quoted(value)}: give text, in quotes")


@dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes
    ----------
    rank
        1 is the best.
    item, item_id, title
        Number, original id and title; the id where the item has no title.
    brand, price
        None where they are not known.
    score
        What the items are ranked by: a log probability up to a constant, plus the weighted similarity if there is a
        text; by popularity, the number of users who took the item.
    similarity
        Cosine of the text asked for and the item's, in -1..1; None without a text.
    reason
        What is known to speak for the item; empty if nothing is.
    """

    rank: int
    item: int
    item_id: str
    title: str
    score: float
    brand: str | None = None
    price: float | None = None
    similarity: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Recommendations:
    """The answer to a request.

    Attributes
    ----------
    items
        The best first; fewer than asked for if there are fewer candidates.
    method
        ``model``: by history (and text, if given); ``text``: by the text alone; ``popularity``: the model could not
        answer.
    note
        One line that says what was asked for and could not be done; None if all could.
    model
        Digest of the model, empty if there is none.
    """

    items: tuple[Recommendation, ...]
    method: Method
    note: str | None = None
    model: str = ""
