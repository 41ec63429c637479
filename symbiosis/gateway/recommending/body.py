"""What a client asks of the recommender, and the answer as JSON."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt

from symbiosis.core.text_files import mended
from symbiosis.recommender.inference.asking import (
    LONGEST_TEXT,
    MOST_ITEMS,
    WEIGHT,
    RecommendationRequest,
    Recommendations,
)

MOST_ASKED, MOST_NAMES = 1_000, 1_000
MOST_WRITTEN = 10
"""The model writes a reason word by word, the slower the larger its network."""

# JSON may hold halves of surrogate pairs, which neither an encoder nor an answer can take.
Text = Annotated[str, AfterValidator(mended)]
Name = Annotated[Text, Field(min_length=1, max_length=1_000)]
Names = Annotated[tuple[Name, ...], Field(max_length=MOST_NAMES)]
Ids = Annotated[tuple[Name, ...], Field(max_length=100 * MOST_ITEMS)]


class RecommendationBody(BaseModel):
    """Whom to recommend to, and which items may be: a user, a guest's session, a text, or several of them."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    user: Name | Annotated[StrictInt, Field(ge=0, lt=2**63)] | None = Field(
        None, description="Original id or number; none: a guest."
    )
    session: Annotated[tuple[Name, ...], Field(max_length=MOST_ITEMS)] = Field(
        (), description="Items, oldest first: a guest's, or a known user's newer ones."
    )
    text: Annotated[Text, Field(max_length=LONGEST_TEXT)] | None = Field(None, description="Free text.")
    text_weight: float = Field(WEIGHT, ge=0, description="Of the text beside the history.")
    count: int = Field(10, ge=1, le=MOST_ASKED, description="Items at most.")
    allowed: Ids | None = Field(None, description="Only these items: what is in stock.")
    excluded: Ids = Field((), description="None of these items.")
    brands: Names = Field((), description="Only these brands, by whole names in any case.")
    categories: Names = Field((), description="Only these categories, by whole names in any case.")
    price_from: float | None = Field(None, ge=0, description="USD; leaves out items without a price.")
    price_to: float | None = Field(None, ge=0, description="USD; leaves out items without a price.")
    repeat_purchases: bool = Field(False, description="Items that the user has are candidates, too.")
    per_brand_limit: int | None = Field(None, ge=1, description="So many items of a brand at most.")
    written: bool = Field(False, description=f"The model writes reasons, too; `count` is at most {MOST_WRITTEN}.")

    def request(self) -> RecommendationRequest:
        """Return what the recommender is asked.

        Raises
        ------
        InputError
            It contradicts itself.
        """
        return RecommendationRequest(**self.model_dump(exclude={"written"}))


class RecommendedItem(BaseModel):
    """An item, and what speaks for it."""

    model_config = ConfigDict(extra="forbid")

    rank: int = Field(description="1 is the best.")
    item_id: str
    title: str = Field(description="The id where there is none.")
    brand: str | None
    price: float | None = Field(description="USD.")
    score: float = Field(description="What the items are ranked by.")
    similarity: float | None = Field(description="Of the text asked for and the item's, -1 to 1.")
    reason: str = Field(description="Facts of the training data and the texts; empty if there are none.")
    written_reason: str | None = Field(None, description="The model's own words, if they were asked for.")


class RecommendationAnswer(BaseModel):
    """The best items, and how they were found."""

    model_config = ConfigDict(extra="forbid")

    items: list[RecommendedItem]
    method: Literal["model", "text", "popularity"]
    note: str | None = Field(description="What was asked for and could not be done.")
    model: str = Field(description="Digest of the model.")


def document(found: Recommendations, written: Mapping[int, str], note: str | None = None) -> dict[str, Any]:
    """Return an answer as JSON.

    Parameters
    ----------
    found
        The answer.
    written
        Reasons in the model's words, by item; empty where none was asked for.
    note
        What could not be done, beside the answer's own note.
    """
    notes = [text for text in (found.note, note) if text]
    return {
        "items": [
            {
                "rank": one.rank,
                "item_id": one.item_id,
                "title": one.title,
                "brand": one.brand,
                "price": one.price,
                "score": one.score,
                "similarity": one.similarity,
                "reason": one.reason,
                **({"written_reason": written[one.item]} if one.item in written else {}),
            }
            for one in found.items
        ],
        "method": found.method,
        "note": "; ".join(notes) or None,
        "model": found.model,
    }
