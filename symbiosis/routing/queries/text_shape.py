"""What the form of a query tells: how long it is, how much of it is digits, code or formulas.

Encoders read what a text says; length and layout, which tell a grade-school sum from a function call with its schema,
are mostly lost in them. A handful of counts beside the embedding makes the tags easier to read off. All of them come
from the text alone, which is what a router that serves has; see docs/methods.md, section 2.2. Blanks at the ends and
runs of blanks, which mean nothing, do not count, and neither does case: an uncased encoder does not see them, so a
query in capitals or with a blank too many keeps its vector.
"""

import re
from collections.abc import Sequence

import numpy as np

_BLANKS = re.compile(r"[^\S\n]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_COUNTED = ("\n", "$", "\\", "`", "?", ",", "(", "=", "\"'")
VERSION = 3
"""Of the counts: a router and a text described by different versions do not go together."""
WIDEST = 3.0  # a column never counts more than so many times its usual spread
LONGEST = 1 << 18
"""Characters of a text's end that count: nearly all columns are at their limit long before."""
# Usual mean and spread of each column. They are fixed: a query's vector depends on that query alone.
_USUAL = np.array(
    [
        (5.5, 0.8),  # log of the characters
        (3.8, 0.8),  # log of the words
        (5.7, 0.9),  # characters per word
        (0.02, 0.03),  # share of digits
        (0.06, 0.05),  # of other signs
        (1.1, 1.1),  # logs of the numbers of the signs in _COUNTED
        (0.3, 0.7),
        (0.1, 0.4),
        (0.3, 1.0),
        (0.5, 0.4),
        (1.0, 1.0),
        (0.3, 0.7),
        (0.2, 0.5),
        (0.4, 0.7),
        (1.2, 1.0),  # log of the numbers in the text
        (2.7, 2.7),  # log of the largest
        (3.6, 0.6),  # log of the distinct words
    ]
)


def plain(text: str) -> str:
    """Return a text in small letters without blanks at its ends and without runs of blanks; lines stay lines."""
    return _BLANKS.sub(" ", text.strip()).lower()


def shape(texts: Sequence[str]) -> np.ndarray:
    """Describe the form of texts.

    Parameters
    ----------
    texts
        N texts, any length.

    Returns
    -------
    numpy.ndarray
        (N, 17), each column about 0 with spread about 1, within -3..3.
    """
    rows = np.array([_counts(text) for text in texts], dtype=np.float64).reshape(len(texts), len(_USUAL))
    return np.clip((rows - _USUAL[:, 0]) / _USUAL[:, 1], -WIDEST, WIDEST)


def _counts(text: str) -> list[float]:
    text = plain(text[-LONGEST:])
    words = text.split()
    numbers = [float(number) for number in _NUMBER.findall(text)[:200]]
    length = max(len(text), 1)
    digits = sum(map(str.isdigit, text))
    signs = sum(not c.isalnum() and not c.isspace() for c in text)
    counts = [sum(text.count(sign) for sign in signs_counted) for signs_counted in _COUNTED]
    logs = [*counts, len(numbers), max(numbers, default=0.0), len(set(words))]
    return [
        np.log1p(len(text)),
        np.log1p(len(words)),
        len(text) / max(len(words), 1),
        digits / length,
        signs / length,
        *np.log1p(logs),
    ]


def query_vectors(embeddings: np.ndarray, texts: Sequence[str], weight: float) -> np.ndarray:
    """Join what a query says and its form into one vector: training and serving both call this.

    Parameters
    ----------
    embeddings
        (N, d), rows of length 1.
    texts
        The N texts.
    weight
        How much one spread of one count weighs; 0 leaves the embeddings as they are.

    Returns
    -------
    numpy.ndarray
        (N, d + 17) or, with weight 0, (N, d), float32, rows of length 1.
    """
    if weight == 0:
        return embeddings.astype(np.float32)
    joined = np.hstack([embeddings, weight * shape(texts)])
    vectors: np.ndarray = (joined / np.linalg.norm(joined, axis=1, keepdims=True)).astype(np.float32)
    return vectors
