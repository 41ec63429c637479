"""Group commits: one transaction for all that wait, and every caller hears of its own entries."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from symbiosis.core.errors import InputError
from symbiosis.gateway.service.recording import GROUP, Recorder
from symbiosis.routing.serving.records import DecisionEntry, DecisionRecord
from symbiosis.routing.serving.store import Store


def entry(name: str) -> DecisionEntry:
    return DecisionEntry(DecisionRecord(name, "a", 1.0, 1.0, 10.0, 1e-4, 0.5, np.zeros(2)), served="a")


class Counting(Store):
    """A store that counts its transactions, and refuses some entries."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.groups: list[int] = []

    def write(self, entries: list[DecisionEntry]) -> None:  # type: ignore[override]
        self.groups.append(len(entries))
        if any(one.record.decision == "bad" for one in entries):
            raise InputError("refused")
        super().write(entries)


def test_what_waits_goes_into_one_transaction(tmp_path: Path) -> None:
    async def write() -> None:
        recorder = Recorder(store)
        await asyncio.gather(*(recorder.write([entry(f"d{n}")]) for n in range(GROUP + 50)))
        await recorder.close()

    with Counting(f"sqlite:///{tmp_path}/store.db") as store:
        asyncio.run(write())
        # While one group is written, the others gather.
        assert sum(store.groups) == GROUP + 50
        assert max(store.groups) == GROUP
        assert len(store.groups) <= 3
        assert len(store.latest(1000)) == GROUP + 50


def test_a_bad_entry_fails_alone(tmp_path: Path) -> None:
    async def write() -> list[BaseException | None]:
        recorder = Recorder(store)
        names = ["a", "bad", "b"]
        outcome = await asyncio.gather(*(recorder.write([entry(name)]) for name in names), return_exceptions=True)
        await recorder.close()
        return outcome

    with Counting(f"sqlite:///{tmp_path}/store.db") as store:
        first, bad, last = asyncio.run(write())
        assert (first, last) == (None, None)
        assert isinstance(bad, InputError)
        assert {one.entry.record.decision for one in store.latest(10)} == {"a", "b"}


def test_a_caller_that_leaves_has_its_entry_written(tmp_path: Path) -> None:
    async def write() -> None:
        recorder = Recorder(store)
        writing = asyncio.create_task(recorder.write([entry("a")]))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await recorder.close()

    with Store(f"sqlite:///{tmp_path}/store.db") as store:
        asyncio.run(write())
        assert store.decision("a") is not None
