"""The annotated list of rooms in README.md, made from their docstrings.  Rewrite it:  python -m flows.layout"""

import argparse
import ast
import re
import sys
from pathlib import Path

from flows.workspace import command
from symbiosis.core.artifacts import staged
from symbiosis.core.errors import InputError

README = Path("README.md")
MARKS = ("<!-- layout: python -m flows.layout -->", "<!-- end of layout -->")
PACKAGES = ("symbiosis", "stages", "flows")
OTHERS = {
    "bench/": "Measurements beside libraries and plain implementations; each module names its command.",
    "tests/": "Tests, in the same rooms as the code.",
    "docs/": "Methods with their formulas, and results in detail.",
    "params.yaml, dvc.yaml": "Every setting, one block per stage; the stages and what each depends on.",
    "configs/, prefect.yaml": "Named runs on real data; the nightly and the hourly deployment.",
    "data/, models/, reports/": "What the pipeline writes; reports/LOG.md is written by hand.",
}
"""What is no package, in the order in which it is listed."""
WIDTH = 27
"""Characters before the description."""


def rooms(package: Path) -> list[tuple[Path, str]]:
    """Return a package and all packages below it, each with the first line of its docstring.

    Parameters
    ----------
    package
        A folder with an ``__init__.py``.

    Returns
    -------
    list of (Path, str)
        Parents before children, siblings in alphabetical order.

    Raises
    ------
    InputError
        A package has no docstring.
    """
    file = package / "__init__.py"
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not docstring:
        raise InputError(f"{file} has no docstring: say in one line what the room holds")
    below = sorted(path.parent for path in package.glob("*/__init__.py"))
    return [(package, docstring.splitlines()[0]), *(room for child in below for room in rooms(child))]


def layout(root: Path = Path()) -> str:
    """Return the list as a block of Markdown.

    Parameters
    ----------
    root
        The top of the repository.
    """
    lines = []
    for package in PACKAGES:
        for folder, sentence in rooms(root / package):
            depth = len(folder.relative_to(root).parts) - 1
            lines.append(f"{'  ' * depth}{folder.name}/".ljust(WIDTH) + sentence)
    lines += [name.ljust(WIDTH) + sentence for name, sentence in OTHERS.items()]
    return "\n".join(["```text", *lines, "```"])


def rewrite(document: str, block: str) -> str:
    """Return the text of README.md with the block between the marks.

    Raises
    ------
    InputError
        The marks are missing or stand there more than once.
    """
    begin, end = map(re.escape, MARKS)
    between = re.compile(f"{begin}.*?{end}", re.DOTALL)
    if len(between.findall(document)) != 1:
        raise InputError(f"{README} must hold the lines `{MARKS[0]}` and `{MARKS[1]}` once")
    return between.sub(lambda _: f"{MARKS[0]}\n{block}\n{MARKS[1]}", document)


def main() -> None:
    """Rewrite the list in README.md, or only check it."""
    parser = argparse.ArgumentParser(prog="python -m flows.layout", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if the list is out of date")
    chosen = parser.parse_args()
    with command():
        before = README.read_text(encoding="utf-8")
        after = rewrite(before, layout())
        if chosen.check and after != before:
            sys.exit("error: the layout in README.md is out of date: run `python -m flows.layout`")
        if after != before:
            with staged(README) as (temporary,):
                temporary.write_text(after, encoding="utf-8")
    print("the layout in README.md is up to date" if after == before else "README.md: the layout was rewritten")


if __name__ == "__main__":
    main()
