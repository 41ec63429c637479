"""Which project files a module imports, and what identifies one run of a stage."""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

from symbiosis.core.artifacts import sha256_of
from symbiosis.core.params import StageParams

PACKAGES = ("symbiosis", "stages")


def imported_files(module_file: Path | str, root: Path | str = ".") -> list[Path]:
    """Every project file that a module imports, directly or through others, itself included.

    Read from the syntax tree, so nothing is executed. Packages' ``__init__.py`` hold a docstring only and are left
    out.

    Parameters
    ----------
    module_file
        A Python file below `root`.
    root
        The top of the repository.

    Returns
    -------
    list of Path
        Paths relative to `root`, sorted.
    """
    root = Path(root).resolve()
    waiting, found = [Path(module_file).resolve()], set[Path]()
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.split(".")[0] in PACKAGES:
                    candidate = root.joinpath(*name.split(".")).with_suffix(".py")
                    if candidate.is_file():
                        waiting.append(candidate)
    return sorted(path.relative_to(root) for path in found)


def fingerprint(module_file: Path | str, params: StageParams, inputs: Iterable[Path | str]) -> str:
    """Identify one run of a stage by its params, its code and its data; names the folder of its checkpoints.

    Two runs with the same fingerprint would write the same bytes, so one may continue the other; any change of
    params, code or data gives another fingerprint, so that a stale checkpoint is never picked up.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(params.model_dump_json().encode())
    for path in [*imported_files(module_file), *map(Path, inputs)]:
        digest.update(f"{path.as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()[:16]
