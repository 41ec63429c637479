"""What every stage does before and after its work: params, errors, seeds, and dying with its parent."""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable

from symbiosis.core.errors import InputError, is_out_of_memory, no_memory, one_line
from symbiosis.core.params import PARAMS_FILE, Params, read_document, validate_block
from symbiosis.core.processes import die_with_parent, print_anything, spare_loopback, take_interruptions
from symbiosis.core.progress import end_bars
from symbiosis.core.telemetry import switch_telemetry_off

INTERRUPTED = 130
TRACEBACK = "SYMBIOSIS_TRACEBACK"
"""Environment variable: if set, errors come with the place where they arose."""


def run(block: str, model: type[Params], work: Callable[[Params], None]) -> None:
    """Run a stage: validate all params, do the work, and turn bad input, a full disk and the like into one clear line.

    The whole of ``params.yaml`` is validated, so that a typo in a late block stops the pipeline before any long
    work; the stage itself sees only its own block.

    Parameters
    ----------
    block
        The stage's block in ``params.yaml``.
    model
        The pydantic model of that block.
    work
        The stage proper.
    """
    argparse.ArgumentParser(
        prog=f"python -m {work.__module__}" if work.__module__ != "__main__" else None,
        description=f"{(sys.modules[work.__module__].__doc__ or '').strip()}\n\nParams: the block `{block}` of "
        f"{PARAMS_FILE}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_known_args()
    take_interruptions()
    die_with_parent()
    print_anything()
    spare_loopback()
    switch_telemetry_off()
    try:
        document = read_document()
        params = validate_block(document, block, model)
        # Loaded by name: the other blocks' models can only refuse, never change what this stage writes, so they are
        # no dependency of it.
        importlib.import_module("symbiosis.params").validate(document)
        work(params)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except (InputError, OSError) as error:
        raise _failed(str(error)) from None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise _failed(no_memory(error)) from None


def _failed(message: str) -> SystemExit:
    if os.environ.get(TRACEBACK):
        traceback.print_exc()
    end_bars()
    print(f"error: {one_line(message)}", file=sys.stderr)
    return SystemExit(1)
