"""What bench.faults tries beside the stages: the store, the versions, the champion, the tracking database, exports.

Their bytes hold times and keys, so each has a judge: it says what is wrong with what a fault has left, and with what
another run makes of that.
"""

import gzip
import json
import os
import sys
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from bench.faults.runs import module
from bench.faults.subjects import Subject

QUESTIONS = ("Reverse a list in Python", "What does a mitochondrion do?", "Prove that there are infinitely many primes")
_FILES = ("reviews", "metadata")
_IDS = "decisions.txt"
_QUIET = {"SYMBIOSIS_TRACKING": "on", "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "MLFLOW_EXPERIMENT_NAME": "faults"}


def states() -> list[Subject]:
    """Return them all."""
    cli = ("symbiosis.cli.app", "sentence_transformers", "symbiosis.routing.serving.store", "symbiosis.cli.decisions")
    mlflow = ("mlflow", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "symbiosis.registry.champions",
              "symbiosis.registry.registration", "symbiosis.cli.models", "symbiosis.cli.gate")  # fmt: skip
    return [
        Subject("route", module("symbiosis", "route", QUESTIONS[0]), complaints=_routed, loads=cli),
        Subject("feedback", _tell, complaints=_learned, loads=cli, begins_with=_route_some),
        Subject("rollback", module("symbiosis", "rollback", "0"), complaints=_rolled_back, loads=cli,
                begins_with=_learn_some),
        Subject("decisions freeze", module("symbiosis", "decisions", "freeze"), complaints=_frozen, loads=cli,
                begins_with=_learn_some),
        Subject("decisions export", module("symbiosis", "decisions", "export", "--output", "decisions.jsonl"),
                ("decisions.jsonl",), _exported, loads=cli, begins_with=_learn_some),
        Subject("recommend --all", module("symbiosis", "recommend", "--all", "--output", "all.parquet"),
                ("all.parquet",), loads=(*cli, "symbiosis.recommender.inference.all_users")),
        Subject("tracking database", _record, complaints=_recorded, loads=mlflow),
        Subject("finetune, recorded", module("stages.finetune", environment=_QUIET),
                ("models/finetune", "reports/curves/finetune.csv"), _live, loads=(*mlflow, "stages.finetune"),
                begins_with=_record),
        Subject("register", _register, complaints=_registered, loads=mlflow, begins_with=_record),
        Subject("promote", _promote, complaints=_promoted, loads=mlflow, begins_with=_register_two),
        downloaded(),
    ]  # fmt: skip


# ------------------------------------------------------------------ the router's state


def _cli(*arguments: str) -> None:
    """Run a command of symbiosis that must succeed."""
    try:
        module("symbiosis", *arguments)()
    except SystemExit as ended:
        if ended.code not in (None, 0):
            raise


def _route_some() -> None:
    """Decide on three queries, and note the ids: what is tried reads no more than its command does."""
    for question in QUESTIONS:
        _cli("route", question)
    Path(_IDS).write_text("\n".join(_decisions()), encoding="utf-8")


def _learn_some() -> None:
    _route_some()
    for number in range(len(QUESTIONS)):
        _cli("feedback", _noted(number), "--quality", "1", "--tokens", "50")


def _noted(number: int) -> str:
    return Path(_IDS).read_text(encoding="utf-8").split()[number]


def _tell() -> None:
    module("symbiosis", "feedback", _noted(0), "--quality", "1", "--tokens", "50")()


def _decisions() -> list[str]:
    """Return the ids in the store, oldest first."""
    from symbiosis.routing.serving.store import Store

    with Store.in_file(".router/store.db") as store:
        return [one.entry.record.decision for one in store.every()]


def _state_complaints(decisions: range, lessons: range) -> list[str]:
    """Say what is wrong with the store and the newest version, given how many decisions and lessons there may be."""
    import sqlite3

    from symbiosis.routing.serving.snapshots import read_state
    from symbiosis.routing.serving.store import Store
    from symbiosis.routing.serving.versions import Versions

    wrong = []
    n_decisions = n_feedback = 0
    if Path(".router/store.db").exists() and Path(".router/store.db").stat().st_size:
        with sqlite3.connect(".router/store.db") as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if (found := connection.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                return [f"the store is damaged: {found}"]
        connection.close()
        if tables:
            with Store.in_file(".router/store.db") as store:
                n_decisions, n_feedback = len(list(store.every())), len(store.feedback_frame())
    versions = Versions(Path(".router"))
    if versions.numbers() != versions.whole():
        wrong.append("a version is damaged")
    learned = read_state(versions.open()).lessons if versions.numbers() else 0
    if n_decisions not in decisions:
        wrong.append(f"{n_decisions} decisions are stored, not {decisions}")
    if n_feedback not in lessons:
        wrong.append(f"{n_feedback} times feedback is stored, not {lessons}")
    if learned > n_feedback:
        wrong.append(f"{learned} lessons are learned of {n_feedback}")
    return wrong


def _routed(again: bool) -> list[str]:
    return _state_complaints(range(1, 3) if again else range(2), range(1))


def _learned(again: bool) -> list[str]:
    """After another run, feedback on another decision shows that all is learned, and clears up."""
    from symbiosis.routing.serving.snapshots import read_state
    from symbiosis.routing.serving.versions import Versions

    if not again:
        return _state_complaints(range(3, 4), range(2))
    _cli("feedback", _noted(1), "--quality", "0", "--tokens", "50")
    wrong = _state_complaints(range(3, 4), range(2, 3))
    if not wrong and (lessons := read_state(Versions(Path(".router")).open()).lessons) != 2:
        wrong.append(f"{lessons} lessons are learned, not 2")
    return wrong


def _rolled_back(again: bool) -> list[str]:
    from symbiosis.routing.serving.snapshots import read_state
    from symbiosis.routing.serving.versions import Versions

    wrong = _state_complaints(range(3, 4), range(3, 4))
    if again and not wrong and (lessons := read_state(Versions(Path(".router")).open()).lessons) != 0:
        wrong.append(f"{lessons} lessons are left after going back to the trained router")
    return wrong


def _frozen(again: bool) -> list[str]:
    from symbiosis.routing.data.readers import exports

    lessons = exports.read(Path("data/local/feedback"))["lesson"].to_list()
    wrong = _state_complaints(range(3, 4), range(3, 4))
    if lessons != list(range(1, len(QUESTIONS) + 1)) and (again or lessons):
        wrong.append(f"lessons {lessons} are frozen")
    return wrong


def _exported(again: bool) -> list[str]:
    lines = Path("decisions.jsonl").read_bytes() if Path("decisions.jsonl").exists() else b""
    if again and len([json.loads(line) for line in lines.splitlines()]) != len(QUESTIONS):
        return ["not all decisions are exported"]
    return _state_complaints(range(3, 4), range(3, 4))


# ------------------------------------------------------------------ MLflow


def _store() -> "object":
    from symbiosis.tracking.store import Store

    os.environ.update(_QUIET)
    return Store("sqlite:///mlflow.db")


def _one_line(work: Callable[[], object]) -> None:
    """Do something and end in one line where it cannot be, as the commands do."""
    from symbiosis.core.errors import InputError, one_line
    from symbiosis.tracking.store import explain

    os.environ.update(_QUIET)
    try:
        work()
    except (InputError, OSError) as error:
        sys.exit(f"error: {one_line(error)}")
    except Exception as error:  # as symbiosis.registry does: MLflow, SQLAlchemy and requests have no common base
        sys.exit(f"error: MLflow cannot be used: {explain(error)}")


def _record() -> None:
    _one_line(_store)


def _recorded(again: bool) -> list[str]:
    """A store that is there is whole: runs can be recorded."""
    import sqlite3

    if not again:
        if Path("mlflow.db").exists():
            with sqlite3.connect("mlflow.db") as connection:
                told = connection.execute("PRAGMA integrity_check").fetchone()[0]
            connection.close()
            return [] if told == "ok" else [told]
        return []
    store = _store()
    run = store.client.create_run(store.experiment_id)  # type: ignore[attr-defined]
    store.client.set_terminated(run.info.run_id)  # type: ignore[attr-defined]
    return []


def _live(again: bool) -> list[str]:
    if not again:
        return _recorded(False)
    store = _store()
    runs = store.client.search_runs([store.experiment_id])  # type: ignore[attr-defined]
    ended = [(run.info.status, len(store.steps(run).get("loss", ()))) for run in runs]  # type: ignore[attr-defined]
    return [] if ended in ([("FINISHED", 3)], []) else [f"runs and steps recorded: {ended}"]


def _register() -> None:
    from symbiosis.registry.registration import register

    _one_line(lambda: register("router", Path()))


def _versions() -> list[int]:
    from symbiosis.registry.versions import Registry

    os.environ.update(_QUIET)
    return [one.version for one in Registry(Path()).versions("router")]


def _registered(again: bool) -> list[str]:
    found = _versions()
    return [] if found == [1] or (not again and not found) else [f"versions {found} are registered"]


def _register_two() -> None:
    """Register the router, let it serve, and register another one."""
    from symbiosis.registry import champions

    _record()
    _register()
    champions.promote("router", 1)
    told = Path("models/router/router.json")
    told.write_text(told.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    _register()


def _promote() -> None:
    os.environ.update(_QUIET)
    module("symbiosis", "models", "promote", "router", "--version", "2", "--force", "--because", "a test")()


def _promoted(again: bool) -> list[str]:
    from symbiosis.core.artifacts import sha256_of
    from symbiosis.core.serving import current
    from symbiosis.registry import champions
    from symbiosis.registry.bundles import of_folder

    os.environ.update(_QUIET)
    served = current("router", Path())
    if served is None:
        return ["nothing serves"]
    wrong = []
    if served.resolve().name != of_folder("router", served).digest:
        wrong.append(f"half a copy serves: {sha256_of(served)}")
    champion = champions.champion("router")
    moves = [one.version for one in champions.history("router")]
    if champion is None or champion.version not in ((2,) if again else (1, 2)):
        wrong.append(f"the champion is {champion}")
    elif moves != list(range(1, champion.version + 1)):
        wrong.append(f"the history says {moves}, the champion is {champion.version}")
    return wrong


# ------------------------------------------------------------------ a server


def downloaded() -> Subject:
    """Return the stage `download`, from a server of files that runs in the process that is tried.

    The socket is opened here: its port is part of what the stage writes.
    """

    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory="served")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    address = f"http://127.0.0.1:{server.server_port}"
    remote = {name: {"url": f"{address}/{name}.json.gz", "size": None, "sha256": None} for name in _FILES}

    def work() -> None:
        Thread(target=server.serve_forever, daemon=True).start()
        module("stages.download")()

    return Subject(
        "download, from a server",
        work,
        ("data/raw/reviews",),
        loads=("stages.download", "requests"),
        overrides={"download.source": "amazon2014", **{f"download.{name}": told for name, told in remote.items()}},
        begins_with=_packed,
    )


def _packed() -> None:
    """Let the raw files lie where the server finds them."""
    Path("served").mkdir()
    for name in _FILES:
        content = gzip.decompress(Path(f"data/raw/reviews/{name}.json.gz").read_bytes())
        Path(f"served/{name}.json.gz").write_bytes(gzip.compress(content, mtime=0))
