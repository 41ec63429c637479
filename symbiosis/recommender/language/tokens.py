"""Words, users and items in one id space, without touching the tokenizer's own vocabulary.

Ids: words ``0 .. W-1`` (byte-level BPE), users ``W .. W+U-1``, items ``W+U .. W+U+I-1``.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from symbiosis.core.errors import InputError

END = "<|endoftext|>"
_TEXTS = 4096  # encoded at once: what the library makes of a text is many times as large as its ids
_ID = re.compile(r"<(user|item)_(\d+)>")


@dataclass(frozen=True)
class Vocabulary:
    """The id space of one data set.

    Attributes
    ----------
    tokenizer
        Byte-level BPE of the words.
    n_users, n_items
        Sizes of the two other ranges.
    """

    tokenizer: Tokenizer
    n_users: int
    n_items: int

    @property
    def n_words(self) -> int:
        """Number of word ids, W."""
        return self.tokenizer.get_vocab_size()

    @property
    def end(self) -> int:
        """Id that ends every text and fills up short rows."""
        end = self.tokenizer.token_to_id(END)
        assert end is not None  # every tokenizer that is trained or loaded here has it
        return end

    def user(self, user: int) -> int:
        """Id of a user."""
        return self.n_words + user

    def item(self, item: int) -> int:
        """Id of an item."""
        return self.n_words + self.n_users + item

    def encode(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Encode texts; ``<user_i>`` and ``<item_j>`` become one id each, the white space around them none.

        Returns
        -------
        list of int32 arrays
            One per text.

        Raises
        ------
        InputError
            A token names a user or an item that does not exist.
        """
        rows: list[np.ndarray] = []
        for block in _batches(texts):
            rows += self._encode(block)
        return rows

    def _encode(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        split = [_ID.split(text) for text in texts]
        # re.split with two groups gives words, kind, number, words, kind, number, ..., words
        words = [piece.rstrip() for pieces in split for piece in pieces[::3]]
        encoded = iter(self.tokenizer.encode_batch(words, add_special_tokens=False))
        for pieces in split:
            row: list[int] = list(next(encoded).ids)
            for kind, number in zip(pieces[1::3], pieces[2::3], strict=True):
                index, size = int(number), self.n_users if kind == "user" else self.n_items
                if index >= size:
                    raise InputError(f"the corpus names <{kind}_{number}>, but there are only {size} {kind}s")
                row.append(self.user(index) if kind == "user" else self.item(index))
                row.extend(next(encoded).ids)
            yield np.array(row, dtype=np.int32)

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON; the sizes belong to the model's configuration."""
        self.tokenizer.save(str(path))

    @classmethod
    def load(cls, path: Path, n_users: int, n_items: int) -> "Vocabulary":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            The file is missing or damaged.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises a bare Exception
            raise InputError(f"{path} is missing or no tokenizer ({error}): run `dvc repro`") from None
        if tokenizer.token_to_id(END) is None:
            raise InputError(f"{path} has no {END} token: use a GPT-2 tokenizer")
        return cls(tokenizer, n_users, n_items)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while block := list(islice(rest, _TEXTS)):
        yield block


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer on texts, their user and item tokens left out.

    Parameters
    ----------
    texts
        Prompts and texts of the corpus.
    vocabulary
        Number of words at most; 257 of them are bytes and the end token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def pieces() -> Iterator[str]:
        for text in texts:
            yield from (piece.rstrip() for piece in _ID.split(text)[::3])

    tokenizer.train_from_iterator(pieces(), trainer)
    return tokenizer
