"""What this project never does: a shell, pickle, eval, unsafe YAML; read from the syntax tree of all its code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for room in ("symbiosis", "stages", "flows", "bench") for path in (ROOT / room).rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pickle.load"}

# RouterBench is published as a pickle: its reader knows a handful of classes and refuses every other one.
ALLOWED = {
    "bench/fuzzing/table_targets.py": ["import pickle"],  # writes inputs for the reader
    "symbiosis/routing/data/readers/pickles.py": ["import pickle"],
}


def faults(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [f"import {alias.name}" for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(f"from {node.module}")
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            if name in CALLS:
                found.append(name)
            if options.get("shell", "False") != "False" or options.get("allow_pickle", "False") != "False":
                found.append(f"{name} with a shell or pickle")
            if name.endswith("torch.load") and options.get("weights_only") != "True":
                found.append("torch.load of pickles")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_shell_no_pickle_no_eval(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == ALLOWED.get(path.relative_to(ROOT).as_posix(), [])


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "import yaml; yaml.load(x)",
        "subprocess.run(x, shell=True)",
        "np.load(x, allow_pickle=True)",
        "torch.load(x)",
    ],
)
def test_each_of_them_would_be_found(source: str) -> None:
    assert len(faults(source)) == 1
