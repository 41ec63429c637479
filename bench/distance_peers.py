"""Hop distances with other libraries, for `bench.distances`."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symbiosis.graph.build import Graph
from symbiosis.graph.connectivity import UNREACHABLE

THREADS = 2

Search = Callable[[Sequence[int]], Any]


def with_networkx(graph: Graph) -> Search:
    """As `all_pairs_shortest_path_length`, source by source."""
    import networkx as nx

    network = graph.to_networkx()
    return lambda sources: [nx.single_source_shortest_path_length(network, source) for source in sources]


def with_scipy(graph: Graph) -> Search:
    """`shortest_path` without weights."""
    from scipy.sparse.csgraph import shortest_path

    matrix = adjacency(graph, np.float64)
    return lambda sources: shortest_path(matrix, method="D", unweighted=True, indices=sources)


def with_scipy_products(graph: Graph) -> Search:
    """Products of the sparse adjacency matrix with dense blocks, until no new node is reached."""
    matrix = adjacency(graph, np.float32)

    def search(sources: Sequence[int]) -> np.ndarray:
        hops = np.full((matrix.shape[0], len(sources)), np.inf, dtype=np.float32)
        frontier = np.zeros_like(hops)
        frontier[sources, np.arange(len(sources))] = 1
        step = 0
        while frontier.any():
            hops[frontier > 0] = step
            frontier = ((matrix @ frontier > 0) & np.isinf(hops)).astype(np.float32)
            step += 1
        return hops

    return search


def with_igraph(graph: Graph) -> Search:
    """`Graph.distances`."""
    import igraph

    network = igraph.Graph(n=graph.n_users + graph.n_items, edges=edges(graph))
    return lambda sources: network.distances(source=sources)


def with_rustworkx_layers(graph: Graph) -> Search:
    """`bfs_layers`, source by source."""
    network = to_rustworkx(graph)
    import rustworkx

    return lambda sources: [rustworkx.bfs_layers(network, [source]) for source in sources]


def with_rustworkx_matrix(graph: Graph) -> Search:
    """`distance_matrix`, parallel; it always computes all sources."""
    network = to_rustworkx(graph)
    import rustworkx

    return lambda sources: rustworkx.distance_matrix(network, null_value=np.inf)


def with_networkit(graph: Graph) -> Search:
    """`SPSP`, parallel."""
    import networkit

    users, items = edges(graph).T
    n_nodes = graph.n_users + graph.n_items
    network = networkit.GraphFromCoo((np.ones(len(users)), (users, items)), n=n_nodes, directed=False)
    networkit.setNumberOfThreads(THREADS)

    def search(sources: Sequence[int]) -> Any:
        paths = networkit.distance.SPSP(network, list(sources))
        paths.run()
        return paths.getDistances(asarray=True)

    return search


def to_rustworkx(graph: Graph) -> Any:
    """Convert the graph to rustworkx."""
    import rustworkx

    network = rustworkx.PyGraph(multigraph=False)
    network.add_nodes_from(range(graph.n_users + graph.n_items))
    network.add_edges_from_no_data([tuple(edge) for edge in edges(graph).tolist()])
    return network


def edges(graph: Graph) -> np.ndarray:
    """Return (edges, 2), the node numbers of user and item."""
    users = np.repeat(np.arange(graph.n_users), np.diff(graph.user_offsets))
    return np.stack([users, graph.user_items + graph.n_users], axis=1)


def adjacency(graph: Graph, dtype: type) -> Any:
    """Return the symmetric adjacency matrix."""
    from scipy.sparse import coo_array

    users, items = edges(graph).T
    n_nodes = graph.n_users + graph.n_items
    rows, columns = np.concatenate([users, items]), np.concatenate([items, users])
    return coo_array((np.ones(len(rows), dtype=dtype), (rows, columns)), shape=(n_nodes, n_nodes)).tocsr()


# name: (method, package, sources at once, sources in the sample; 0 for all of them)
PEERS: dict[str, tuple[Callable[[Graph], Search], str, int, int]] = {
    "networkx": (with_networkx, "networkx", 1, 300),
    "scipy shortest_path": (with_scipy, "scipy", 256, 1024),
    "scipy sparse products": (with_scipy_products, "scipy", 256, 1024),
    "igraph": (with_igraph, "igraph", 256, 1024),
    "rustworkx bfs_layers": (with_rustworkx_layers, "rustworkx", 1, 1024),
    "rustworkx distance_matrix": (with_rustworkx_matrix, "rustworkx", 0, 0),
    "networkit SPSP": (with_networkit, "networkit", 256, 2048),
}


def histogram(result: Any, n_nodes: int) -> Counter[int]:
    """Count each distance in a peer's result for some sources; not part of the timing."""
    counts: Counter[int] = Counter()
    for row in result if isinstance(result, list) else [result]:
        if isinstance(row, dict):
            counts.update(row.values())
            counts[UNREACHABLE] += n_nodes - len(row)
        elif isinstance(row, list) and row and isinstance(row[0], list):
            counts.update({hops: len(layer) for hops, layer in enumerate(row)})
            counts[UNREACHABLE] += n_nodes - sum(map(len, row))
        else:
            hops = np.minimum(np.asarray(row, dtype=np.float64), UNREACHABLE).astype(np.uint8)
            counts.update(dict(enumerate(np.bincount(hops.ravel()).tolist())))
    return +counts
