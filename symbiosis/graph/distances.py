"""The stored hop distances of user-item and item-item pairs; `symbiosis.graph.search` finds them.

Pairs of users are not stored: a prompt holds one user, so that no prompt asks for them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from symbiosis.core.artifacts import read_array, read_json
from symbiosis.core.errors import InputError
from symbiosis.graph.connectivity import UNREACHABLE


@dataclass(frozen=True)
class HopDistances:
    """Hop distances and their score, as the stage `shortest-paths` stores them.

    Attributes
    ----------
    user_item, item_item
        uint8 of shapes (users, items) and (items, items), memory-mapped and read-only; 255 without a path. Stored
        item by item: the distances of one item to all users lie together, those of one user do not.
    connectivity
        The score R of each distance; float32 of shape (256,).
    """

    user_item: np.ndarray
    item_item: np.ndarray
    connectivity: np.ndarray

    @classmethod
    def load(cls, folder: Path | str) -> "HopDistances":
        """Map the distances of a folder.

        Raises
        ------
        InputError
            A file is missing, cut short or of another type or shape; the file is named. Or there are no matrices.
        """
        folder = Path(folder)
        summary = folder / "summary.json"
        if summary.exists() and read_json(summary).get("matrices") is False:
            raise InputError(
                f"{folder} holds no distances, which `pretrain.bias: paper` reads: set `shortest_paths.matrices` to "
                "true, or `pretrain.bias` to another"
            )
        user_item = read_array(folder / "user_item.npy", mmap=True)
        item_item = read_array(folder / "item_item.npy", mmap=True)
        connectivity = read_array(folder / "connectivity.npy")
        n_items = user_item.shape[-1] if user_item.ndim else 0
        for name, array, dtype, shape in (
            ("user_item", user_item, np.uint8, (len(user_item) if user_item.ndim else 0, n_items)),
            ("item_item", item_item, np.uint8, (n_items, n_items)),
            ("connectivity", connectivity, np.float32, (UNREACHABLE + 1,)),
        ):
            if array.dtype != dtype or array.shape != shape:
                raise InputError(
                    f"{folder / name}.npy is damaged (it holds {array.dtype} of shape {array.shape}, not "
                    f"{np.dtype(dtype)} of shape {shape}): delete {folder} and run `dvc repro`"
                )
        return cls(user_item, item_item, connectivity)
