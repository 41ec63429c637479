"""Faults that a test orders in a process of its own: first on its PYTHONPATH, this is imported before anything else.

The file that `SYMBIOSIS_FAULTS` names is looked at many times a second: JSON with ``clock_s``, by how much the clock is
wrong, and ``commit_s``, how long a transaction of SQLite takes to be written.
"""

import json
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

EVERY_S = 0.02
_now: dict[str, float] = {}


def _watch(file: Path) -> None:
    import time_machine

    began, steady = time.time(), time.monotonic()
    clock = None
    while True:
        ordered = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if ordered != _now:
            _now.clear()
            _now.update(ordered)
            if clock is None:
                traveller = time_machine.travel(began, tick=True)
                clock = traveller.start()
            clock.move_to(began + time.monotonic() - steady + _now.get("clock_s", 0.0))
            file.with_suffix(".done").write_text(json.dumps(ordered), encoding="utf-8")
        time.sleep(EVERY_S)


class _SlowConnection(sqlite3.Connection):
    def commit(self) -> None:
        time.sleep(_now.get("commit_s", 0.0))
        super().commit()


def _connect(*given: Any, **named: Any) -> sqlite3.Connection:
    return _open(*given, **{"factory": _SlowConnection, **named})


if "SYMBIOSIS_FAULTS" in os.environ:
    _open = sqlite3.connect
    sqlite3.connect = sqlite3.dbapi2.connect = _connect  # type: ignore[assignment]
    threading.Thread(target=_watch, args=(Path(os.environ["SYMBIOSIS_FAULTS"]),), daemon=True).start()
