"""Build the train-only user-item graph and the relations between items.  Run it:  python -m stages.build_graph"""

from symbiosis.core.artifacts import read_frame, staged, write_json
from symbiosis.core.layout import GRAPH, GRAPH_EDGES, ITEMS, USERS
from symbiosis.core.stage import run
from symbiosis.graph.build import build_graph, summarise
from symbiosis.graph.params import BuildGraphParams


def work(params: BuildGraphParams) -> None:
    """Read items and the edges that the graph may see; write the graph's arrays, names and summary."""
    n_users = len(read_frame(USERS, ["user"]))
    items = read_frame(ITEMS, ["item", "brand", "categories"])
    edges = read_frame(GRAPH_EDGES)
    graph = build_graph(n_users, items, edges, params)
    summary = summarise(graph)
    with staged(GRAPH) as (folder,):
        folder.mkdir()
        graph.save(folder)
        write_json(folder / "summary.json", summary)
    print(
        f"{summary['users']} users, {summary['items']} items, {summary['edges']} edges, "
        f"{summary['connected_components']} connected components, "
        f"{summary['brands']} brands, {summary['categories']} categories"
    )


if __name__ == "__main__":
    run("build_graph", BuildGraphParams, work)
