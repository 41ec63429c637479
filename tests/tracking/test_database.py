"""The tracking database is made whole or not at all, whoever wants it at the same instant and whoever is killed."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import ROOT

from symbiosis.core.errors import InputError
from symbiosis.tracking import database
from symbiosis.tracking.store import Store

RECORD = """\
import sys, time
import mlflow.store.tracking.sqlalchemy_store
from symbiosis.tracking.live import live_run
print("ready", flush=True)
sys.stdin.readline()
with live_run("finetune", sys.argv[1]) as live:
    for step in range(3):
        live.log({"loss": step + 1.0}, step)
"""


def ask(file: Path, question: str) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute(question).fetchone()[0])


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def long_ago(file: Path) -> None:
    """Nobody has been at work on the file of late."""
    os.utime(file, (time.time() - 2 * database.QUIET,) * 2)


def start_together(folder: Path, number: int) -> None:
    """Let processes that are ready to record begin at the same instant; all must succeed without a word."""
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "PYTHONPATH": str(ROOT)}
    environment.pop("SYMBIOSIS_TRACKING", None)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RECORD, f"mark{k}"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(number)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate() for process in started] == [("", "")] * number
    assert ask(folder / "mlflow.db", "SELECT count(*) FROM runs") == number
    assert ask(folder / "mlflow.db", "SELECT count(*) FROM metrics") == 3 * number
    assert sorted(path.name for path in folder.iterdir()) == ["mlflow.db"]


def test_two_processes_at_the_same_instant_both_record(tmp_path: Path) -> None:
    start_together(tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(20))
def test_two_processes_at_the_same_instant_both_record_twenty_times(tmp_path: Path, trial: int) -> None:
    start_together(tmp_path, 2)


def test_a_whole_database_is_left_alone(empty_database: Path, tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    shutil.copy(empty_database, file)
    before = file.read_bytes()
    database.prepare(f"sqlite:///{file}")
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


HALF_MADE = {
    "no byte": (),
    "no table": ("CREATE TABLE x (y INT)", "DROP TABLE x"),
    "some tables": ("CREATE TABLE experiments (name TEXT)", "CREATE TABLE runs (run_uuid TEXT)"),
    "some migrations": (
        "CREATE TABLE runs (run_uuid TEXT)",
        "CREATE TABLE alembic_version (version_num TEXT)",
        "INSERT INTO alembic_version VALUES ('451aebb31d03')",
    ),
}


@pytest.mark.parametrize("case", HALF_MADE)
def test_a_database_that_was_never_finished_is_made_anew(
    case: str, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
    file = tmp_path / "ä b" / "mlflow.db"
    file.parent.mkdir()
    file.touch()
    change(file, *HALF_MADE[case])
    (file.parent / ".mlflow.db.new").write_bytes(b"what a killed process left")
    before = file.read_bytes()
    long_ago(file)
    if case != "some migrations":  # one of them with MLflow's own migrations; they take seconds
        monkeypatch.setattr(database, "_make", lambda path: shutil.copy(empty_database, path))
    store = Store(f"sqlite:///{file}", file.parent)
    store.client.create_run(store.experiment_id)
    assert ask(file, "SELECT count(*) FROM runs") == 1
    assert (file.parent / "mlflow.db.unfinished").read_bytes() == before
    assert not (file.parent / ".mlflow.db.new").exists() or case != "some migrations"


def test_a_database_that_somebody_is_making_is_waited_for(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mlflow.db"
    file.touch()
    monkeypatch.setattr(database.time, "sleep", lambda seconds: shutil.copy(empty_database, file))
    database.prepare(f"sqlite:///{file}")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_clock_that_was_set_back_holds_nobody_up(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed process left seems to be of the future."""
    file = tmp_path / "mlflow.db"
    file.touch()
    ahead = time.time() + 365 * 86_400
    os.utime(file, (ahead, ahead))
    monkeypatch.setattr(database, "QUIET", 0.05)
    monkeypatch.setattr(database, "_make", lambda path: shutil.copy(empty_database, path))
    database.prepare(f"sqlite:///{file}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.unfinished"]


REFUSED = {
    "no database": ((), r"cannot be read as a sqlite database .*: move it away"),
    "another program's": (("CREATE TABLE songs (name TEXT)",), "a database of something else than MLflow: name ano"),
    "a newer MLflow's": (
        (
            "CREATE TABLE runs (x)",
            "CREATE TABLE alembic_version (version_num)",
            "INSERT INTO alembic_version VALUES ('beef')",
        ),
        r"made by another MLflow \(its migration beef is not known here\)",
    ),
    "an older one with runs": (
        ("CREATE TABLE runs (x)", "INSERT INTO runs VALUES (1)", "INSERT INTO runs VALUES (2)"),
        "holds 2 runs: copy it, then run `mlflow db upgrade sqlite:///.*mlflow.db`",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_holds_something_is_never_moved(case: str, tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    statements, message = REFUSED[case]
    if statements:
        change(file, *statements)
    else:
        file.write_bytes(b"no database " * 100)
    before = file.read_bytes()
    long_ago(file)
    with pytest.raises(InputError, match=message) as caught:
        database.prepare(f"sqlite:///{file}")
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_other_stores_are_none_of_its_business(tmp_path: Path) -> None:
    for uri in ("http://127.0.0.1:1", "sqlite://", "sqlite:///:memory:", f"sqlite:///file:{tmp_path}/x.db?uri=true"):
        database.prepare(uri)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_never_given_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.0)
    with database._alone_in(tmp_path), pytest.raises(InputError, match="end it"), database._alone_in(tmp_path):
        pass
