"""The short results table: in the terminal, as Markdown, and in README.md."""

import re
from pathlib import Path

import pytest

from symbiosis.core.artifacts import write_json
from symbiosis.core.errors import InputError
from symbiosis.reporting.results import data, headline_markdown, markdown, show, text, write_readme

MARKS = ("<!-- results: symbiosis results --readme -->", "<!-- end of results -->")


def test_tables(stub_run: Path) -> None:
    """Every method and every reference policy, with intervals and the way to the whole report."""
    printed = text(stub_run / "reports")
    assert "7 users, 5 items, 1,000 training interactions" in printed
    assert "GPT-2 + graph  0.1000 [0.0000, 1.0000]  0.1000 [0.0000, 1.0000]  0.1000 [0.0000, 1.0000]" in printed
    assert "whole report: reports/recommender.html" in printed
    assert "cheapest LLM (small)     0.4000 [0.0000, 1.0000]        0.00123" in printed
    table = markdown(stub_run / "reports")
    assert "| EASE | 0.1000 [0.0000, 1.0000] | 0.1000 [0.0000, 1.0000] | 0.1000 [0.0000, 1.0000] |" in table
    assert "| router, no feedback | 0.4000 [0.0000, 1.0000] | 0.00123 | 0.5000 |" in table
    (stub_run / "reports/router.json").unlink()
    assert "RecSys for LLM" not in text(stub_run / "reports")


def test_readme(stub_run: Path) -> None:
    """Only what stands between the marks is written, and writing twice changes nothing."""
    readme = stub_run / "README.md"
    readme.write_text(f"before\n{MARKS[0]}\nold \\1\n{MARKS[1]}\nafter\n")
    write_readme(readme, stub_run / "reports")
    once = readme.read_text()
    assert once.startswith(f"before\n{MARKS[0]}\n|  | measure |")
    assert "| [Recommender](reports/recommender.html) | Recall@20 | 0.1000 [0.0000, 1.0000] |" in once
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


def measured(mean: float) -> dict[str, dict[str, float]]:
    return {
        name: {"mean": mean, "low": mean - 0.1, "high": mean + 0.1} for name in ("recall@20", "recall@40", "ndcg@100")
    }


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Reports of a recommender and of a comparison in which an informed method leads."""
    recommender = {
        "recommender": measured(0.5),
        "baselines": {"ease": measured(0.25), "ials": measured(0.375)},
        "difference": {"to": "ials", "recommender": measured(0.125), "baselines": {}},
        "data": {"users": 7, "items": 5, "training interactions": 1000},
    }
    methods = {
        name: {"aiq": aiq, "aiq_95": {"low": aiq - 0.1, "high": aiq + 0.1}}
        for name, aiq in (("router", 0.75), ("router_clusters", 0.74), ("oracle", 0.9), ("mlp", 0.5), ("ridge", 0.625))
    }
    for name in ("oracle", "mlp", "ridge"):
        lead = 0.75 - methods[name]["aiq"]  # type: ignore[operator]
        methods[name] |= {"router_lead": lead, "router_lead_95": {"low": lead - 0.1, "high": lead + 0.1}}
    write_json(tmp_path / "recommender.json", recommender)
    write_json(tmp_path / "router_study.json", {"data": {"splits": [1, 2]}, "methods": methods})
    return tmp_path


def test_a_headline_names_the_strongest_baseline_and_the_paired_gain(reports: Path) -> None:
    """Methods that see outcomes are no baseline to beat; nor is another form of the router."""
    first, second = data(reports)["headlines"]
    assert (first["ours"], first["strongest"]) == ("0.5000 [0.4000, 0.6000]", "iALS 0.3750")
    assert first["gain"] == "+0.1250 [+0.0250, +0.2250]"
    assert (second["ours"], second["strongest"]) == ("0.7500 [0.6500, 0.8500]", "ridge 0.6250")
    assert second["gain"] == "+0.1250 [+0.0250, +0.2250]"
    assert second["page"] == (reports / "router_study.html").as_posix()
    assert headline_markdown(reports).count("\n") == 4


def test_tables_are_sorted_and_ours_is_marked(reports: Path) -> None:
    first, second = data(reports)["tables"]
    assert [row[0] for row in first["rows"]] == ["GPT-2 + graph", "iALS", "EASE"]
    assert first["ours"] == 0
    assert [row[0] for row in second["rows"]] == ["oracle", "router", "router, tags from k-means", "ridge", "mlp"]
    assert second["ours"] == 1


def test_without_a_terminal_the_tables_are_plain(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(reports)
    assert capsys.readouterr().out == text(reports) + "\n"
    assert "\x1b" not in text(reports)


def test_a_narrow_terminal_is_kept_to(
    reports: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells fold where they do not fit, and nothing of them is lost."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "50")
    show(reports)
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    shown = [line for line in printed.splitlines() if not line.startswith("whole report")]
    assert max(map(len, shown)) <= 50
    assert "0.5000" in printed
