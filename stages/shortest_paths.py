"""Hop distances that prompts can ask for, and their score.  Run it:  python -m stages.shortest_paths"""

from symbiosis.core.artifacts import staged
from symbiosis.core.layout import DISTANCES, GRAPH
from symbiosis.core.stage import run
from symbiosis.graph.build import Graph
from symbiosis.graph.distance_tables import hops_name, write_distance_tables
from symbiosis.graph.params import ShortestPathsParams


def work(params: ShortestPathsParams) -> None:
    """Read the graph; write both distance matrices, the score of each distance and how often each occurs."""
    graph = Graph.load(GRAPH)
    with staged(DISTANCES) as (folder,):
        folder.mkdir()
        user_item, item_item = write_distance_tables(graph, folder, params)
    if not params.matrices:
        print("no distances, as `shortest_paths.matrices` is false")
        return
    for pairs, counts in (("user-item", user_item), ("item-item", item_item)):
        shares = (f"{hops_name(hops)} {counts[hops] / counts.total():.1%}" for hops in sorted(counts))
        print(f"{pairs} pairs by hops: " + ", ".join(shares))


if __name__ == "__main__":
    run("shortest_paths", ShortestPathsParams, work)
