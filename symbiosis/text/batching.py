"""Texts of several callers, encoded together: while one batch is computed, the next gathers.

One thread computes. A batch pays on a core for short texts, whose time goes into the calls and not into the products;
of long ones it neither saves nor costs. See docs/methods.md, section 2.2.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

Waiting = tuple[str, "Future[np.ndarray]"]


class BatchingEncoder:
    """Encodes the texts that wait, together; close it, or use it in a ``with`` block.

    Parameters
    ----------
    encode
        From one text or more to their vectors. A text's vector must have the bytes that it has alone, as in
        `symbiosis.routing.queries.query_encoder.QueryEncoder.many`.
    batch
        So many texts at most are encoded together.

    Raises
    ------
    ValueError
        `batch` is below 1.
    """

    def __init__(self, encode: Callable[[Sequence[str]], Sequence[np.ndarray]], batch: int) -> None:
        if batch < 1:
            raise ValueError(f"a batch of {batch} texts: give 1 or more")
        self._encode, self._batch = encode, batch
        self._waiting: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    def submit(self, text: str) -> "Future[np.ndarray]":
        """Let a text wait for the next batch; in asyncio, await ``asyncio.wrap_future(encoder.submit(text))``.

        Raises
        ------
        RuntimeError
            The encoder is closed.
        """
        future: Future[np.ndarray] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the encoder is closed")
            self._waiting.put((text, future))
        return future

    def close(self) -> None:
        """Encode what still waits, and end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def __enter__(self) -> "BatchingEncoder":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _work(self) -> None:
        going_on = True
        while going_on:
            first = self._waiting.get()
            gathered = [] if first is None else [first]
            going_on = first is not None
            while going_on and len(gathered) < self._batch and not self._waiting.empty():
                entry = self._waiting.get()
                if entry is None:
                    going_on = False
                else:
                    gathered.append(entry)
            # Who no longer waits is not encoded for: a client that left has cancelled.
            wanted = [(text, future) for text, future in gathered if future.set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)

    def _answer(self, wanted: list[Waiting]) -> None:
        texts = list(dict.fromkeys(text for text, _ in wanted))
        try:
            vectors = dict(zip(texts, self._encode(texts), strict=True))
        except Exception as error:
            if len(texts) == 1:
                for _, future in wanted:
                    future.set_exception(error)
                return
            # One text's error is not the others'.
            for text in texts:
                self._answer([entry for entry in wanted if entry[0] == text])
            return
        for text, future in wanted:
            future.set_result(vectors[text])
