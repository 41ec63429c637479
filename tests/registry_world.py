"""A repository with an MLflow store of its own, and models that a registry takes for trained ones."""

import shutil
from pathlib import Path

import pytest

ROUTER = ("models/router/router.json", "models/router/serving.json", "models/encoder/encoder.json")
RECOMMENDER = ("models/recommender/bundle.json",)


def use_store(folder: Path, empty_database: Path, patch: pytest.MonkeyPatch) -> None:
    """Give a repository a copy of an MLflow database, as the default store of whoever works there."""
    shutil.copy(empty_database, folder / "mlflow.db")
    patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    patch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
    patch.delenv("SYMBIOSIS_TRACKING", raising=False)


def write_models(root: Path, word: str, files: tuple[str, ...] = ROUTER) -> None:
    """Write what passes for trained models: a registry reads no more of them than their bytes."""
    for name in files:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name} {word}")
