"""Data quality: small declarative suites checked by Great Expectations, reported as plain results and one page.

Great Expectations has no polars engine, so a frame is checked through a pandas view. Give it narrow views: ids,
numbers and lengths instead of texts, because the values of failing rows are shown in messages and reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbiosis.core.artifacts import staged
from symbiosis.core.errors import InputError
from symbiosis.reporting import page

if TYPE_CHECKING:
    import polars as pl

EXAMPLES = 5


@dataclass(frozen=True)
class Rule:
    """One expectation.

    Parameters
    ----------
    text
        The rule in words; unique within its suite.
    expectation
        Class name in ``great_expectations.expectations``, for instance ``ExpectColumnValuesToBeBetween``. Most of
        them pass over missing values (null and NaN alike); those need ``ExpectColumnValuesToNotBeNull``.
    arguments
        Keyword arguments of that class.
    """

    text: str
    expectation: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """The rules of one frame.

    Parameters
    ----------
    frame
        What the frame holds, in the plural: ``"reviews"``.
    rules
        In the order of the report.
    row
        Column that names a row in examples (``"line"``, ``"query_id"``); without it rows are counted from 0.
    """

    frame: str
    rules: tuple[Rule, ...]
    row: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of one rule; plain Python values only."""

    frame: str
    rule: str
    passed: bool
    rows: int
    failing: int  # rows; 0 or 1 for a rule on the whole frame
    observed: str | None  # of a rule on the whole frame
    examples: tuple[str, ...]  # up to EXAMPLES failing rows


def validate(frame: "pl.DataFrame", suite: Suite) -> list[Outcome]:
    """Check a frame against a suite, in memory: nothing is stored, sent or printed.

    Parameters
    ----------
    frame
        A narrow view; see the module's docstring.
    suite
        Its rules.

    Returns
    -------
    list of Outcome
        One per rule, in the suite's order. A rule that cannot be applied (a column is missing) has failed.
    """
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batches = context.data_sources.add_pandas("pandas").add_dataframe_asset(suite.frame)
    batch = batches.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame.to_pandas()})
    # The results come in the library's own order; `meta` carries ours.
    expectations = [
        getattr(gx.expectations, rule.expectation)(**rule.arguments, meta={"rule": position})
        for position, rule in enumerate(suite.rules)
    ]
    checked = batch.validate(
        gx.ExpectationSuite(name=suite.frame, expectations=expectations),
        result_format={"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES},
    )
    found = {result["expectation_config"]["meta"]["rule"]: result for result in checked.results}
    return [_outcome(frame, suite, rule, found[position]) for position, rule in enumerate(suite.rules)]


class Validation:
    """Checks a frame that comes in blocks of rows.

    A rule holds if it holds of every block; one with ``mostly``, if it holds of so large a share of all rows, none of
    which may be missing. So a rule that compares rows, such as that none is repeated, needs blocks that keep together
    what could be alike.

    Parameters
    ----------
    suite
        The rules.
    """

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self._blocks: list[list[Outcome]] = []

    def add(self, frame: "pl.DataFrame") -> None:
        """Check a block, as `validate` does."""
        self._blocks.append(validate(frame, self.suite))

    def outcomes(self) -> list[Outcome]:
        """Return one outcome per rule, of all blocks, of which there is one at least."""
        if len(self._blocks) == 1:
            return self._blocks[0]
        return [
            _of_blocks(rule, outcomes)
            for rule, outcomes in zip(self.suite.rules, zip(*self._blocks, strict=True), strict=True)
        ]


def _of_blocks(rule: Rule, outcomes: Sequence[Outcome]) -> Outcome:
    rows, failing = sum(one.rows for one in outcomes), sum(one.failing for one in outcomes)
    passed = all(one.passed for one in outcomes)
    if "mostly" in rule.arguments:
        passed = failing <= (1 - rule.arguments["mostly"]) * rows
    observed = next((one.observed for one in outcomes if not one.passed), outcomes[0].observed)
    examples = tuple(example for one in outcomes for example in one.examples)[:EXAMPLES]
    return Outcome(outcomes[0].frame, outcomes[0].rule, passed, rows, failing, observed, examples)


def _outcome(frame: "pl.DataFrame", suite: Suite, rule: Rule, result: Any) -> Outcome:
    passed, details = bool(result.success), result.result
    observed = None
    if "unexpected_count" in details:
        failing = int(details["unexpected_count"])
    else:
        failing = 0 if passed else 1
        observed = _plain(details.get("observed_value")) if details else _reason(result.exception_info)
    places = details.get("partial_unexpected_index_list") or []
    values = details.get("partial_unexpected_list") or []
    name = suite.row or "row"
    examples = [
        f"{name} {_plain(frame[suite.row][int(place)]) if suite.row else int(place)}: {_plain(value)}"
        for place, value in zip(places, values, strict=False)
    ]
    return Outcome(suite.frame, rule.text, passed, frame.height, failing, observed, tuple(examples[:EXAMPLES]))


def _plain(value: Any) -> str:
    """Write a value as a reader expects it, whatever numpy or pandas type carries it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list | tuple | set):
        return ", ".join(_plain(part) for part in value)
    value = value.item() if hasattr(value, "item") else value
    if value is None or value != value:
        return "missing"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _reason(exception_info: dict[str, Any]) -> str:
    """Return why a rule could not be applied: one message, or one for each metric that it needs."""
    if "exception_message" in exception_info:
        return str(exception_info["exception_message"])
    return str(next(iter(exception_info.values()))["exception_message"])


def report(title: str, outcomes: Sequence[Outcome], sections: Sequence[page.Block] = ()) -> tuple[dict[str, Any], str]:
    """Turn outcomes into JSON and one self-contained page.

    Parameters
    ----------
    title
        Heading of the page.
    outcomes
        Of one or several frames.
    sections
        Further blocks for the end of the page.

    Returns
    -------
    dict
        ``passed``, ``rules``, ``broken`` (rules) and the list ``frames`` with, per frame, its name, its ``rows`` and,
        per rule, the number of failing rows. No times, no run ids.
    str
        The page.
    """
    frames: dict[str, Any] = {}
    for outcome in outcomes:
        frame = frames.setdefault(outcome.frame, {"frame": outcome.frame, "rows": outcome.rows, "failing": {}})
        frame["failing"][outcome.rule] = outcome.failing
    failed = [outcome for outcome in outcomes if not outcome.passed]
    verdict = f"{len(outcomes)} rules, " + (f"{len(failed)} failed." if failed else "all passed.")
    body: list[page.Block] = [page.Text(verdict, "verdict")]
    body += [page.Section(f"Failed: {one.frame}: {one.rule}", [page.Text(_finding(one))]) for one in failed]
    for name, frame in frames.items():
        mine = [outcome for outcome in outcomes if outcome.frame == name]
        rows = [(one.rule, f"{one.failing:,}", "passed" if one.passed else "failed") for one in mine]
        classes = {(row, 2): "pass" if one.passed else "fail" for row, one in enumerate(mine)}
        table = page.Table(("rule", "failing rows", "result"), rows, classes)
        body.append(page.Section(f"{name}: {frame['rows']:,} rows", [table]))
    # A list, because DVC shows every number outside lists as a metric of its own, which these are not.
    summary = {"passed": not failed, "rules": len(outcomes), "broken": len(failed), "frames": list(frames.values())}
    lead = f"Frames: {', '.join(frames)}." if frames else ""
    return summary, page.render(title, lead, [*body, *sections])


def _finding(outcome: Outcome) -> str:
    if outcome.observed is not None:
        return f"found {outcome.observed}"
    return f"{outcome.failing:,} of {outcome.rows:,} rows fail, for instance {'; '.join(outcome.examples)}"


def require(
    title: str, outcomes: Sequence[Outcome], failed_page: Path | str, sections: Sequence[page.Block] = ()
) -> tuple[dict[str, Any], str]:
    """Return the `report` if every rule holds; otherwise write its page and stop the stage.

    Parameters
    ----------
    title, outcomes, sections
        As for `report`.
    failed_page
        Where the page goes on failure. It is no output of the stage (DVC keeps none of a failed stage); a page that
        an earlier failure left there is removed on success.

    Raises
    ------
    InputError
        A rule failed; the message names it, the number of failing rows and examples.
    """
    summary, html = report(title, outcomes, sections)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if not failed:
        Path(failed_page).unlink(missing_ok=True)
        return summary, html
    with staged(failed_page) as (temporary,):
        temporary.write_text(html, encoding="utf-8")
    more = f" (and {len(failed) - 1} more failed)" if len(failed) > 1 else ""
    raise InputError(
        f"data quality: {failed[0].frame}: the rule `{failed[0].rule}` is broken: {_finding(failed[0])}{more}; "
        f"all results are in {failed_page}"
    )
