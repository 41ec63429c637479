"""Hop distances and their score: our search against networkx, and a vector by hand (docs/methods.md, section 1.2)."""

from collections import Counter
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbiosis.core.errors import InputError
from symbiosis.graph.build import Graph
from symbiosis.graph.connectivity import UNREACHABLE, connectivity_table
from symbiosis.graph.distances import HopDistances
from symbiosis.graph.search import BooleanProduct, distances_between_users, write_distances

Edges = list[tuple[int, int]]


def graph_of(n_users: int, n_items: int, edges: Edges) -> Graph:
    """A graph without brands and categories; the oracle of `build_graph`'s arrays too."""
    rows = [sorted({item for user, item in edges if user == u}) for u in range(n_users)]
    columns = [sorted({user for user, item in edges if item == i}) for i in range(n_items)]

    def offsets(lists: list[list[int]]) -> np.ndarray:
        return np.cumsum([0, *map(len, lists)]).astype(np.int64)

    def flat(lists: list[list[int]]) -> np.ndarray:
        return np.array([node for nodes in lists for node in nodes], dtype=np.int32)

    none = (), np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32)
    return Graph(offsets(rows), flat(rows), offsets(columns), flat(columns), *none, *none)


def oracle(graph: Graph) -> np.ndarray:
    """All distances by networkx, uint8 of shape (nodes, nodes)."""
    n = graph.n_users + graph.n_items
    hops = np.full((n, n), UNREACHABLE, dtype=np.uint8)
    for source, lengths in nx.all_pairs_shortest_path_length(graph.to_networkx()):
        hops[source, list(lengths)] = list(lengths.values())
    return hops


def search(graph: Graph, folder: Path, block: int = 64, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Distances through the files."""
    user_item, item_item = write_distances(graph, folder, block, threads)
    matrices = np.load(folder / "user_item.npy"), np.load(folder / "item_item.npy")
    for matrix, counts in zip(matrices, (user_item, item_item), strict=True):
        assert counts == Counter(matrix.ravel().tolist())
    return matrices


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Sparse to dense, with isolated nodes, several components, or no edge at all."""
    n_users, n_items = draw(st.integers(1, 40)), draw(st.integers(1, 140))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_edges = draw(st.integers(0, 3 * (n_users + n_items)))
    return graph_of(
        n_users,
        n_items,
        list(
            zip(rng.integers(n_users, size=n_edges).tolist(), rng.integers(n_items, size=n_edges).tolist(), strict=True)
        ),
    )


VECTOR = graph_of(3, 4, [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3)])


@settings(deadline=None, max_examples=40)
@given(graph=graphs(), block=st.sampled_from([64, 128]), threads=st.sampled_from([1, 3]))
def test_equal_to_networkx(tmp_path_factory: pytest.TempPathFactory, graph: Graph, block: int, threads: int) -> None:
    user_item, item_item = search(graph, tmp_path_factory.mktemp("distances"), block, threads)
    expected = oracle(graph)
    users, items = slice(0, graph.n_users), slice(graph.n_users, None)
    assert np.array_equal(user_item, expected[users, items])
    assert np.array_equal(item_item, expected[items, items])
    assert distances_between_users(graph, block, threads) == Counter(expected[users, users].ravel().tolist())
    assert np.array_equal(item_item, item_item.T)
    assert set(np.unique(user_item[user_item < UNREACHABLE]) % 2) <= {1}
    assert set(np.unique(item_item[item_item < UNREACHABLE]) % 2) <= {0}


def test_vector_by_hand(tmp_path: Path) -> None:
    u0, u2, i0, i1, i2, i3 = 0, 2, 0, 1, 2, 3
    user_item, item_item = search(VECTOR, tmp_path)
    score = connectivity_table({*user_item.ravel(), *item_item.ravel()}, clip=6, damping=1.0)
    assert score[0] == pytest.approx(0.5455, abs=5e-5)
    assert score[oracle(VECTOR)[0, 1]] == pytest.approx(0.3636, abs=5e-5)
    assert score[oracle(VECTOR)[0, 2]] == 0
    assert score[user_item[u0, i0]] == 1
    assert score[user_item[u0, i2]] == pytest.approx(0.2727, abs=5e-5)
    assert score[item_item[i0, i1]] == pytest.approx(0.3636, abs=5e-5)
    assert score[item_item[i0, i2]] == pytest.approx(0.1818, abs=5e-5)
    assert score[user_item[u2, i3]] == 1
    assert score[item_item[i3, i0]] == 0


def test_released_table() -> None:
    table = connectivity_table({1, 2, 3, 4, 5, 6, UNREACHABLE}, clip=6, damping=1.0)
    assert table.dtype == np.float32
    assert table.shape == (256,)
    assert table[:6] == pytest.approx([6 / 11, 1, 4 / 11, 3 / 11, 2 / 11, 1 / 11])
    assert not table[6:].any()


def formula(hops: np.ndarray, clip: int, damping: float) -> np.ndarray:
    """Section 2.3 word for word on the whole matrix."""
    distance = np.where(hops == UNREACHABLE, np.inf, hops.astype(np.float64))
    path = np.maximum(clip - distance, 0)
    path = (path - path.min()) / (path.max() - path.min())
    total = (distance == 1) + damping * path
    return (total - total.min()) / (total.max() - total.min())


@settings(deadline=None, max_examples=60)
@given(graph=graphs(), clip=st.integers(2, 9), damping=st.sampled_from([1.0, 0.5, 0.1]))
def test_table_equals_the_formula_on_all_pairs(graph: Graph, clip: int, damping: float) -> None:
    hops = oracle(graph)
    if hops.max() == 1:
        return  # one user who has one item: all scores are equal, see below
    table = connectivity_table(set(hops.ravel().tolist()), clip, damping)
    assert table[hops] == pytest.approx(formula(hops, clip, damping), abs=1e-6)


def test_normalisation_where_every_pair_is_close() -> None:
    # One user with two items: distances 0, 1, 2, none at 6. S = 6, 5, 4 -> 1, 1/2, 0; T = 1, 3/2, 0 -> 2/3, 1, 0.
    assert connectivity_table({0, 1, 2}, clip=6, damping=1.0)[:3] == pytest.approx([2 / 3, 1, 0])


def test_equal_scores_give_no_bias() -> None:
    # One user with one item: S = 6 and 5, T = 1 and 1; the second min-max has no range.
    assert not connectivity_table({0, 1}, clip=6, damping=1.0).any()


def test_damping_lowers_paths_against_edges() -> None:
    table = connectivity_table({1, 2, 3, UNREACHABLE}, clip=6, damping=0.5)
    assert table[:4] == pytest.approx(np.array([1 / 2, 1 + 5 / 12, 4 / 12, 3 / 12]) / (1 + 5 / 12))


def path_graph(n_users: int) -> Graph:
    """User 0 - item 0 - user 1 - item 1 - ... - item n - 1."""
    return graph_of(n_users, n_users, [(u, u) for u in range(n_users)] + [(u + 1, u) for u in range(n_users - 1)])


def test_longest_distances_that_fit(tmp_path: Path) -> None:
    user_item, item_item = search(path_graph(127), tmp_path)
    assert user_item.max() == user_item[0, 126] == 253
    assert item_item.max() == item_item[0, 126] == 252
    chain = graph_of(127, 128, [(u, u) for u in range(127)] + [(u, u + 1) for u in range(127)])
    assert search(chain, tmp_path)[1].max() == 254


def test_distance_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="255 hops apart"):
        write_distances(path_graph(128), tmp_path, 64, 1)


def test_rows_of_many_neighbours() -> None:
    rng = np.random.default_rng(3)
    degrees = [0, 1, BooleanProduct.LONG, BooleanProduct.LONG + 1, 0, 3000, *rng.integers(0, 9, size=1500)]
    offsets = np.cumsum([0, *degrees])
    columns = rng.integers(0, 50, size=offsets[-1]).astype(np.int32)
    packed = rng.integers(0, 2**63, size=(50, 2), dtype=np.uint64) & rng.integers(
        0, 2**63, size=(50, 2), dtype=np.uint64
    )
    out = np.full((len(degrees), 2), 7, dtype=np.uint64)
    BooleanProduct(offsets, columns)(packed, out)
    for row in range(len(degrees)):
        rows = packed[columns[offsets[row] : offsets[row + 1]]]
        assert np.array_equal(out[row], np.bitwise_or.reduce(rows, axis=0, initial=0))


def folder_of_distances(folder: Path) -> Path:
    folder.mkdir()
    write_distances(VECTOR, folder, 64, 1)
    np.save(folder / "connectivity.npy", connectivity_table({1, 6}, 6, 1.0))
    return folder


def test_files_do_not_depend_on_block_and_threads(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    graph = graph_of(
        90, 300, list(zip(rng.integers(90, size=500).tolist(), rng.integers(300, size=500).tolist(), strict=True))
    )
    found = set()
    for block, threads in ((64, 1), (64, 4), (192, 2), (4096, 1)):
        counts = write_distances(graph, tmp_path, block, threads)
        found.add((str(counts), *((tmp_path / f"{name}.npy").read_bytes() for name in ("user_item", "item_item"))))
    assert len(found) == 1


def test_load_maps_the_files(tmp_path: Path) -> None:
    hops = HopDistances.load(folder_of_distances(tmp_path / "distances"))
    assert isinstance(hops.user_item, np.memmap)
    assert not hops.item_item.flags.writeable
    assert hops.user_item.tolist() == oracle(VECTOR)[:3, 3:].tolist()
    assert hops.connectivity.shape == (256,)


@pytest.mark.parametrize("name", ["user_item", "item_item", "connectivity"])
@pytest.mark.parametrize("damage", ["missing", "short", "header", "empty", "other type", "other shape", "number"])
def test_damaged_distances_are_named(tmp_path: Path, name: str, damage: str) -> None:
    folder = folder_of_distances(tmp_path / "distances")
    file = folder / f"{name}.npy"
    array = np.load(file)
    match damage:
        case "missing":
            file.unlink()
        case "short":
            file.write_bytes(file.read_bytes()[:-1])
        case "header":
            file.write_bytes(b"not an array" + file.read_bytes())
        case "empty":
            file.write_bytes(b"")
        case "other type":
            np.save(file, array.astype(np.int16))
        case "other shape":
            np.save(file, array[:-1] if name != "user_item" else array[:, :-1])
        case "number":
            np.save(file, array.dtype.type(1))
    with pytest.raises(InputError, match=r"(user_item|item_item|connectivity)\.npy is (damaged|missing)") as error:
        HopDistances.load(folder)
    if damage != "other shape":  # two matrices that do not fit each other: one of them is named
        assert f"{name}.npy" in str(error.value)
