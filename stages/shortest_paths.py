"""Hop distances that prompts can ask for, and their score.  Run it:  python -m stages.shortest_paths"""

import numpy as np

from symbiosis.core.artifacts import staged, write_json
from symbiosis.core.layout import DISTANCES, GRAPH
from symbiosis.core.stage import run
from symbiosis.graph.build import Graph
from symbiosis.graph.connectivity import UNREACHABLE, connectivity_table
from symbiosis.graph.params import ShortestPathsParams
from symbiosis.graph.search import distances_between_users, write_distances


def work(params: ShortestPathsParams) -> None:
    """Read the graph; write both distance matrices, the score of each distance and how often each occurs."""
    graph = Graph.load(GRAPH)
    with staged(DISTANCES) as (folder,):
        folder.mkdir()
        user_item, item_item = write_distances(graph, folder, params.block, params.threads)
        occurring = set(user_item) | set(item_item)
        if max(occurring) < params.clip:  # else the smallest score is 0 whatever the distances between users
            occurring |= set(distances_between_users(graph, params.block, params.threads))
        connectivity = connectivity_table(occurring, params.clip, params.damping)
        np.save(folder / "connectivity.npy", connectivity)
        summary = {
            "user_item_pairs": {_name(hops): user_item[hops] for hops in sorted(user_item)},
            "item_item_pairs": {_name(hops): item_item[hops] for hops in sorted(item_item)},
            "connectivity": {_name(hops): round(float(connectivity[hops]), 6) for hops in sorted(occurring)},
        }
        write_json(folder / "summary.json", summary)
    for pairs, counts in (("user-item", user_item), ("item-item", item_item)):
        shares = (f"{_name(hops)} {counts[hops] / counts.total():.1%}" for hops in sorted(counts))
        print(f"{pairs} pairs by hops: " + ", ".join(shares))


def _name(hops: int) -> str:
    return "unreachable" if hops == UNREACHABLE else str(hops)


if __name__ == "__main__":
    run("shortest_paths", ShortestPathsParams, work)
