"""The section on what the router chose by itself."""

from routing_world import DOMAINS, LLMS, draw, train_params

from symbiosis.reporting.page import Section, Table
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.fitting.choice import choose
from symbiosis.routing.reports import choices


def test_the_page_names_the_chosen_and_the_runner_up() -> None:
    outcomes, vectors, domain = draw(120, 0)
    labels = [DOMAINS[number] for number in domain]
    report = choose(
        Split(outcomes, vectors, labels, labels), LLMS, train_params(predictor="linear", tags="auto")
    ).report()
    (section,) = choices.section({"router": [report, report]})
    assert isinstance(section, Section)
    table = section.parts[0]
    assert isinstance(table, Table)
    first = list(table.rows[0])  # type: ignore[arg-type]
    told = report["choice"]
    assert first[:3] == ["split 1", choices.named(told["chosen"]), f"{told['chosen']['aiq']:.4f}"]
    assert first[4] == choices.named(told["runner_up"])
    assert len(table.rows) == 2


def test_without_a_choice_there_is_no_section() -> None:
    assert choices.section({}) == []
    assert choices.section({"router": [{"predictor": "linear", "tags": "none"}]}) == []
    old = {"choice": {"chosen": {"predictor": "linear"}, "runner_up": {"predictor": "forest"}}}
    assert choices.section({"router": [old]}) == []
