"""Cross-fitted walks and what items have in common: the graph's terms in the item logits.

Run it:  python -m stages.propagation
"""

from symbiosis.core.artifacts import read_array, staged
from symbiosis.core.layout import GRAPH, ITEM_VECTORS, PROPAGATION
from symbiosis.core.stage import run
from symbiosis.graph.build import Graph
from symbiosis.recommender.network.cross_fitting import fit_propagation
from symbiosis.recommender.network.params import PropagationParams
from symbiosis.recommender.network.relations import Relations


def work(params: PropagationParams) -> None:
    """Read the train-only graph and the item embeddings; write the walks of each fold and of all users."""
    graph = Graph.load(GRAPH)
    relations = Relations.of(graph, read_array(ITEM_VECTORS))
    propagation = fit_propagation(graph.interactions(), relations, params)
    with staged(PROPAGATION) as (folder,):
        folder.mkdir()
        propagation.save(folder)
    print(f"{params.folds} folds of users, {propagation.whole.nnz} links between items")


if __name__ == "__main__":
    run("propagation", PropagationParams, work)
