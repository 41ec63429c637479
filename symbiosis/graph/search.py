"""Exact hop distances of user-item and item-item pairs by a blocked, bit-parallel breadth-first search.

A block of source items is searched at once, one bit per source, 64 sources to a machine word. Row ``n`` of a bit
matrix tells from which sources node ``n`` has been reached. In a bipartite graph the sets of reached users and items
grow in turn, and one step is a Boolean product of the adjacency matrix with that bit matrix: the OR of the rows of a
node's neighbours (multi-source breadth-first search: Then et al., "The more the merrier", PVLDB 8(4), 2014).

Two users never meet in a prompt, which holds one user; their distances are neither searched nor stored. Only where
the normalisation of the score hangs on it is the largest of them found, see `distances_between_users`.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.core.progress import tqdm
from symbiosis.graph.build import Graph
from symbiosis.graph.connectivity import UNREACHABLE

_T = TypeVar("_T")
WORD = 64  # sources per word


class BooleanProduct:
    """Product of a sparse Boolean matrix with bit-packed columns: row by row, the OR of the rows it points at.

    Rows of like degree are worked together, neighbour by neighbour, so that every step is one gather and one OR of
    whole rows; `numpy.bitwise_or.reduceat` does the same in many short loops and is about ten times slower.

    Parameters
    ----------
    offsets, columns
        The sparse matrix in compressed sparse row form.
    """

    ROWS = 1024  # worked together: their words stay in the processor's cache
    LONG = 128  # longer rows are worked one by one

    def __init__(self, offsets: np.ndarray, columns: np.ndarray) -> None:
        degrees = np.diff(offsets)
        order = np.argsort(-degrees, kind="stable")
        n_long = int((degrees > self.LONG).sum())
        self.long = [(row, columns[offsets[row] : offsets[row + 1]].astype(np.intp)) for row in order[:n_long]]
        self.short = []
        for start in range(n_long, len(order), self.ROWS):
            rows = order[start : start + self.ROWS]
            steps = []
            for k in range(degrees[rows[0]]):
                holders = rows[degrees[rows] > k]  # a leading part, as the degrees fall
                steps.append(columns[offsets[holders] + k].astype(np.intp))
            self.short.append((rows, steps))

    def __call__(self, packed: np.ndarray, out: np.ndarray) -> None:
        """Write the product with `packed`, uint64 of shape (columns, words), into `out` of shape (rows, words)."""
        for row, columns in self.long:
            np.bitwise_or.reduce(packed[columns], axis=0, out=out[row])
        total, gathered = (np.empty((self.ROWS, packed.shape[1]), dtype=np.uint64) for _ in range(2))
        for rows, steps in self.short:
            total[:] = 0
            for columns in steps:
                part, current = gathered[: len(columns)], total[: len(columns)]
                np.take(packed, columns, axis=0, out=part, mode="clip")  # other modes go through a buffer
                np.bitwise_or(current, part, out=current)
            out[rows] = total[: len(rows)]


class _Reached:
    """Which nodes of one side were reached from which sources, and at which step: a bit each.

    Step ``k`` of a pair is kept in binary, bit ``p`` in `planes[p]`, because few steps occur and a plane is an eighth
    of a byte; the byte of a pair is made only when it is written.
    """

    def __init__(self, n_nodes: int, n_words: int, first_distance: int) -> None:
        self.bits, self.spare = (np.zeros((n_nodes, n_words), dtype=np.uint64) for _ in range(2))
        self.planes: list[np.ndarray] = []
        self.first_distance = first_distance
        self.counts: Counter[int] = Counter()

    def advance(self, step: int) -> bool:
        """Take the bits in `spare`, which hold all earlier ones, as those of a step; tell whether any is new."""
        self.bits, self.spare = self.spare, self.bits
        new = np.bitwise_xor(self.bits, self.spare, out=self.spare)
        count = int(np.bitwise_count(new).sum())
        if count:
            distance = self.first_distance + 2 * step
            if distance >= UNREACHABLE:
                raise InputError(
                    f"data/graph: two nodes are {distance} hops apart, and one byte holds at most {UNREACHABLE - 1}: "
                    "ask more interactions of users and items in the params of `clean`"
                )
            self.counts[distance] = count
            for plane in range(step.bit_length()):
                if plane == len(self.planes):
                    self.planes.append(np.zeros_like(new))
                if step >> plane & 1:
                    self.planes[plane] |= new
        return count > 0

    def distances(self) -> Iterator[np.ndarray]:
        """Yield the distances from eight sources at a time: uint8 of shape (8, nodes), overwritten by the next."""
        steps, bit = (np.empty((8, len(self.bits)), dtype=np.uint8) for _ in range(2))
        for word in range(self.bits.shape[1]):
            planes = [_bytes_by_source(plane[:, word]) for plane in reversed(self.planes)]
            unreached = ~_bytes_by_source(self.bits[:, word])
            for eight in range(8):
                steps[:] = 0
                for plane in planes:
                    np.not_equal(plane[eight] & _EIGHT_BITS, 0, out=bit.view(bool))
                    np.add(steps, steps, out=steps)
                    np.bitwise_or(steps, bit, out=steps)
                np.add(steps, steps, out=steps)
                np.bitwise_or(steps, self.first_distance, out=steps)
                if unreached[eight].any():
                    steps[(unreached[eight] & _EIGHT_BITS) != 0] = UNREACHABLE
                yield steps


_EIGHT_BITS = (1 << np.arange(8, dtype=np.uint8))[:, None]


def _bytes_by_source(words: np.ndarray) -> np.ndarray:
    """Turn one word per node into one row of bytes per eight sources: uint8 of shape (8, nodes)."""
    return np.ascontiguousarray(words.astype("<u8").view(np.uint8).reshape(len(words), 8).T)


class _Search:
    """Breadth-first search from blocks of nodes of one side of a bipartite graph."""

    def __init__(self, offsets: np.ndarray, columns: np.ndarray, far_offsets: np.ndarray, far_columns: np.ndarray):
        self.n_near, self.n_far = len(offsets) - 1, len(far_offsets) - 1
        self.to_near, self.to_far = BooleanProduct(offsets, columns), BooleanProduct(far_offsets, far_columns)

    def __call__(self, first: int, last: int) -> tuple[_Reached, _Reached]:
        """Search from the near nodes ``first .. last - 1``; return what was reached of the near and the far side."""
        n_words = -(-(last - first) // WORD)
        near, far = _Reached(self.n_near, n_words, 0), _Reached(self.n_far, n_words, 1)
        source = np.arange(last - first)
        near.spare[first + source, source // WORD] = np.uint64(1) << (source % WORD).astype(np.uint64)
        step = 0
        while near.advance(step):
            self.to_far(near.bits, far.spare)
            if not far.advance(step):
                break
            self.to_near(far.bits, near.spare)
            near.spare |= near.bits  # a node without neighbours stays reached from itself
            step += 1
        for side, n_nodes in ((near, self.n_near), (far, self.n_far)):
            unreached = n_nodes * (last - first) - side.counts.total()
            if unreached:
                side.counts[UNREACHABLE] = unreached
        return near, far


def write_distances(graph: Graph, folder: Path, block: int, threads: int) -> tuple[Counter[int], Counter[int]]:
    """Search from every item and write ``user_item.npy`` and ``item_item.npy``, block by block.

    Neither matrix is ever held in memory: each thread needs about ``(users + items) * block`` bytes. Both are stored
    item by item, in the order in which the search finds them (Fortran order for user-item), so that they are written
    from beginning to end. The files do not depend on `block` and `threads`.

    Parameters
    ----------
    graph
        The train-only graph.
    folder
        Where to write; it exists.
    block
        Source items searched at once.
    threads
        Blocks searched at the same time.

    Returns
    -------
    (Counter, Counter)
        How many user-item pairs and how many ordered item-item pairs (each item with itself included) have each
        distance.

    Raises
    ------
    InputError
        A distance does not fit into a byte.
    """
    search = _Search(graph.item_offsets, graph.item_users, graph.user_offsets, graph.user_items)
    n_items = graph.n_items
    user_item: Counter[int] = Counter()
    item_item: Counter[int] = Counter()
    with (
        (folder / "user_item.npy").open("wb") as user_file,
        (folder / "item_item.npy").open("wb") as item_file,
    ):
        item_start = _write_header(item_file, (n_items, n_items))
        user_start = _write_header(user_file, (graph.n_users, n_items))

        def work(first: int) -> tuple[Counter[int], Counter[int]]:
            last = min(first + block, n_items)
            items, users = search(first, last)
            _write_sources(item_file, item_start, items, first, last)
            _write_sources(user_file, user_start, users, first, last)
            return items.counts, users.counts

        starts = range(0, n_items, block)
        found = _in_threads(work, starts, threads)
        for items, users in tqdm(found, total=len(starts), desc="shortest paths", unit="block"):
            item_item += items
            user_item += users
    return user_item, item_item


def distances_between_users(graph: Graph, block: int, threads: int) -> Counter[int]:
    """Count the distances between users (ordered pairs, each user with himself included) without storing them.

    No prompt asks for them, but the min-max steps of the score run over all pairs of nodes. Raises and parameters are
    those of `write_distances`.
    """
    search = _Search(graph.user_offsets, graph.user_items, graph.item_offsets, graph.item_users)
    starts = range(0, graph.n_users, block)
    counts = _in_threads(lambda first: search(first, min(first + block, graph.n_users))[0].counts, starts, threads)
    return sum(tqdm(counts, total=len(starts), desc="pairs of users", unit="block"), Counter())


def _in_threads(work: Callable[[int], _T], starts: Sequence[int], threads: int) -> Iterator[_T]:
    """Yield what a function returns for each start, in their order; a single thread is this one."""
    if min(threads, len(starts)) < 2:
        yield from map(work, starts)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, starts)


def _write_header(file: BinaryIO, shape: tuple[int, int]) -> int:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": True, "shape": shape})
    file.flush()
    return file.tell()


def _write_sources(file: BinaryIO, start: int, reached: _Reached, first: int, last: int) -> None:
    """Write the distances from the sources ``first .. last - 1``, one source after the other, at their place.

    Plain writes and not a memory map: mapped pages would count as this process's memory, and a full disk would end it
    by a signal in place of an error.
    """
    place, end = start + first * len(reached.bits), start + last * len(reached.bits)
    for distances in reached.distances():
        data = distances.reshape(-1).data[: max(0, end - place)]
        while data:
            written = os.pwrite(file.fileno(), data, place)
            data, place = data[written:], place + written
