"""The short results table: in the terminal, as Markdown, and in README.md."""

from pathlib import Path

import pytest

from symbiosis.core.errors import InputError
from symbiosis.reporting.results import markdown, text, write_readme

MARKS = ("<!-- results: symbiosis results --readme -->", "<!-- end of results -->")


def test_tables(stub_run: Path) -> None:
    """Every method and every reference policy, with intervals and the way to the whole report."""
    printed = text(stub_run / "reports")
    assert "7 users, 5 items, 1,000 training interactions" in printed
    assert "recommender  0.1000 [0.0000, 1.0000]  0.1000 [0.0000, 1.0000]  0.1000 [0.0000, 1.0000]" in printed
    assert "whole report: reports/recommender.html" in printed
    assert "cheapest (small)     0.4000 [0.0000, 1.0000]        0.00123" in printed
    table = markdown(stub_run / "reports")
    assert "| ease | 0.1000 [0.0000, 1.0000] | 0.1000 [0.0000, 1.0000] | 0.1000 [0.0000, 1.0000] |" in table
    assert "| router_none | 0.4000 [0.0000, 1.0000] | 0.00123 | 0.5000 |" in table
    (stub_run / "reports/router.json").unlink()
    assert "RecSys for LLM" not in text(stub_run / "reports")


def test_readme(stub_run: Path) -> None:
    """Only what stands between the marks is written, and writing twice changes nothing."""
    readme = stub_run / "README.md"
    readme.write_text(f"before\n{MARKS[0]}\nold \\1\n{MARKS[1]}\nafter\n")
    write_readme(readme, stub_run / "reports")
    once = readme.read_text()
    assert once.startswith(f"before\n{MARKS[0]}\n**LLM for RecSys**")
    assert once.endswith(f"\n{MARKS[1]}\nafter\n")
    assert "old" not in once
    write_readme(readme, stub_run / "reports")
    assert readme.read_text() == once


def test_refusals(stub_run: Path) -> None:
    """No marks, no results and strange results are told."""
    readme = stub_run / "README.md"
    readme.write_text("nothing here")
    with pytest.raises(InputError, match="must hold the lines"):
        write_readme(readme, stub_run / "reports")
    with pytest.raises(InputError, match="no results in .* yet: run `make repro`"):
        text(stub_run / "data")
    (stub_run / "reports/recommender.json").write_text("{}")
    with pytest.raises(InputError, match=r"recommender\.json has another form"):
        text(stub_run / "reports")
