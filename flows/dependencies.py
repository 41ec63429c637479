"""Which code each stage of dvc.yaml depends on, by one rule.  Rewrite the lists:  python -m flows.dependencies

A stage depends on what its module imports. Ground rooms, which rarely change and which everything imports, are listed
as folders; so is any room of which the stage imports a large part. The rest is listed file by file, so that a change
re-runs only the stages that it can affect. Baselines that train for hours list every file.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from symbiosis.core.fingerprint import imported_files

FOLDERS = (
    "symbiosis/core",
    "symbiosis/text",
    "symbiosis/recommender/data",
    "symbiosis/recommender/metrics",
    "symbiosis/routing/data",
    "symbiosis/routing/metrics",
)
"""Ground rooms."""
SHARE = 0.4
"""A room is also listed as a folder if a stage imports this share of its modules, and at least two."""
EXACT = ("hybrid-baseline", "neural-baseline", "sequential-baseline")
"""Stages that list every file."""
EXAMPLES = {
    "baseline": ("ease", "rp3beta"),
    "hybrid-baseline": ("tuned_hybrid",),
    "neural-baseline": ("multi_vae",),
    "sequential-baseline": ("sasrec",),
}
"""Baselines that together import everything that a stage's baselines share; the stage loads them by name."""
BASELINE = "symbiosis/recommender/baselines/${item.name}.py"
READS = {"symbiosis/reporting/page.py": "symbiosis/reporting/templates"}
"""Folders that a module reads besides Python code: whoever depends on the module depends on them too."""
_CODE = re.compile(r"      - (stages|symbiosis)/")
_COMMAND = re.compile(r"    cmd: exec python -m stages\.(\w+)")


def code_of(stage: str, files: Iterable[Path | str], root: Path | str = ".") -> list[str]:
    """Return the code dependencies of a stage.

    Parameters
    ----------
    stage
        Its name in dvc.yaml, without the part that a matrix adds.
    files
        What its module imports, `symbiosis.core.fingerprint.imported_files`.
    root
        The top of the repository.

    Returns
    -------
    list of str
        Folders and files relative to the top of the repository, sorted.
    """
    paths = {Path(file) for file in files}
    imported = Counter(path.parent for path in paths)
    folders = {
        room for room, count in imported.items() if room.as_posix() in FOLDERS or _large_part(Path(root) / room, count)
    }
    if stage in EXACT:
        folders = set()
    folders = {room for room in folders if folders.isdisjoint(room.parents)}
    listed = {next((room for room in path.parents if room in folders), path).as_posix() for path in paths}
    return sorted(listed | {READS[path] for path in listed & READS.keys()})


def _large_part(room: Path, imported: int) -> bool:
    """Return whether this many imported modules are a large part of a room; the folder `stages` is not a room."""
    modules = sum(file.name != "__init__.py" for file in room.glob("*.py"))
    return "symbiosis" in room.parts and imported >= max(2, SHARE * modules)


def rewrite(text: str, root: Path | str = ".") -> str:
    """Return the text of dvc.yaml with every stage's list of code rewritten; nothing else changes.

    Parameters
    ----------
    text
        That of dvc.yaml: two blanks before a stage's name, its data dependencies before its code.
    root
        The top of the repository.
    """
    lines: list[str] = []
    stage, module = "", ""
    for line in text.splitlines():
        if name := re.fullmatch(r"  ([\w-]+):", line):
            stage, module = name[1], ""
        if command := _COMMAND.match(line):
            module = command[1]
        if not _CODE.match(line):
            lines.append(line)
            continue
        if not module:
            continue  # the rest of a list that was replaced at its first line
        files = set(imported_files(Path(root) / f"stages/{module}.py", root))
        if module == "baseline":  # which loads the baseline by name
            files.update(shared_by_baselines(stage, root))
        listed = code_of(stage, files, root) + ([BASELINE] if module == "baseline" else [])
        lines += [f"      - {path}" for path in sorted(listed)]
        module = ""
    return "\n".join(lines) + "\n"


def shared_by_baselines(stage: str, root: Path | str = ".") -> set[Path]:
    """Return the project files that the baselines of a stage import, without the baselines' own modules."""
    examples = {Path(f"symbiosis/recommender/baselines/{name}.py") for name in EXAMPLES[stage]}
    return {file for example in examples for file in imported_files(Path(root) / example, root)} - examples


def main() -> None:
    """Rewrite the lists in dvc.yaml."""
    argparse.ArgumentParser(prog="python -m flows.dependencies", description=__doc__).parse_args()
    file = Path("dvc.yaml")
    before = file.read_text(encoding="utf-8")
    after = rewrite(before)
    file.write_text(after, encoding="utf-8")
    print("dvc.yaml is up to date" if after == before else "dvc.yaml: the lists of code files were rewritten")


if __name__ == "__main__":
    main()
