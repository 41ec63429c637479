"""Read a pickled pandas DataFrame without running anything that the pickle asks for.

A pickle is a program: it names functions and classes, and loading it calls them. Even an allow-list of pandas' and
numpy's own constructors is not enough, because numpy's state setters trust what they are given. So no pandas or numpy
object is made here. Every name that a DataFrame of numbers and texts needs stands for an inert record, any other name
is refused, and the columns are read from the records with their types and sizes checked.

Covers what pandas 1.3 to 2 write, and pandas 3 for columns of the dtype object: blocks of float, integer, boolean and
object arrays. Anything else (pandas 3's Arrow texts, dates, categories) is refused with the way to convert the file.
"""

import pickle  # nosec B403: only its opcodes' reader, which is told what to make of each name
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from symbiosis.core.errors import InputError, one_line

_KINDS = {"f8": "<f8", "f4": "<f4", "i8": "<i8", "i4": "<i4", "b1": "?", "O8": None}


class _RefusedError(Exception):
    """The pickle holds something that this reader does not know."""


class _Record:
    """What a pickle says of one object: the arguments of its construction and its state."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Frame(_Record): ...


class _Manager(_Record): ...


class _Block(_Record): ...


class _Array(_Record): ...


class _Buffer(_Record): ...


class _Kind(_Record): ...


class _Index(_Record): ...


class _Slice(_Record): ...


class _Class(_Record): ...


class _Bytes(_Record):
    """Bytes, which protocols below 3 write as text and its encoding."""


# Classes only: a pickle may set attributes of what it constructs, and must find nothing but records to do it to.
_CONSTRUCTED: dict[tuple[str, str], type[_Record]] = {
    ("pandas", "DataFrame"): _Frame,
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): _Manager,
    ("pandas._libs.internals", "_unpickle_block"): _Block,
    ("pandas.core.indexes.base", "_new_Index"): _Index,
    ("pandas", "Index"): _Class,
    ("pandas", "RangeIndex"): _Class,
    ("pandas.core.indexes.base", "Index"): _Class,
    ("pandas.core.indexes.range", "RangeIndex"): _Class,
    ("pandas.core.indexes.numeric", "Int64Index"): _Class,
    ("numpy", "ndarray"): _Class,
    ("numpy", "dtype"): _Kind,
    ("builtins", "slice"): _Slice,
    ("__builtin__", "slice"): _Slice,
    ("_codecs", "encode"): _Bytes,
}
for _core in ("core", "_core"):  # numpy 1 and 2
    _CONSTRUCTED[f"numpy.{_core}.multiarray", "_reconstruct"] = _Array
    _CONSTRUCTED[f"numpy.{_core}.numeric", "_frombuffer"] = _Buffer


# Python's own one: the one in C takes memory for whatever place in its memo a pickle names, gigabytes for ten bytes.
class _Reader(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _CONSTRUCTED[module, name]
        except KeyError:
            raise _RefusedError(f"`{module}.{name}`") from None


def read_frame(path: Path) -> pl.DataFrame:
    """Read a pickled DataFrame of float, integer, boolean and text columns.

    Raises
    ------
    InputError
        The file is no pickle, is cut short, or holds anything but such a DataFrame. None of its code has run.
    """
    try:
        with path.open("rb") as handle:
            return _frame(_Reader(handle).load())
    except _RefusedError as reason:
        detail = f"it holds {one_line(reason, 200)}, which this reader does not run"
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except Exception as error:
        # The pickle drives the unpickler, so any exception may come of a bad one.
        detail = f"it is damaged or not a table ({type(error).__name__})"
    raise InputError(
        f"{path} cannot be read safely: {detail}; if you trust its origin, convert it in an environment apart by "
        "`pandas.read_pickle(...).to_parquet(...)` and use the parquet file"
    )


def _frame(frame: Any) -> pl.DataFrame:
    """Columns of the records of a DataFrame."""
    manager = _expect(frame, _Frame).state["_mgr"]
    blocks, axes = _expect(manager, _Manager).arguments
    names = _index(axes[0])
    columns: dict[int, pl.Series] = {}
    for block in blocks:
        values, places, dimensions = _expect(block, _Block).arguments
        rows = _rows(values)
        where = _places(places)
        if dimensions != 2 or len(where) != len(rows) or columns.keys() & where:
            raise _RefusedError("a block of another shape")
        columns |= {place: _series(str(names[place]), row) for place, row in zip(where, rows, strict=True)}
    if sorted(columns) != list(range(len(names))):
        raise _RefusedError("columns without values")
    return pl.DataFrame([columns[place] for place in range(len(names))])


def _expect(value: Any, kind: type[_Record]) -> _Record:
    if type(value) is not kind:
        raise _RefusedError(f"a {type(value).__name__} where a {kind.__name__.strip('_')} belongs")
    return value


def _rows(value: Any) -> list[Any]:
    """Rows of a two-dimensional array: lists of objects, or numpy arrays of numbers."""
    flat, shape, order = _flat(value)
    if len(shape) != 2:
        raise _RefusedError("an array that is not two-dimensional")
    height, width = shape
    if height and not width:
        raise _RefusedError("an array without columns")
    if order == "C":
        return [flat[row * width : (row + 1) * width] for row in range(height)]
    return [flat[row::height] for row in range(height)]


def _flat(value: Any) -> tuple[Any, tuple[int, ...], str]:
    """Return an array's elements, shape and order: a list of objects or a one-dimensional numpy array."""
    if type(value) is _Buffer:
        data, kind, shape, order = value.arguments
    else:
        _, shape, kind, fortran, data = _expect(value, _Array).state
        order = "F" if fortran else "C"
    name = _expect(kind, _Kind).arguments[0]
    if name not in _KINDS or (kind.state is not None and kind.state[1] not in ("<", "|")):
        raise _RefusedError(f"an array of {name!r}")
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)) or order not in ("C", "F"):
        raise _RefusedError("an array without a shape")
    layout = _KINDS[name]
    if type(data) is _Bytes:
        data = data.arguments[0].encode("latin1")
    if layout is None:
        flat: Any = data if type(data) is list else None
    else:
        flat = np.frombuffer(data, dtype=layout) if isinstance(data, bytes | bytearray) else None
    if flat is None or len(flat) != int(np.prod(shape, dtype=object)):
        raise _RefusedError("an array whose size is not its shape's")
    return flat, shape, order


def _places(value: Any) -> range | list[int]:
    """Column numbers of a block."""
    if type(value) is _Slice:
        return range(*value.arguments)
    return [int(place) for place in _flat(value)[0]]


def _index(value: Any) -> list[Any]:
    """Labels of the columns; a range of numbers has none."""
    _, state = _expect(value, _Index).arguments
    return list(_flat(state["data"])[0])


def _series(name: str, values: Any) -> pl.Series:
    if isinstance(values, np.ndarray):
        series = pl.Series(name, np.ascontiguousarray(values))
        return series.fill_nan(None) if series.dtype.is_float() else series
    present = [value for value in values if value is not None and value == value]
    if all(type(value) in (int, float, bool) for value in present):
        return pl.Series(name, [None if v is None or v != v else float(v) for v in values], dtype=pl.Float64)
    # A list of texts is how RouterBench keeps prompts and responses in some releases.
    texts = [
        None if value is None or value != value else value if type(value) is str else repr(value) for value in values
    ]
    if not all(type(value) is str or _is_text_list(value) for value in present):
        raise _RefusedError(f"values in `{name}` that are neither numbers nor texts")
    return pl.Series(name, texts, dtype=pl.String)


def _is_text_list(value: Any) -> bool:
    return type(value) is list and all(type(part) is str for part in value)
