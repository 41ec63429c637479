"""Text embeddings of the items.  Run it:  python -m stages.embed_items"""

import numpy as np

from symbiosis.core.artifacts import staged, write_json
from symbiosis.core.layout import EMBEDDINGS, ITEM_VECTORS, ITEMS
from symbiosis.core.stage import run
from symbiosis.recommender.data.item_texts import item_texts, read_items
from symbiosis.recommender.language.item_vectors import COMMON, MANIFEST, embed_items_and_common
from symbiosis.recommender.language.params import EmbedItemsParams


def work(params: EmbedItemsParams) -> None:
    """Read the items; write one vector an item, and what made them."""
    texts = item_texts(read_items(ITEMS))
    vectors, common = embed_items_and_common(texts, params)
    with staged(EMBEDDINGS) as (folder,):
        folder.mkdir()
        np.save(folder / ITEM_VECTORS.name, vectors)
        if common is not None:
            np.save(folder / COMMON, common)
        write_json(folder / MANIFEST, params.model_dump())
    empty = int((~vectors.any(axis=1)).sum())
    print(f"{len(vectors)} items, {vectors.shape[1]} dimensions, {empty} without a known word")


if __name__ == "__main__":
    run("embed_items", EmbedItemsParams, work)
