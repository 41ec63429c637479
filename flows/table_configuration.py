"""The configuration of a table: which data sets, variants and seeds are run, and with which params."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from flows.configuration import overlay, read
from symbiosis.core.errors import InputError
from symbiosis.core.params import StageParams

FULL = "full"
"""The variant that all others are compared with; the only one that is run with all baselines."""

_STAGES = {
    "simple": "baseline",
    "hybrid": "hybrid-baseline",
    "neural": "neural-baseline",
    "sequential": "sequential-baseline",
}
"""By the kind of baseline."""


class DataSet(StageParams):
    """A data set of the table, named after its file in configs/, and what is run on it.

    Attributes
    ----------
    seeds
        Seeds of the variant `full`.
    variant_seeds
        Seeds of the other variants, a subset of `seeds`; all of them if not given.
    without
        Variants and baselines to skip, because they do not apply or take too long.
    params
        Changes to the configuration.
    """

    seeds: list[int] = Field(min_length=1)
    variant_seeds: list[int] | None = Field(None, min_length=1)
    without: list[str] = Field(default_factory=list)
    params: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def seeds_of(self, variant: str) -> list[int]:
        """Return the seeds of a variant, none if it is skipped."""
        if variant in self.without:
            return []
        return self.seeds if variant == FULL or self.variant_seeds is None else self.variant_seeds


class TableConfiguration(StageParams):
    """A file of configs/tables/.

    Attributes
    ----------
    data_sets
        Keyed by the name of their configuration.
    seeded
        Params set to the seed, as dotted keys.
    baselines
        As in `evaluate.baselines`, for the variant `full`.
    variants
        Changes to the data set's params; must include `full`.
    variant_baselines
        Baselines that a variant is run with, as in `evaluate.baselines`; chance alone if not given. Rows of theirs that
        the variant moves stand beside the baselines' own, with the variant's name as their mark.
    model
        Whether the model is trained and measured; if not, the table is of baselines alone.
    page
        Name of the page and of its numbers in reports/.
    """

    data_sets: dict[str, DataSet] = Field(min_length=1)
    seeded: list[str]
    baselines: dict[str, list[str]]
    variants: dict[str, dict[str, Any]]
    variant_baselines: dict[str, dict[str, list[str]]] = Field(default_factory=dict)
    model: bool = True
    page: str = Field("recommender_table", pattern=r"^\w+$")

    def baselines_of(self, run: "Run") -> dict[str, list[str]]:
        """Return the baselines that are run, by kind."""
        if run.variant == FULL:
            named = self.baselines
        else:
            named = {kind: list[str]() for kind in self.baselines} | {"simple": ["chance"]}
            named |= self.variant_baselines.get(run.variant, {})
        skipped = self.data_sets[run.data_set].without
        return {kind: [name for name in names if name not in skipped] for kind, names in named.items()}

    def targets_of(self, run: "Run") -> list[str]:
        """Return the stages that are wanted of a run."""
        if self.model:
            return ["evaluate"]
        return [_STAGES[kind] for kind, names in self.baselines_of(run).items() if names]


@dataclass(frozen=True)
class Run:
    """One run of the pipeline."""

    data_set: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Folder of its results, relative to the table's."""
        return f"{self.data_set}/{self.variant}/{self.seed}"


def read_table(name: str, root: Path) -> TableConfiguration:
    """Read a named table.

    Raises
    ------
    InputError
        There is none of that name, or it is malformed.
    """
    file = root / "configs/tables" / f"{name}.yaml"
    if not file.is_file():
        names = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise InputError(f"there is no configs/tables/{name}.yaml; the tables are {names}")
    try:
        table = TableConfiguration.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise InputError(f"{file.relative_to(root)}: {error}") from None
    if FULL not in table.variants:
        raise InputError(f"{file.relative_to(root)}: `variants` must hold `{FULL}`")
    if misnamed := [
        *({*table.baselines, *(kind for part in table.variant_baselines.values() for kind in part)} - _STAGES.keys()),
        *(table.variant_baselines.keys() - table.variants.keys()),
    ]:
        raise InputError(
            f"{file.relative_to(root)}: there is no {misnamed[0]}: `baselines` must name kinds of baselines "
            f"({', '.join(_STAGES)}), `variant_baselines` variants and kinds"
        )
    if alone := [v for v in table.variants if v not in (FULL, *table.variant_baselines) and not table.model]:
        raise InputError(
            f"{file.relative_to(root)}: without the model, the variant `{alone[0]}` needs `variant_baselines`"
        )
    for data_set, asked in table.data_sets.items():
        valid = {*table.variants, *(name for listed in table.baselines.values() for name in listed)}
        if unknown := [*(set(asked.without) - valid), *(set(asked.variant_seeds or []) - set(asked.seeds))]:
            raise InputError(
                f"{file.relative_to(root)}: `data_sets.{data_set}` names {unknown[0]}: `without` must name variants or "
                "baselines, `variant_seeds` some of `seeds`"
            )
    return table


def runs(table: TableConfiguration) -> Iterator[Run]:
    """Yield all runs, `full` first, so that an unfinished table has the most important rows."""
    variants = [FULL, *(name for name in table.variants if name != FULL)]
    for variant in variants:
        for name, data_set in table.data_sets.items():
            yield from (Run(name, variant, seed) for seed in data_set.seeds_of(variant))


def params_of(run: Run, table: TableConfiguration, root: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Return what a run changes in ``params.yaml``, by dotted key."""
    changes = overlay(read(run.data_set, root).params, document)
    for part in (table.data_sets[run.data_set].params, table.variants[run.variant]):
        changes |= overlay(part, document)
    changes |= {f"evaluate.baselines.{kind}": names for kind, names in table.baselines_of(run).items()}
    return changes | dict.fromkeys(table.seeded, run.seed)
