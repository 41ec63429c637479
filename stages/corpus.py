"""Tell contents, reviews, second-order relations and interactions in words.  Run it:  python -m stages.corpus"""

from symbiosis.core.artifacts import read_frame, staged, write_json
from symbiosis.graph.build import Graph
from symbiosis.recommender.language.corpus import build_corpus
from symbiosis.recommender.language.params import CorpusParams
from symbiosis.stage import run


def work(params: CorpusParams) -> None:
    """Read items, training interactions and graph; write the documents and their counts by kind."""
    graph = Graph.load("data/graph")
    items = read_frame("data/clean/items.parquet")
    train = read_frame("data/clean/train.parquet")
    documents = build_corpus(items, train, graph, params)
    counts = documents.group_by("kind").len().sort("kind")
    with staged("data/corpus") as (folder,):
        folder.mkdir()
        documents.write_parquet(folder / "documents.parquet")
        write_json(
            folder / "summary.json",
            {"users": graph.n_users, "items": graph.n_items, "documents": dict(counts.iter_rows())},
        )
    print(f"{len(documents)} documents: " + ", ".join(f"{kind} {count}" for kind, count in counts.iter_rows()))


if __name__ == "__main__":
    run("corpus", CorpusParams, work)
