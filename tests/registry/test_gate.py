"""The gate on a registry: what passes serves, what does not changes nothing, and whatever breaks keeps it shut."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from gate_world import PARAMS, write_quality, write_router, write_workspace

from symbiosis.core import layout
from symbiosis.core.errors import InputError
from symbiosis.core.serving import serving_folder
from symbiosis.registry import champions, gate
from symbiosis.registry.checks import router as router_module
from symbiosis.registry.registration import register
from symbiosis.registry.verdict import Judged, Verdict
from symbiosis.registry.versions import Registry


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A repository whose registry knows a good router, one like it, and a sabotaged one; read only, see `root`."""
    folder = write_workspace(tmp_path_factory.mktemp("gate") / "work")
    shutil.copy(empty_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
        patch.delenv("SYMBIOSIS_TRACKING", raising=False)
        registry = Registry(folder)
        run = registry.store.client.create_run(registry.store.experiment_id).info.run_id
        patch.setattr(Registry, "run_of", lambda *_: run)
        (folder / "dvc.lock").write_text("stages: {}")
        for seed, shuffled in ((0, False), (1, False), (0, True)):
            write_router(folder, folder, seed=seed, shuffled=shuffled)
            register("router", folder, registry)
    return folder


@pytest.fixture
def root(three: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the repository in which the good router is champion; the artifacts of MLflow are shared."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
    monkeypatch.delenv("SYMBIOSIS_TRACKING", raising=False)
    folder = tmp_path / "work"
    shutil.copytree(three, folder, ignore=shutil.ignore_patterns("mlartifacts"))
    champions.promote("router", 1, root=folder)
    return folder


def candidate(root: Path, number: int) -> None:
    registry = Registry(root)
    registry.set_alias(registry.version("router", number), "candidate")


def judge(root: Path) -> Verdict:
    return gate.judge("router", root, PARAMS)


def files(root: Path) -> dict[str, Any]:
    """What lies below .champions."""
    found = [file for file in sorted((root / layout.CHAMPIONS).rglob("*")) if file.name != ".lock"]
    return {
        file.relative_to(root).as_posix(): str(file.readlink()) if file.is_symlink() else file.read_bytes()
        for file in found
        if file.is_symlink() or file.is_file()
    }


def served(root: Path) -> str:
    return serving_folder("router", root).name


def test_an_equal_one_passes_and_serves(root: Path) -> None:
    """It is promoted; the verdict stands in MLflow, on the version and on its run, and beside the champion."""
    candidate(root, 2)
    before = files(root)
    verdict = judge(root)
    fetched = f".champions/router/versions/{verdict.candidate.digest}/"
    assert {name: old for name, old in files(root).items() if not name.startswith(fetched)} == before
    assert (verdict.standing, verdict.candidate.version) == ("passed", 2)
    assert verdict.champion == Judged.of(Registry(root).version("router", 1))
    assert [check.name for check in verdict.checks] == ["data quality", "utility", "calibration", "AIQ"]
    assert gate.apply(verdict, root) == gate.Applied("promoted")
    assert served(root) == verdict.candidate.digest
    registry = Registry(root)
    version = registry.version("router", 2)
    assert version.tags["symbiosis.gate"] == "passed"
    assert version.tags["symbiosis.gate.words"] == verdict.words
    assert version.run_id
    tags = registry.store.client.get_run(version.run_id).data.tags
    assert (tags["symbiosis.gate.router"], tags["symbiosis.gate.router.words"]) == ("passed", verdict.words)
    folder = root / ".champions/router"
    told = json.loads((folder / "verdict.json").read_text())
    assert told["words"] == verdict.words
    assert told["checks"] == [vars(check) for check in verdict.checks]
    assert "<svg" in (folder / "verdict.html").read_text()
    assert "| utility | yes |" in (folder / "verdict.md").read_text()
    again = judge(root)
    assert (again.standing, again.checks) == ("unchanged", ())
    assert gate.apply(again, root).outcome == "unchanged"
    assert len((folder / "verdicts.jsonl").read_text().splitlines()) == 1


def test_a_sabotaged_one_is_refused(root: Path) -> None:
    """The champion stays; why stands in MLflow and in the history of verdicts."""
    before = served(root)
    verdict = judge(root)
    assert (verdict.standing, verdict.candidate.version) == ("refused", 3)
    assert "is refused: utility on 120 held-out queries" in verdict.words
    assert gate.apply(verdict, root).outcome == "refused"
    assert served(root) == before
    registry = Registry(root)
    assert registry.aliases("router") == {"candidate": 3, "champion": 1}
    assert registry.version("router", 3).tags["symbiosis.gate"] == "refused"
    (line,) = (root / ".champions/router/verdicts.jsonl").read_text().splitlines()
    assert json.loads(line)["passed"] is False


def test_the_first_one(root: Path) -> None:
    """Without a champion the candidate's own checks decide."""
    Registry(root).store.client.delete_registered_model_alias("symbiosis-router", "champion")
    candidate(root, 1)
    verdict = judge(root)
    assert (verdict.standing, verdict.champion) == ("passed", None)
    assert "passes, the first of its kind" in verdict.words
    assert gate.apply(verdict, root).outcome == "promoted"


def test_served_again_where_it_was_lost(root: Path) -> None:
    """A champion that does not serve here, as on another machine, does so after the gate has looked."""
    candidate(root, 1)
    shutil.rmtree(root / layout.CHAMPIONS)
    assert gate.apply(judge(root), root).outcome == "unchanged"
    assert served(root) == Registry(root).version("router", 1).digest


def test_data_that_failed_their_expectations(root: Path) -> None:
    """Nothing is even compared; a report that is missing or says nothing is no better."""
    candidate(root, 2)
    write_quality(root, "routing", passed=False)
    verdict = judge(root)
    assert verdict.standing == "refused"
    assert "13 of 15 expectations hold (reports/data_quality/routing.json)" in verdict.words
    assert [check.name for check in verdict.checks] == ["data quality"]
    file = root / "reports/data_quality/routing.json"
    file.write_text("{}")
    assert "does not say whether the data passed" in judge(root).words
    file.unlink()
    assert "routing.json is missing" in judge(root).words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("data/routing/test.parquet is damaged"), "data/routing/test.parquet is damaged"),
        (ZeroDivisionError("float\ndivision"), "ZeroDivisionError: float division (the check itself crashed)"),
        (MemoryError("no room"), "MemoryError: no room (the check itself crashed)"),
    ],
)
def test_a_check_that_crashes_refuses(
    error: Exception, words: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error

    candidate(root, 2)
    monkeypatch.setattr(router_module, "router_checks", broken)
    verdict = judge(root)
    assert verdict.standing == "refused"
    assert verdict.words.endswith(words)
    assert gate.apply(verdict, root).outcome == "refused"
    assert Registry(root).aliases("router")["champion"] == 1


def test_data_that_lack_refuse(root: Path) -> None:
    candidate(root, 2)
    (root / layout.ROUTING_TEST).unlink()
    assert "data/routing/test.parquet is missing" in judge(root).words


def test_what_was_taken_back_returns_by_force_only(root: Path) -> None:
    candidate(root, 2)
    gate.apply(judge(root), root)
    champions.rollback("router", root)
    verdict = judge(root)
    assert verdict.standing == "refused"
    assert "--version 2 --force" in verdict.words
    champions.promote("router", 2, forced="it was the data", root=root)
    assert judge(root).standing == "unchanged"


def test_a_verdict_holds_for_what_was_judged_only(root: Path) -> None:
    """Another candidate or champion by now: nothing is promoted."""
    candidate(root, 2)
    verdict = judge(root)
    candidate(root, 3)
    with pytest.raises(gate.Waiting, match="the router's candidate has changed since it was judged: judge again"):
        gate.apply(verdict, root)
    candidate(root, 2)
    champions.promote("router", 3, forced="a trial", root=root)
    with pytest.raises(gate.Waiting, match="the router's champion has changed since it was judged"):
        gate.apply(verdict, root)
    assert Registry(root).aliases("router")["champion"] == 3


def test_mlflow_that_is_down(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what waits; nothing here changes, and the verdict can be applied later."""
    candidate(root, 2)
    verdict, before = judge(root), files(root)
    with socket.socket() as taken, monkeypatch.context() as patch:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"  # nobody listens
        patch.setenv("MLFLOW_TRACKING_URI", address)
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(gate.Waiting, match=f"the router's candidate waits to be judged: MLflow at {address}"):
            judge(root)
        with pytest.raises(gate.Waiting, match=rf"router version 2 \(\w+\), passed, waits: MLflow at {address}"):
            gate.apply(verdict, root)
        patch.setenv("SYMBIOSIS_TRACKING", "off")
        with pytest.raises(gate.Waiting, match="tracking is switched off"):
            judge(root)
    assert files(root) == before
    assert gate.apply(verdict, root).outcome == "promoted"


def test_mlflow_that_fails_after_the_promotion(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was promoted stays so; that its tags lack is told."""
    candidate(root, 2)
    verdict = judge(root)

    def down(*_: object) -> None:
        raise InputError("MLflow at x cannot be used: gone")

    monkeypatch.setattr(Registry, "tag_run", down)
    applied = gate.apply(verdict, root)
    assert applied.outcome == "promoted"
    assert applied.warning is not None
    assert applied.warning.endswith("is not in MLflow: MLflow at x cannot be used: gone")


def test_nothing_registered(root: Path) -> None:
    with pytest.raises(gate.Waiting, match="no recommender waits to be judged: MLflow at .* knows no candidate"):
        gate.judge("recommender", root, PARAMS)


def test_params_of_this_repository(tmp_path: Path) -> None:
    params = gate.read_params(ROOT)
    assert (params.router.margin, params.router.calibration_margin, params.recommender.margin) == (0.01, 0.02, 0.01)
    with pytest.raises(InputError, match=r"params\.yaml is missing"):
        gate.read_params(tmp_path)
