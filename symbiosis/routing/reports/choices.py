"""What the router chose by itself on each split, and on what grounds."""

from collections.abc import Mapping, Sequence
from typing import Any

from symbiosis.reporting.page import Block, Interval, Section, Table, Text


def section(numbers: Mapping[str, Any]) -> list[Block]:
    """Return the folded section, if something was left to choose on every split.

    Parameters
    ----------
    numbers
        Of ``router_study.json``; its ``router`` holds a choice per split.
    """
    choices = [one["choice"] for one in numbers.get("router", []) if "choice" in one]
    # Choices made before leads were known have none.
    if not choices or any("lead" not in one.get("runner_up", {}) for one in choices):
        return []
    rows: list[Sequence[object]] = []
    for number, one in enumerate(choices, start=1):
        runner_up = one["runner_up"]
        lead = runner_up["lead"]
        rows.append(
            [
                f"split {number}",
                named(one["chosen"]),
                f"{one['chosen']['aiq']:.4f}",
                f"{one['nested_aiq']:.4f}",
                named(runner_up),
                Interval(lead["difference"], lead["low"], lead["high"], "+.4f"),
            ]
        )
    header = ["", "chosen", "AIQ", "AIQ of choosing", "runner-up", "its distance"]
    note = (
        f"By cross-validation on at most {max(one['queries'] for one in choices):,} training queries: form, tags, "
        "components, least queries in a leaf, weight decay. AIQ of choosing: each fold's queries routed by what the "
        "others would have chosen. Distance: AIQ of the chosen one minus the runner-up's, the one with the largest "
        "AIQ among the others, with its paired 95 % interval; of candidates within half a standard error the simpler "
        "is taken."
    )
    return [Section("What the router chose", [Table(header, rows), Text(note)], folded=True)]


def named(candidate: Mapping[str, Any]) -> str:
    """Name a candidate in a few words."""
    parts = [candidate["predictor"], f"tags {candidate['tags']}", f"{candidate['dimension']} components"]
    if "minimum_leaf" in candidate:
        parts.append(f"leaves of {candidate['minimum_leaf']}")
    if "decay" in candidate:
        parts.append(f"weight decay {candidate['decay']:g}")
    return ", ".join(parts)
