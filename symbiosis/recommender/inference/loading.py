"""Read the trained recommender: what the stages `finetune` and `rerank` wrote, and what they read."""

from pathlib import Path

from symbiosis.core.errors import InputError
from symbiosis.core.layout import DISTANCES, FINETUNED, GRAPH, PROPAGATION, RERANKER
from symbiosis.recommender.inference.scoring import Scorer
from symbiosis.recommender.inference.settings import TrainingSettings
from symbiosis.recommender.language.prompts import Prompts
from symbiosis.recommender.language.tokens import Vocabulary
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.graph_terms import Propagation
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.reranking.reranker import Reranker

_NEEDED = ("graph_term", "language_model", "personal_gates", "maximum_items", "seed", "mean_rating")


def load_scorer(root: Path | str) -> Scorer:
    """Read the model and, of the graph, what its settings ask for; guests can be scored.

    Parameters
    ----------
    root
        Holds ``data/`` and ``models/``.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    return load_known_scorer(root).extended()


def load_known_scorer(root: Path | str) -> Scorer:
    """Read the same, for the users and items of the training alone, to be extended.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    scorer = load_model(root)
    if scorer.mean_rating is None:  # predicted ratings are numbers that mean something: their order is not changed
        scorer.reranker = reranker = Reranker.load(Path(root) / RERANKER)
        if reranker and len(reranker.known) != scorer.model.n_items:
            raise InputError(f"{Path(root) / RERANKER} is of {len(reranker.known)} items, not {scorer.model.n_items}")
    return scorer


def load_model(root: Path | str) -> Scorer:
    """Read the model alone, without a re-ranker, for the users and items of the training.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    root = Path(root)
    folder, propagation = root / FINETUNED, root / PROPAGATION
    settings = TrainingSettings.load(folder, *_NEEDED, stage="finetune")
    model = GraphGPT2.load(folder).eval()
    vocabulary = Vocabulary.load(folder / "tokenizer.json", model.n_users, model.n_items)
    bias = AttentionBias.load(settings.bias, model, root / GRAPH, root / DISTANCES)
    strengths = Propagation.load(propagation, cross_fitted=False) if settings.graph_term else None
    if strengths and len(strengths.relations.texts) != model.n_items:
        raise InputError(f"{propagation} is of {len(strengths.relations.texts)} items, not {model.n_items}")
    if vocabulary.n_words != model.n_words:
        raise InputError(f"{folder} has {model.n_words} words, its tokenizer.json {vocabulary.n_words}")
    return Scorer(
        model,
        Prompts(vocabulary, settings.maximum_items),
        bias,
        strengths,
        settings.seed,
        language_model=settings.language_model,
        personal_gates=settings.personal_gates,
        mean_rating=settings.mean_rating,
    )
