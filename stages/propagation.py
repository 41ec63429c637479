"""Cross-fitted item-to-item weights: the graph term of the item logits.  Run it:  python -m stages.propagation"""

from symbiosis.artifacts import staged
from symbiosis.graph.build import Graph
from symbiosis.recommender.cross_fitting import fit_propagation
from symbiosis.recommender.params import PropagationParams
from symbiosis.stage import run


def work(params: PropagationParams) -> None:
    """Read the train-only graph; write the weights of each fold and of all users."""
    propagation = fit_propagation(Graph.load("data/graph").interactions(), params)
    with staged("data/propagation") as (folder,):
        folder.mkdir()
        propagation.save(folder)
    print(f"{params.folds} folds of users, {propagation.whole.nnz} weights, unit {propagation.unit:.4g}")


if __name__ == "__main__":
    run("propagation", PropagationParams, work)
