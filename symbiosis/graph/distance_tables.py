"""All that prompts can ask of hop distances: the tables, the score of each distance, and how often each occurs."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from symbiosis.core.artifacts import write_json
from symbiosis.core.errors import InputError
from symbiosis.graph.build import Graph
from symbiosis.graph.connectivity import UNREACHABLE, connectivity_table
from symbiosis.graph.params import ShortestPathsParams
from symbiosis.graph.search import distances_between_users, write_distances


def write_distance_tables(graph: Graph, folder: Path, params: ShortestPathsParams) -> tuple[Counter[int], Counter[int]]:
    """Write both distance matrices, ``connectivity.npy`` and ``summary.json`` into an existing folder.

    Without `params.matrices` there is nothing but a summary that says so.

    Returns
    -------
    tuple of Counter
        Pairs of users and items, and of items, by their distance.

    Raises
    ------
    InputError
        The matrices are larger than the room on the disk, or a distance does not fit into a byte.
    """
    if not params.matrices:
        write_json(folder / "summary.json", {"matrices": False})
        return Counter(), Counter()
    size, free = (graph.n_users + graph.n_items) * graph.n_items, shutil.disk_usage(folder).free
    if size > free:
        raise InputError(
            f"the distances of {graph.n_users:,} users and {graph.n_items:,} items take {size / 1e9:,.1f} GB, and "
            f"{free / 1e9:,.1f} GB of the disk are free: set `shortest_paths.matrices` to false, unless "
            "`pretrain.bias` is paper, or free some disk space"
        )
    user_item, item_item = write_distances(graph, folder, params.block, params.threads)
    occurring = set(user_item) | set(item_item)
    if max(occurring) < params.clip:  # else the smallest score is 0 whatever the distances between users
        occurring |= set(distances_between_users(graph, params.block, params.threads))
    connectivity = connectivity_table(occurring, params.clip, params.damping)
    np.save(folder / "connectivity.npy", connectivity)
    summary = {
        "user_item_pairs": {hops_name(hops): user_item[hops] for hops in sorted(user_item)},
        "item_item_pairs": {hops_name(hops): item_item[hops] for hops in sorted(item_item)},
        "connectivity": {hops_name(hops): round(float(connectivity[hops]), 6) for hops in sorted(occurring)},
    }
    write_json(folder / "summary.json", summary)
    return user_item, item_item


def hops_name(hops: int) -> str:
    """Name a distance for people."""
    return "unreachable" if hops == UNREACHABLE else str(hops)
