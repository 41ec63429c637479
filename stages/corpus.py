"""Write the text corpus from item contents, reviews and interactions.  Run it:  python -m stages.corpus"""

from symbiosis.core.artifacts import read_frame, staged, write_json
from symbiosis.core.layout import CORPUS, DOCUMENTS, GRAPH, ITEMS, TRAIN
from symbiosis.core.stage import run
from symbiosis.graph.build import Graph
from symbiosis.recommender.data.item_texts import read_items
from symbiosis.recommender.language.corpus import build_corpus
from symbiosis.recommender.language.params import CorpusParams


def work(params: CorpusParams) -> None:
    """Read items, training interactions and graph; write the documents and their counts by kind."""
    graph = Graph.load(GRAPH)
    items = read_items(ITEMS)
    train = read_frame(TRAIN)
    documents = build_corpus(items, train, graph, params)
    counts = documents.group_by("kind").len().sort("kind")
    with staged(CORPUS) as (folder,):
        folder.mkdir()
        documents.write_parquet(folder / DOCUMENTS.name)
        write_json(
            folder / "summary.json",
            {"users": graph.n_users, "items": graph.n_items, "documents": dict(counts.iter_rows())},
        )
    print(f"{len(documents)} documents: " + ", ".join(f"{kind} {count}" for kind, count in counts.iter_rows()))


if __name__ == "__main__":
    run("corpus", CorpusParams, work)
