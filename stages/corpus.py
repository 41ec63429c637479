"""Write the text corpus from item contents, reviews and interactions.  Run it:  python -m stages.corpus"""

from collections import Counter

from symbiosis.core.artifacts import FrameFile, read_frames, staged, write_json
from symbiosis.core.layout import CORPUS, DOCUMENTS, GRAPH, ITEMS, TRAIN
from symbiosis.core.stage import run
from symbiosis.graph.build import Graph
from symbiosis.recommender.data.item_texts import read_items
from symbiosis.recommender.language.corpus import corpus
from symbiosis.recommender.language.params import CorpusParams


def work(params: CorpusParams) -> None:
    """Read items, training interactions and graph; write the documents and their counts by kind."""
    graph = Graph.load(GRAPH)
    items = read_items(ITEMS)
    counts: Counter[str] = Counter()
    with staged(CORPUS) as (folder,):
        folder.mkdir()
        file = FrameFile(folder / DOCUMENTS.name)
        for documents in corpus(items, read_frames(TRAIN, ["user", "item", "review"]), graph, params):
            counts.update(dict(documents.group_by("kind").len().iter_rows()))
            file.add(documents)
        file.close()
        by_kind = dict(sorted(counts.items()))
        write_json(
            folder / "summary.json",
            {"users": graph.n_users, "items": graph.n_items, "documents": by_kind},
        )
    print(f"{counts.total()} documents: " + ", ".join(f"{kind} {count}" for kind, count in by_kind.items()))


if __name__ == "__main__":
    run("corpus", CorpusParams, work)
