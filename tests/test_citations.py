"""What the code cites exists: sections and flaws of docs/methods.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
METHODS = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
CODE = [
    file
    for folder in ("symbiosis", "stages", "flows", "bench", "tests")
    for file in sorted((ROOT / folder).rglob("*.py"))
]
CITATION = re.compile(r"docs/methods\.md`*,\s+sections?\s+((?:(?:and\s+)?[\dF][\d.]*(?:,\s+|\s+(?=and\b))?)+)")


def citations(text: str) -> list[str]:
    """Every section and flaw that a text cites.

    >>> citations("(docs/methods.md, sections 1.11, F16, and 1.5)")
    ['1.11', 'F16', '1.5']
    """
    return [part for cited in CITATION.findall(text) for part in re.findall(r"F\d+|\d+(?:\.\d+)*", cited)]


def test_citations_are_found_in_any_layout() -> None:
    assert citations("as docs/methods.md, sections 1.11, F16, and\n1.5). 7") == ["1.11", "F16", "1.5"]
    assert citations("`docs/methods.md`, section 2.2.") == ["2.2"]


def test_every_cited_section_exists() -> None:
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)*) ", METHODS, re.MULTILINE))
    flaws = set(re.findall(r"^\| (F\d+) \|", METHODS, re.MULTILINE))
    cited = {(file, part) for file in CODE if file != Path(__file__) for part in citations(file.read_text("utf-8"))}
    assert len({file for file, _ in cited}) > 9
    missing = {f"{file.relative_to(ROOT)}: {part}" for file, part in cited if part not in sections | flaws}
    assert not missing


def test_no_docstring_cites_the_specification() -> None:
    """It is not in the tree."""
    pattern = re.compile(r"\(specification|specification,? (section|F\d)")
    assert not [file for file in CODE if file != Path(__file__) and pattern.search(file.read_text("utf-8"))]
