"""Params of a stage: the base of every block of ``params.yaml``, and how the file is read and checked."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from symbiosis.core.errors import InputError
from symbiosis.core.text_files import read_text

PARAMS_FILE = Path("params.yaml")
OLDER = "if the file is of an older release, take new keys from this release's params.yaml and drop unknown ones"
"""What to do about keys that came or went."""
_WORDS = {"extra_forbidden": "unknown key", "missing": "missing key"}


class StageParams(BaseModel):
    """Base of every block of ``params.yaml``: frozen, unknown keys and values of another type refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Params = TypeVar("Params", bound=StageParams)


def read_document(path: Path = PARAMS_FILE) -> dict[str, object]:
    """Read ``params.yaml`` as a mapping of blocks.

    Raises
    ------
    InputError
        The file is missing, is not YAML or is not a mapping.
    """
    if not path.exists():
        raise InputError(f"{path} is missing: run stages from the top of the repository")
    text = read_text(path)
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} must hold one block per stage, not a {type(document).__name__}")
    return document


def validate_block(document: dict[str, object], block: str, model: type[Params]) -> Params:
    """Validate one block (``"finetune"``, or ``"baselines.ease"`` for a nested one) against its model.

    Raises
    ------
    InputError
        The block is missing or a key is unknown, missing or out of range; every fault is named.
    """
    value: object = document
    for key in block.split("."):
        if not isinstance(value, dict) or key not in value:
            raise InputError(f"{PARAMS_FILE}: the block `{block}` is missing: {OLDER}")
        value = value[key]
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors()
        faults = "; ".join(
            f"`{'.'.join([block, *map(str, fault['loc'])])}`: {_WORDS.get(fault['type'], fault['msg'])}"
            for fault in found
        )
        remedy = f": {OLDER}" if any(fault["type"] in _WORDS for fault in found) else ""
        raise InputError(f"{PARAMS_FILE}: {faults}{remedy}") from None
