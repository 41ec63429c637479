"""The personalised predictive prompt.

``<user_i> has interacted with <item_a> <item_b> ... The user will interact with: <user_i>``

The talk's prompt ends on a word, whose position gets no graph connectivity (docs/methods.md, section 1.11, F2). Ours
ends on the user token (docs/methods.md, section 1.6), so the position that is read out sees R towards every item.
"""

from collections.abc import Sequence

import numpy as np

from symbiosis.recommender.language.tokens import Vocabulary

PHRASES = (" has interacted with", ". The user will interact with:")
"""The words of the prompt: between user and items, and after the items."""


class Prompts:
    """Makes rows of prompts.

    Parameters
    ----------
    vocabulary
        The id space.
    maximum_items
        Longest list of items in a prompt.
    """

    def __init__(self, vocabulary: Vocabulary, maximum_items: int) -> None:
        self.vocabulary, self.maximum_items = vocabulary, maximum_items
        self._middle, self._question = vocabulary.encode(PHRASES)

    def asking(self, request: str) -> "Prompts":
        """Return prompts with a request's words before the last user token."""
        asked = Prompts(self.vocabulary, self.maximum_items)
        asked._question = np.concatenate([self._question, self.vocabulary.encode([" " + request])[0]])
        return asked

    @property
    def overhead(self) -> int:
        """Tokens of a prompt beside its items."""
        return 2 + len(self._middle) + len(self._question)

    def __call__(self, users: Sequence[int], items: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Encode one prompt a row.

        Parameters
        ----------
        users
            Users, one a row.
        items
            The items of each row's list, in the order in which they shall stand; the first `maximum_items` count.

        Returns
        -------
        ids : int64 array of shape (rows, length)
            Filled up on the right.
        last : int64 array of shape (rows,)
            The position that is read out.
        """
        vocabulary, first_item = self.vocabulary, self.vocabulary.item(0)
        rows = [
            np.concatenate(
                [
                    [vocabulary.user(user)],
                    self._middle,
                    chosen[: self.maximum_items] + first_item,
                    self._question,
                    [vocabulary.user(user)],
                ]
            )
            for user, chosen in zip(users, items, strict=True)
        ]
        last = np.array([len(row) - 1 for row in rows], dtype=np.int64)
        ids = np.full((len(rows), int(last.max()) + 1), vocabulary.end, dtype=np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
        return ids, last
