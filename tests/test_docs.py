"""README.md and docs/ name only files, commands and params that exist; the layout is up to date."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import typer.main
import yaml
from conftest import ROOT

from flows.layout import MARKS, OTHERS, layout, rewrite, rooms
from symbiosis.cli.app import app
from symbiosis.core.errors import InputError

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


def code(language: str, document: str) -> list[str]:
    """Blocks of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", document, re.MULTILINE | re.DOTALL)


def prose(document: str) -> str:
    """A page without its blocks of code and formulas."""
    return re.sub(r"^```.*?^```", "", document, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(\s*([^)\s]+)\s*\)", prose(page.read_text(encoding="utf-8")))
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    written = set(
        re.findall(r"^      - (reports/\S+\.html)", (ROOT / "dvc.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert links
    for link in links:
        if link.startswith("#"):
            assert link in anchors
        elif "://" not in link:
            target = (page.parent / link.partition("#")[0]).resolve()
            assert target.exists() or target.relative_to(ROOT).as_posix() in written, link


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"\bmake ([a-z]+)\b", _commands(page))}
    assert {"repro", "test", "serve", "flow", "table"} <= named
    assert named <= targets


def test_modules_that_are_run_exist() -> None:
    for page in PAGES:
        for module in re.findall(r"\bpython -m ([\w.]+)", _commands(page)):
            file = ROOT / module.replace(".", "/")
            assert file.with_suffix(".py").is_file() or (file / "__main__.py").is_file(), f"{page.name}: {module}"


def test_the_program_has_the_commands() -> None:
    named = {name for page in PAGES for name in re.findall(r"\bsymbiosis ((?:llms |params )?[a-z]+)", _commands(page))}
    assert {"route", "recommend", "explain", "feedback", "llms add", "versions", "rollback", "results"} <= named
    program = typer.main.get_command(app)
    for name in sorted(named):
        command = program
        for word in name.split():
            assert word in command.commands, f"symbiosis {name}"  # type: ignore[attr-defined]
            command = command.commands[word]  # type: ignore[attr-defined]


def test_stages_and_params_exist() -> None:
    document = README.read_text(encoding="utf-8")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    _, graph = code("mermaid", document)  # the first one draws the loop
    drawn = set(re.findall(r"[a-z]+(?:-[a-z]+)*", re.sub(r'\[?"[^"]*"\]?', "", graph)))
    assert drawn - {"flowchart", "subgraph", "end"} <= set(stages)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key in re.findall(r"-S ([\w.]+)=", document):
        block, _, leaf = key.partition(".")
        assert leaf in params[block], key


def test_python_examples_import_what_exists() -> None:
    blocks = code("python", README.read_text(encoding="utf-8"))
    assert len(blocks) >= 2
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), node.module


def test_sections_of_the_methods_are_numbered_in_order() -> None:
    """A section cited in the text of the page exists, too."""
    document = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    numbers = [tuple(map(int, n.split("."))) for n in re.findall(r"^##+ (\d+(?:\.\d+)?) ", document, re.MULTILINE)]
    assert numbers == sorted(set(numbers))
    for chapter in {number[0] for number in numbers}:
        below = [number[1] for number in numbers if number[0] == chapter and len(number) == 2]
        assert below == list(range(1, len(below) + 1))
    cited = re.findall(r"\bsections? (\d+(?:\.\d+)?)", document)
    assert cited
    assert {tuple(map(int, n.split("."))) for n in cited} <= set(numbers)
    for label, last in (("F", 29), ("D", 15)):
        rows = re.findall(rf"^\| {label}(\d+) \|", document, re.MULTILINE)
        assert rows == [str(n) for n in range(1, last + 1)]


def test_the_layout_is_up_to_date() -> None:
    document = README.read_text(encoding="utf-8")
    assert rewrite(document, layout(ROOT)) == document, "run `python -m flows.layout`"
    for names in OTHERS:
        for name in names.split(", "):
            assert (ROOT / name).exists(), name


def test_the_layout_lists_rooms_by_their_docstrings(tmp_path: Path) -> None:
    house = tmp_path / "house"
    for room, text in (("", '"""The house.\n\nMore."""\n'), ("b", '"""B."""\n'), ("a", '"""A."""\n'), ("a/c", '"C."')):
        (house / room).mkdir(parents=True)
        (house / room / "__init__.py").write_text(text)
    (house / "no_package").mkdir()
    found = [(folder.relative_to(tmp_path).as_posix(), sentence) for folder, sentence in rooms(house)]
    assert found == [("house", "The house."), ("house/a", "A."), ("house/a/c", "C."), ("house/b", "B.")]
    (house / "b/__init__.py").write_text("")
    with pytest.raises(InputError, match=r"b/__init__\.py has no docstring"):
        rooms(house)


def test_the_layout_is_written_between_its_marks() -> None:
    page = f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n"
    once = rewrite(page, "a \\1 list")
    assert once == f"before\n{MARKS[0]}\na \\1 list\n{MARKS[1]}\nafter\n"
    assert rewrite(once, "a \\1 list") == once
    with pytest.raises(InputError, match="once"):
        rewrite("nothing here", "list")


def _commands(page: Path) -> str:
    """Shell blocks and code spans, where commands are named."""
    document = page.read_text(encoding="utf-8")
    return "\n".join([*code("sh", document), *re.findall(r"`([^`\n]+)`", prose(document))])
