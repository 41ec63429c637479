"""The bench of guests and new items: histories in time, changes of lists, a catalogue without its cold items."""

from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from bench.guests import SHOWN, changes, in_time
from bench.new_items import cold_of, places_taken, write_without
from symbiosis.core import layout
from symbiosis.recommender.data.interactions import read_matrix, read_sizes


def write(file: Path, rows: list[tuple[int, ...]], *columns: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    schema = {name: pl.Int64 if name == "timestamp" else pl.UInt32 for name in columns}
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(file)


def test_histories_are_in_time(tmp_path: Path) -> None:
    write(tmp_path / layout.TRAIN, [(2, 1, 9), (0, 4, 7), (0, 1, 8), (0, 3, 7)], "user", "item", "timestamp")
    assert [items.tolist() for items in in_time(tmp_path, 4)] == [[3, 4, 1], [], [1], []]


def test_changes_of_lists_by_hand() -> None:
    one = np.tile(np.arange(SHOWN + 1), (4, 1))
    other = one.copy()
    other[1, :2] = [1, 0]  # another order
    other[2, 0], other[2, -1] = 50, 60  # another item; the last place is not shown
    assert changes(one, other).startswith(
        f"50.0% of 4 lists of {SHOWN} change; in 25.0% other items appear; on average"
    )


def test_a_catalogue_without_its_cold_items(tmp_path: Path) -> None:
    root, folder = tmp_path / "root", tmp_path / "without"
    pairs = {layout.TRAIN: [(0, 0), (1, 3)], layout.VALIDATION: [(0, 3)], layout.TEST: [(0, 1), (1, 0), (1, 2)]}
    for part, rows in (pairs | {layout.GRAPH_EDGES: pairs[layout.TRAIN]}).items():
        write(root / part, rows, "user", "item")
    pl.DataFrame({"user": [0, 1], "user_id": ["a", "b"]}).write_parquet(root / layout.USERS)
    pl.DataFrame({"item": [0, 1, 2, 3], "item_id": list("wxyz")}, schema_overrides={"item": pl.UInt32}).write_parquet(
        root / layout.ITEMS
    )
    (root / "params.yaml").write_text("final_fit: {}\n")
    assert cold_of(root).tolist() == [1, 2]
    write_without(root, folder)
    assert pl.read_parquet(folder / layout.ITEMS).rows() == [(0, "w"), (1, "z")]
    assert read_sizes(folder / layout.CLEAN) == (2, 2)
    found = {part: read_matrix(folder / part, (2, 2)).toarray().tolist() for part in pairs}
    assert found == {
        layout.TRAIN: [[1, 0], [0, 1]],
        layout.VALIDATION: [[0, 1], [0, 0]],
        layout.TEST: [[0, 0], [1, 0]],
    }
    assert (folder / "stages/finetune.py").is_file()


def test_places_that_cold_items_take_by_hand() -> None:
    scores = np.arange(4, 0, -1, dtype=np.float32)[None]  # item 0 first; it is cold, and item 1 is looked for
    nothing, wanted = csr_array((1, 4), dtype=np.float32), csr_array(np.array([[1, 1, 0, 0]], np.float32))
    row = places_taken("a way", lambda users: np.repeat(scores, len(users), 0), nothing, wanted, np.array([0]), seed=0)
    second = f"{1 / np.log2(3):.4f}"
    assert row == f"| a way | 5.0% | 1.0% | {second} | 1.0000 |"  # one of 20 places, of 100
