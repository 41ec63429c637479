"""Suites on frames: outcomes, the report and the stop."""

import json
from pathlib import Path

import polars as pl
import pytest

from symbiosis.core.errors import InputError
from symbiosis.reporting.page import Text
from symbiosis.reporting.quality import EXAMPLES, Outcome, Rule, Suite, Validation, report, require, validate

SUITE = Suite(
    "reviews",
    (
        Rule(
            "a rating lies between 1 and 5",
            "ExpectColumnValuesToBeBetween",
            {"column": "rating", "min_value": 1, "max_value": 5},
        ),
        Rule("an item is named", "ExpectColumnValuesToNotBeNull", {"column": "item"}),
        Rule("a pair occurs once", "ExpectCompoundColumnsToBeUnique", {"column_list": ["user", "item"]}),
        Rule("there are at least 3 reviews", "ExpectTableRowCountToBeBetween", {"min_value": 3}),
    ),
    row="line",
)


def frame(rating: list[float | None], item: list[int | None], user: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {"line": [10 * (k + 1) for k in range(len(user))], "user": user, "item": item, "rating": rating},
        schema={"line": pl.UInt32, "user": pl.UInt32, "item": pl.UInt32, "rating": pl.Float32},
    )


GOOD = frame([1.0, None, 5.0], [0, 1, 0], [0, 0, 1])
BAD = frame([1.0, 9.0, 5.0, 0.5], [0, 1, None, 0], [0, 0, 1, 0])


def test_a_good_frame_passes_every_rule_in_the_order_of_the_suite() -> None:
    outcomes = validate(GOOD, SUITE)
    assert [outcome.rule for outcome in outcomes] == [rule.text for rule in SUITE.rules]
    assert all(outcome.passed and outcome.failing == 0 and not outcome.examples for outcome in outcomes)
    assert {outcome.rows for outcome in outcomes} == {3}


def test_failing_rows_are_counted_and_named_by_the_row_column() -> None:
    rating, item, pair, rows = validate(BAD, SUITE)
    assert (rating.passed, rating.failing, rating.examples) == (False, 2, ("line 20: 9", "line 40: 0.5"))
    assert (item.passed, item.failing, item.examples) == (False, 1, ("line 30: missing",))
    assert (pair.passed, pair.failing) == (False, 2)
    assert pair.examples == ("line 10: user 0, item 0", "line 40: user 0, item 0")
    assert rows.passed


def test_without_a_row_column_rows_are_counted_from_zero() -> None:
    (outcome,) = validate(BAD, Suite("reviews", SUITE.rules[:1]))
    assert outcome.examples == ("row 1: 9", "row 3: 0.5")


def test_examples_are_few_however_many_rows_fail() -> None:
    (outcome,) = validate(frame([7.0] * 50, [0] * 50, list(range(50))), Suite("reviews", SUITE.rules[:1]))
    assert outcome.failing == 50
    assert len(outcome.examples) == EXAMPLES


def test_a_rule_on_a_missing_column_fails_and_says_so() -> None:
    rules = (SUITE.rules[1], Rule("a price is known", "ExpectColumnValuesToNotBeNull", {"column": "price"}))
    named, priced = validate(GOOD, Suite("reviews", rules))
    assert named.passed
    assert not priced.passed
    assert "price" in (priced.observed or "")


def test_a_rule_on_the_whole_frame_tells_what_it_found() -> None:
    outcome = validate(GOOD.head(1), SUITE)[3]
    assert (outcome.passed, outcome.failing, outcome.observed) == (False, 1, "1")


def test_the_checks_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    validate(BAD, SUITE)
    assert capfd.readouterr() == ("", "")


def test_the_report_is_the_same_each_time_and_fetches_nothing() -> None:
    summary, html = report("Reviews", validate(BAD, SUITE))
    assert (summary, html) == report("Reviews", validate(BAD, SUITE))
    assert summary["passed"] is False
    assert (summary["rules"], summary["broken"]) == (4, 3)
    (told,) = summary["frames"]
    assert (told["frame"], told["rows"]) == ("reviews", 4)
    assert list(told["failing"].values()) == [2, 1, 2, 0]
    assert json.loads(json.dumps(summary)) == summary
    assert "4 rules, 3 failed" in html
    assert "line 20: 9" in html
    assert "http" not in html


def test_require_returns_the_report_and_removes_the_page_of_an_earlier_failure(tmp_path: Path) -> None:
    page = tmp_path / "quality" / "reviews.failed.html"
    with pytest.raises(InputError):
        require("Reviews", validate(BAD, SUITE), page)
    assert page.exists()
    outcomes = validate(GOOD, SUITE)
    assert require("Reviews", outcomes, page) == report("Reviews", outcomes)
    assert not page.exists()


def test_require_names_rule_count_examples_and_page(tmp_path: Path) -> None:
    page = tmp_path / "reviews.failed.html"
    with pytest.raises(InputError) as caught:
        require("Reviews", validate(BAD, SUITE), page)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("`a rating lies between 1 and 5`", "2 of 4 rows", "line 20: 9; line 40: 0.5", "2 more", str(page)):
        assert part in message
    assert page.read_text(encoding="utf-8") == report("Reviews", validate(BAD, SUITE))[1]


def test_further_sections_end_the_page(tmp_path: Path) -> None:
    outcomes = validate(GOOD, SUITE)
    more = Text("more & more")
    assert report("Reviews", outcomes, [more])[1].rstrip().endswith("more &amp; more</p>\n</body>\n</html>")
    assert require("Reviews", outcomes, tmp_path / "x.failed.html", [more]) == report("Reviews", outcomes, [more])


def test_values_are_escaped_in_the_page() -> None:
    outcome = Outcome("reviews", "a rule", False, 1, 1, None, ("row 0: <script>",))
    assert "<script>" not in report("Reviews", [outcome])[1]


SOME = Rule("most are positive", "ExpectColumnValuesToBeBetween", {"column": "x", "min_value": 1, "mostly": 0.5})
ALL = Rule("all are positive", "ExpectColumnValuesToBeBetween", {"column": "x", "min_value": 1})


@pytest.mark.parametrize(
    ("blocks", "some", "every"),
    [([[0, 0], [1, 1, 1]], True, False), ([[1], [0, 0, 1]], True, False), ([[1], [0, 0, 0]], False, False)],
)
def test_a_check_in_blocks_counts_over_all(blocks: list[list[int]], some: bool, every: bool) -> None:
    validation = Validation(Suite("numbers", (SOME, ALL)))
    for block in blocks:
        validation.add(pl.DataFrame({"x": block}))
    of_some, of_all = validation.outcomes()
    assert (of_some.passed, of_all.passed) == (some, every)
    numbers = [number for block in blocks for number in block]
    assert of_all.rows == len(numbers)
    assert of_all.failing == of_some.failing == numbers.count(0)
    assert len(of_all.examples) == min(5, numbers.count(0))
