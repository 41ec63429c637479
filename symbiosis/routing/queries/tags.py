"""Tags of training queries, from several sources, and their grouping into a few domains.

MixLLM (arXiv 2502.18482) has a tagger write fine tags and people group them into 20 domains. Here the source is
pluggable and the grouping is k-means. Tags are needed for training only: pass offline queries, no others.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from symbiosis.core.errors import InputError

READ_CHARACTERS = 4000  # of a text, counted from its end, where the question is
NAMED_AFTER = 3


@dataclass(frozen=True)
class TaggedQueries:
    """Queries to be tagged.

    Attributes
    ----------
    texts
        N texts.
    domains, subdomains
        N labels each, from the data set.
    embeddings
        (N, d), of the encoder before fine-tuning, rows of length 1.
    """

    texts: Sequence[str]
    domains: Sequence[str]
    subdomains: Sequence[str | None]
    embeddings: np.ndarray


class TagSource(Protocol):
    """Where tags come from."""

    def __call__(self, queries: TaggedQueries) -> list[list[str]]:
        """Return the fine tags of each query; a query may have none."""


@dataclass(frozen=True)
class Metadata:
    """The data set's own labels: ``domain / subdomain``, or ``domain`` where there is none below it."""

    def __call__(self, queries: TaggedQueries) -> list[list[str]]:
        """One tag each."""
        return [
            [f"{domain} / {subdomain}" if subdomain else domain]
            for domain, subdomain in zip(queries.domains, queries.subdomains, strict=True)
        ]


@dataclass(frozen=True)
class Clusters:
    """k-means clusters of the embeddings.

    Attributes
    ----------
    clusters
        How many.
    seed
        Of the first centres.
    """

    clusters: int
    seed: int

    def __call__(self, queries: TaggedQueries) -> list[list[str]]:
        """One tag each."""

        return [[f"cluster {label}"] for label in cluster_tags(queries.embeddings, self.clusters, self.seed)[0]]


@dataclass(frozen=True)
class KeyPhrases:
    """The words and pairs of words of a query with the largest TF-IDF weight.

    Attributes
    ----------
    minimum
        A phrase must occur in so many queries.
    phrases
        At most so many per query.
    """

    minimum: int
    phrases: int

    def __call__(self, queries: TaggedQueries) -> list[list[str]]:
        """Up to `phrases` tags each, heaviest first.

        Raises
        ------
        InputError
            No phrase is common enough.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = r"(?u)\b[^\W\d_]{3,}\b"
        vectorizer = TfidfVectorizer(
            ngram_range=(1, 2),
            stop_words="english",
            token_pattern=words,
            min_df=min(self.minimum, len(queries.texts)),
            max_df=max(0.5, min(self.minimum, len(queries.texts)) / len(queries.texts)),
            sublinear_tf=True,
        )
        try:
            weights = vectorizer.fit_transform([text[-READ_CHARACTERS:] for text in queries.texts])
        except ValueError as error:
            raise InputError(
                f"params.yaml: `train_encoder.tags.minimum` is {self.minimum}, and no phrase occurs in so many offline "
                f"queries ({error}): lower it, or use another `source`"
            ) from None
        names = vectorizer.get_feature_names_out()
        tags = []
        for start, stop in zip(weights.indptr[:-1], weights.indptr[1:], strict=True):
            columns, values = weights.indices[start:stop], weights.data[start:stop]
            heaviest = np.lexsort((columns, -values))[: self.phrases]
            tags.append([str(names[column]) for column in columns[heaviest]])
        return tags


def group_tags(
    tags: Sequence[Sequence[str]], embeddings: np.ndarray, domains: int, minimum: int, seed: int
) -> tuple[np.ndarray, list[str]]:
    """Group fine tags into domains, and give each query the domain that most of its tags belong to.

    A tag lies where its queries lie on average; k-means groups the tags, each weighing as much as it has queries. A
    query whose tags are tied, or all rare, goes to the nearest of its candidates.

    Parameters
    ----------
    tags
        Fine tags of N queries.
    embeddings
        (N, d), rows of length 1.
    domains
        At most so many; with no more tags than this each tag is a domain.
    minimum
        A tag with fewer queries is rare and does not count.
    seed
        Of k-means.

    Returns
    -------
    numpy.ndarray
        (N,), domain of each query, 0..D-1, none empty.
    list of str
        D names: the most common tags of each.

    Raises
    ------
    InputError
        Fewer than two domains are left.
    """
    counts = Counter(tag for own in tags for tag in set(own))
    kept = sorted(tag for tag, count in counts.items() if count >= minimum)
    number = {tag: row for row, tag in enumerate(kept)}
    member = np.zeros((len(tags), len(kept)))
    for query, own in enumerate(tags):
        member[query, [number[tag] for tag in own if tag in number]] = 1.0
    weights = member.sum(axis=0)
    if len(kept) > 1:
        groups = _grouped(_unit(member.T @ embeddings), weights, domains, seed)
        votes = member @ np.eye(groups.max() + 1)[groups]
        centres = _unit(votes.T @ embeddings)
        # A vote outweighs any likeness, which lies in -1..1: that only breaks ties.
        chosen = (votes + 0.25 * embeddings @ centres.T).argmax(axis=1)
        used, labels = np.unique(chosen, return_inverse=True)
    else:
        used = labels = np.empty(0, dtype=np.int64)
    if len(used) < 2:
        raise InputError(
            f"params.yaml: `train_encoder.tags` leaves {len(used)} domains from {len(kept)} tags with at least "
            f"{minimum} offline queries: it needs two; lower `minimum` or use another `source`"
        )
    names = []
    for domain in used:
        own_tags = sorted((tag for tag in kept if groups[number[tag]] == domain), key=lambda tag: -counts[tag])
        names.append("; ".join(own_tags[:NAMED_AFTER]))
    return labels, names


def _grouped(places: np.ndarray, weights: np.ndarray, domains: int, seed: int) -> np.ndarray:
    """Group of each tag, (T,)."""
    if len(places) <= domains:
        return np.arange(len(places))
    from sklearn.cluster import KMeans

    model = KMeans(domains, n_init=4, random_state=seed).fit(places, sample_weight=weights)
    return np.asarray(model.labels_)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1.0)


def number_tags(domains: Sequence[str], subdomains: Sequence[str | None], minimum: int) -> tuple[np.ndarray, list[str]]:
    """Number the sub-domains; one with too few queries counts as its domain, a domain with too few as the rest.

    Parameters
    ----------
    domains
        Of each query.
    subdomains
        Labels that hold the domain's, see `symbiosis.routing.data.splits.labels_of`; None: as the domain.
    minimum
        A tag needs so many queries.

    Returns
    -------
    numpy.ndarray
        (N,), tag numbers 0..T-1.
    list of str
        T names, sorted: ``domain / subdomain``, ``domain`` or ``other``.
    """
    names = np.array([fine or domain for domain, fine in zip(domains, subdomains, strict=True)], dtype=object)
    for fallback in (np.array(domains, dtype=object), np.full(len(names), "other", dtype=object)):
        values, inverse, counts = np.unique(names, return_inverse=True, return_counts=True)
        rare = counts[inverse] < minimum
        names = np.where(rare, fallback, names)
    values, inverse = np.unique(names, return_inverse=True)
    return inverse, [str(value) for value in values]


def groups_of(tags: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Which group each tag belongs to: the label that most of its queries have.

    Parameters
    ----------
    tags
        (N,), 0..T-1, every tag at least once.
    labels
        N labels, the domains for instance; all the same for one group.

    Returns
    -------
    numpy.ndarray
        (T, G), 1 where a tag belongs to a group; groups in the order of their labels.
    """
    names, numbers = np.unique(np.array(labels, dtype=object), return_inverse=True)
    counts = np.zeros((int(tags.max()) + 1, len(names)))
    np.add.at(counts, (tags, numbers), 1)
    own = counts.argmax(axis=1)
    return np.eye(len(names))[own][:, np.unique(own)]


RESTARTS = 10
LEADING = 32  # components of the vectors that k-means sees: in the others distances are mostly noise
PER_GROUP = 4


def cluster_tags(vectors: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tags where there is no metadata: k-means clusters, and groups of clusters that lie close together.

    Small clusters in groups, along the leading components and the best of several starts: so it matters less than
    otherwise where the centres started.

    Parameters
    ----------
    vectors
        (N, d).
    clusters
        How many.
    seed
        Of the first centres.

    Returns
    -------
    numpy.ndarray
        (N,), 0..T-1, every tag at least once.
    numpy.ndarray
        (T, 1 + G), 1 where a tag belongs to a group; all belong to the first.
    """
    from sklearn.cluster import AgglomerativeClustering, KMeans

    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    leading = centred @ axes[:, ::-1][:, :LEADING]
    model = KMeans(min(clusters, len(vectors)), n_init=RESTARTS, random_state=seed).fit(leading)
    used, numbers = np.unique(model.labels_, return_inverse=True)
    groups = len(used) // PER_GROUP
    members = np.ones((len(used), 1))
    if groups > 1:
        merged = AgglomerativeClustering(groups).fit_predict(model.cluster_centers_[used])
        members = np.hstack([members, np.eye(groups)[merged]])
    return numbers, members
