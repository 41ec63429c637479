"""Texts that wait are encoded together."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from symbiosis.text.batching import BatchingEncoder


class Encoder:
    """Counts letters; holds the first batch back until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun, self.released = threading.Event(), threading.Event()

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        self.batches.append(list(texts))
        self.begun.set()
        assert self.released.wait(10)
        if "bad" in texts:
            raise ValueError("a bad text")
        return [np.array([len(text)]) for text in texts]


@pytest.fixture
def slow() -> Iterator[Encoder]:
    own = Encoder()
    yield own
    own.released.set()


def test_texts_gather_while_a_batch_is_computed(slow: Encoder) -> None:
    with BatchingEncoder(slow, batch=3) as encoder:
        first = encoder.submit("first")
        assert slow.begun.wait(10)
        others = [encoder.submit(text) for text in ("a", "bb", "a", "ccc", "dddd")]
        slow.released.set()
        assert first.result(10) == [5]
        assert [int(future.result(10)[0]) for future in others] == [1, 2, 1, 3, 4]
    # An equal text is encoded once in a batch, but counts as one that waits.
    assert slow.batches == [["first"], ["a", "bb"], ["ccc", "dddd"]]


def test_an_error_is_told_to_its_own_text_alone(slow: Encoder) -> None:
    with BatchingEncoder(slow, batch=8) as encoder:
        first = encoder.submit("first")
        assert slow.begun.wait(10)
        futures = [encoder.submit(text) for text in ("a", "bad", "bb")]
        slow.released.set()
        assert first.result(10) == [5]
        assert futures[0].result(10) == [1]
        with pytest.raises(ValueError, match="a bad text"):
            futures[1].result(10)
        assert futures[2].result(10) == [2]


def test_for_who_left_nothing_is_encoded(slow: Encoder) -> None:
    with BatchingEncoder(slow, batch=8) as encoder:
        encoder.submit("first")
        assert slow.begun.wait(10)
        assert encoder.submit("gone").cancel()
        kept = encoder.submit("kept")
        slow.released.set()
        assert kept.result(10) == [4]
    assert slow.batches == [["first"], ["kept"]]


def test_closing_answers_what_waits(slow: Encoder) -> None:
    encoder = BatchingEncoder(slow, batch=2)
    futures = [encoder.submit(text) for text in ("a", "bb", "ccc", "dddd")]
    slow.released.set()
    encoder.close()
    encoder.close()
    assert [int(future.result(0)[0]) for future in futures] == [1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="the encoder is closed"):
        encoder.submit("late")


def test_it_may_be_awaited(slow: Encoder) -> None:
    async def ask(encoder: BatchingEncoder) -> list[np.ndarray]:
        return await asyncio.gather(*(asyncio.wrap_future(encoder.submit(text)) for text in ("a", "bb")))

    slow.released.set()
    with BatchingEncoder(slow, batch=2) as encoder:
        assert [int(vector[0]) for vector in asyncio.run(ask(encoder))] == [1, 2]


def test_a_batch_of_none_is_refused(slow: Encoder) -> None:
    with pytest.raises(ValueError, match="a batch of 0 texts"):
        BatchingEncoder(slow, batch=0)
