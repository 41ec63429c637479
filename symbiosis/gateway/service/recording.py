"""Write to the store in groups: everything that waits goes into one transaction, and each caller hears of its own."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sqlalchemy.exc import DataError, IntegrityError

from symbiosis.routing.serving.store import Store, StoreEntry, StoreUnavailable

GROUP = 256
"""Entries of a transaction, at most."""


class Recorder:
    """Writes entries to the store from one thread; nothing is acknowledged before its transaction is committed.

    Parameters
    ----------
    store
        Where to.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._waiting: list[tuple[Sequence[StoreEntry], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def write(self, entries: Sequence[StoreEntry], patience_s: float = 0.0) -> None:
        """Return once the entries are committed, all or none of them.

        Parameters
        ----------
        entries
            What to write.
        patience_s
            For so long it may wait for others, to save a transaction of its own.

        Raises
        ------
        symbiosis.core.errors.InputError
            They could not be written.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, done))
        if patience_s:
            asyncio.get_running_loop().call_later(patience_s, self._begin)
        else:
            self._begin()
        # A caller that is cancelled leaves its entries in the group: they are written all the same.
        await asyncio.shield(done)

    def _begin(self) -> None:
        if self._waiting and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, size = [], 0
            while self._waiting and size < GROUP:
                group.append(self._waiting.pop(0))
                size += len(group[-1][0])
            try:
                await loop.run_in_executor(self._thread, self._store.write, [one for part, _ in group for one in part])
                failures: list[Exception | None] = [None] * len(group)
            except Exception as error:
                if isinstance(error, StoreUnavailable) and not isinstance(error.__cause__, IntegrityError | DataError):
                    # Locked, full or gone: for each part alone it would be the same, after as long a wait for each.
                    failures = [error] * len(group)
                else:
                    # One bad entry spoils its transaction: each part again, by itself.
                    failures = [await self._alone(part) for part, _ in group]
            for (_, done), failure in zip(group, failures, strict=True):
                if done.done():
                    continue
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)
                    done.exception()  # its caller may have gone

    async def _alone(self, entries: Sequence[StoreEntry]) -> Exception | None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.write, entries)
        except Exception as error:
            return error
        return None

    async def close(self) -> None:
        """Write what waits, and end the thread."""
        self._begin()
        if self._writing is not None:
            with suppress(asyncio.CancelledError):
                await self._writing
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
