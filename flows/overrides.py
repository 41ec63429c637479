"""Change values in ``params.yaml``, comments kept, as `dvc exp run -S` does."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

from symbiosis.core.artifacts import staged
from symbiosis.core.errors import InputError
from symbiosis.params import validate


def override(
    file: Path,
    overrides: Mapping[str, Any],
    check: Callable[[dict[str, object]], None] = validate,
    *,
    write: bool = True,
) -> dict[str, tuple[Any, Any]]:
    """Write new values into ``params.yaml``, all or none.

    Parameters
    ----------
    file
        ``params.yaml``.
    overrides
        New values by dotted key, for instance ``{"finetune.learning_rate": 1e-4}``.
    check
        Called with the new document; raises if it is inconsistent.
    write
        False: check only.

    Returns
    -------
    dict
        (old, new) value of each key that changed.

    Raises
    ------
    InputError
        A key is unknown or a value is refused; the file stays as it was.
    """
    editor = _editor()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{file} is missing: run flows from the top of the repository") from None
    document = editor.load(text)
    changed = {}
    for key, value in overrides.items():
        *path, leaf = key.split(".")
        block = document
        for name in path:
            block = block.get(name) if isinstance(block, dict) else None
        if not isinstance(block, dict) or leaf not in block:
            raise InputError(f"{file.name}: unknown key `{key}`{_near(key, document)}")
        if block[leaf] != value:
            changed[key] = (block[leaf], value)
            block[leaf] = value
    buffer = io.StringIO()
    editor.dump(document, buffer)
    check(yaml.safe_load(buffer.getvalue()))
    if changed and write:
        with staged(file) as (temporary,):
            temporary.write_text(buffer.getvalue(), encoding="utf-8")
    return changed


def _editor() -> YAML:
    """Return a YAML editor that keeps everything unchanged but the edited values, in the style of ``params.yaml``."""
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    editor.indent(mapping=2, sequence=4, offset=2)

    def number(representer: Any, value: float) -> Any:
        # PyYAML reads YAML 1.1, where 1e-05 is a string and 1.0e-05 a number.
        text = repr(value)
        text = text.replace("e", ".0e") if "e" in text and "." not in text else text
        return representer.represent_scalar("tag:yaml.org,2002:float", text)

    editor.representer.add_representer(float, number)
    editor.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return editor


def _near(key: str, document: Any) -> str:
    """Return a hint that lists the valid keys at the point where a key went wrong."""
    block, valid = document, []
    for name in key.split("."):
        if not isinstance(block, dict) or name not in block:
            break
        valid.append(name)
        block = block[name]
    keys = ", ".join(map(str, block)) if isinstance(block, dict) else ""
    parent = f"`{'.'.join(valid)}`" if valid else "the file"
    return f"; {parent} holds {keys}" if keys else f"; {parent} has no keys below it"


def parse(assignments: list[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` arguments of a command line, values as YAML.

    Examples
    --------
    >>> parse(["finetune.learning_rate=0.0001", "evaluate.baselines=[ease]"])
    {'finetune.learning_rate': 0.0001, 'evaluate.baselines': ['ease']}
    """
    overrides = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not key or not equals:
            raise InputError(f"`{assignment}` is not KEY=VALUE")
        try:
            number = float(value)  # YAML reads 1e-4 as a string
        except ValueError:
            overrides[key] = yaml.safe_load(value)
        else:
            whole = yaml.safe_load(value)
            overrides[key] = whole if isinstance(whole, int | float) else number
    return overrides
