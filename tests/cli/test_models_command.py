"""Registered models on the command line: listed, promoted by force or through the gate, taken back, fetched."""

import json
from pathlib import Path

import pytest
from registry_world import RECOMMENDER, ROUTER, use_store, write_models

from symbiosis.cli.app import main
from symbiosis.registry import gate
from symbiosis.registry.registration import register
from symbiosis.registry.verdict import Judged, Verdict
from symbiosis.registry.versions import FORCED_BECAUSE, Registry


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A repository whose registry knows three routers and a recommender; read only."""
    folder = tmp_path_factory.mktemp("registered") / "work"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        use_store(folder, empty_database, patch)
        registry = Registry(folder)
        for word in ("first", "second", "third"):
            write_models(folder, word, ROUTER + RECOMMENDER)
            register("router", folder, registry)
        register("recommender", folder, registry)
    return folder


@pytest.fixture
def registered(known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Its registry, which may be changed; the working directory is the repository."""
    folder = tmp_path / "work"
    folder.mkdir()
    use_store(folder, known / "mlflow.db", monkeypatch)
    monkeypatch.chdir(folder)
    return Registry()


def test_there_and_back(registered: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """Forced versions serve, are logged with their reason, and are taken back."""
    assert main(["promote", "--version", "2", "--force"]) == 0
    assert "router version 2 (" in capsys.readouterr().out
    assert main(["models", "promote", "router", "--version", "3", "--force", "--because", "a hunch", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["action"], told["version"], told["former"], told["because"]) == ("force", 3, 2, "a hunch")
    assert registered.version("router", 3).tags[FORCED_BECAUSE] == "a hunch"
    assert main(["promote", "router", "--version", "3", "--force"]) == 0
    assert "is the champion and serves here already" in capsys.readouterr().out
    assert main(["models", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert [(one["model"], one["version"], one["aliases"], one["serves"]) for one in listed] == [
        ("router", 1, [], False),
        ("router", 2, [], False),
        ("router", 3, ["candidate", "champion"], True),
        ("recommender", 1, ["candidate"], False),
    ]
    assert main(["models", "rollback", "router"]) == 0
    assert "router version 2 (" in capsys.readouterr().out
    assert main(["models", "list", "router"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("*") for line in lines] == [False, False, True, False]
    assert "yes" in lines[3].split()
    assert main(["models", "pull", "--json"]) == 0
    pulled = json.loads(capsys.readouterr().out)
    assert (pulled["router"]["moved"], pulled["recommender"]) == (False, None)


def test_what_is_meant(registered: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a kind the model must be the only one that can be meant; errors are one line."""
    for arguments, message in (
        (["promote", "--version", "1", "--force"], "both models have a version 1: say which"),
        (["promote", "--version", "9", "--force"], "no model has a version 9: `symbiosis models list`"),
        (["promote", "router", "--version", "9", "--force"], "symbiosis-router has no version 9"),
        (["promote", "--force"], "both models have a candidate: say which"),
        (["models", "rollback", "router"], "there is no router to go back to"),
    ):
        assert main(arguments) == 1
        told = capsys.readouterr().err
        assert message in told
        assert told.count("\n") == 1
    assert main(["promote", "router", "--because", "x"]) == 2
    assert "give --force, too" in capsys.readouterr().err


@pytest.mark.parametrize("standing", ["passed", "refused"])
def test_without_force_the_gate_decides(
    standing: str, registered: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(kind: str, *_: object, **__: object) -> Verdict:
        candidate = registered.aliased("router", "candidate")
        assert candidate is not None
        return Verdict("router", standing, (), "so it is", Judged.of(candidate), None, "2026-11-28")  # type: ignore[arg-type]

    monkeypatch.setattr(gate, "judge", judged)
    monkeypatch.setattr(gate, "read_params", lambda _: None)
    assert main(["promote", "router", "--version", "1"]) == {"passed": 0, "refused": 1}[standing]
    assert "so it is" in capsys.readouterr().out
    champion = registered.aliased("router", "champion")
    assert (None if champion is None else champion.version) == {"passed": 1, "refused": None}[standing]
