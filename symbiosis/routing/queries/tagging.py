"""From the params to the domain of each training query."""

from collections.abc import Sequence

import numpy as np

from symbiosis.routing.queries.llm_tagger import LlmTagger
from symbiosis.routing.queries.params import TrainEncoderParams
from symbiosis.routing.queries.tags import Clusters, KeyPhrases, Metadata, TaggedQueries, TagSource, group_tags


def source_of(params: TrainEncoderParams) -> TagSource:
    """Return the source of tags that the params name."""
    chosen = params.tags
    if chosen.source == "metadata":
        return Metadata()
    if chosen.source == "clusters":
        return Clusters(chosen.domains, params.seed)
    if chosen.source == "key_phrases":
        return KeyPhrases(chosen.minimum, chosen.phrases)
    llm = chosen.llm
    return LlmTagger(llm.url, llm.model, llm.key_variable, llm.timeout_s, llm.attempts)


def tag(
    texts: Sequence[str],
    domains: Sequence[str],
    subdomains: Sequence[str | None],
    embeddings: np.ndarray,
    params: TrainEncoderParams,
) -> tuple[np.ndarray, list[str]]:
    """Tag training queries and group the tags; see `symbiosis.routing.queries.tags.group_tags` for what is returned.

    Parameters
    ----------
    texts, domains, subdomains
        Of N offline queries.
    embeddings
        (N, d), of the encoder before fine-tuning.
    params
        The stage's.
    """
    fine = source_of(params)(TaggedQueries(texts, domains, subdomains, embeddings))
    return group_tags(fine, embeddings, params.tags.domains, params.tags.minimum, params.seed)
