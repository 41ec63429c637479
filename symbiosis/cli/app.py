"""The command `symbiosis`, its sub-commands and how it ends."""

import signal
import sys

if sys.argv and sys.argv[0].endswith("symbiosis"):
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupted import has no traceback, see `__main__.py`

import atexit
import errno
import gc
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from symbiosis.cli import decisions, gate, gateway, models, recommender, router, tables, upstreams
from symbiosis.cli.output import JSON, say
from symbiosis.core.errors import InputError, is_out_of_memory, no_memory, one_line, quoted
from symbiosis.core.processes import print_anything, spare_loopback, take_interruptions
from symbiosis.core.telemetry import switch_telemetry_off

BAD_INPUT, USAGE, INTERRUPTED = 1, 2, 130
RARELY = 500_000
"""Objects that are made before garbage is looked for."""
TRACEBACK = "SYMBIOSIS_TRACEBACK"

HELP = """Recommend items with a language model, and choose language models with a recommender.

\b
symbiosis recommend --user 1 --request "garden gloves"
symbiosis explain --user 1 --item 3
symbiosis route "Reverse a list in Python"
symbiosis feedback 1a2b3c4d-0 --quality 1 --tokens 120

Commands read data/ and models/ in the present folder, as `make repro` leaves them. Prices are in USD per million
tokens, costs in USD per query, times in seconds, qualities from 0 to 1. Exit codes: 0 done, 1 bad input, 2 wrong
usage, 130 interrupted; every error is one line on standard error.
"""

app = typer.Typer(
    name="symbiosis",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
params = typer.Typer(no_args_is_help=True, help="Work with params.yaml.")
app.command()(recommender.recommend)
app.command()(recommender.explain)
app.command()(router.route)
app.command()(router.feedback)
app.add_typer(router.llms, name="llms")
app.command()(router.versions)
app.command()(router.rollback)
app.command()(router.adopt)
app.command()(gate.gate)
app.command()(models.promote)
app.add_typer(models.models, name="models")
app.add_typer(gateway.gateway, name="gateway")
app.command()(gateway.drift)
app.add_typer(decisions.decisions, name="decisions")
app.add_typer(upstreams.upstreams, name="upstreams")
app.add_typer(tables.routing, name="routing")


@app.command()
def results(
    readme: Annotated[bool, typer.Option("--readme", help="Write the headlines into README.md instead.")] = False,
    as_json: JSON = False,
) -> None:
    """Print the results that `make repro` has reported.

    \b
    symbiosis results
    symbiosis results --json
    """
    from symbiosis.reporting import results as reported

    if readme:
        reported.write_readme()
        say("README.md is written", {"written": "README.md"}, as_json)
        return
    if as_json:
        say("", reported.data(), as_json)
    else:
        reported.show()


app.add_typer(params, name="params")


@params.command()
def check(as_json: JSON = False) -> None:
    """Check every key of params.yaml, before any stage runs."""
    from symbiosis.core.params import PARAMS_FILE, read_document
    from symbiosis.params import BLOCKS, validate

    validate(read_document())
    say(f"{PARAMS_FILE} is right: {len(BLOCKS)} blocks", {"file": str(PARAMS_FILE), "blocks": list(BLOCKS)}, as_json)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error is one line on standard error.

    Parameters
    ----------
    arguments
        Without the program's name; None: those of the process.
    """
    take_interruptions()
    print_anything()
    spare_loopback()
    switch_telemetry_off()
    # Importing makes many objects that all stay: looking for garbage among them takes a tenth of a command's time.
    thresholds = gc.get_threshold()
    gc.set_threshold(RARELY)
    atexit.register(gc.freeze)  # nor is there any need to at the exit, which would take another fifth
    try:
        given = [_utf8(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
        status = app(args=given, prog_name="symbiosis", standalone_mode=False)
        if sys.stdout is not None:  # it is closed
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone, as `head` does; what Python still holds must not be written at exit.
        _discard_output()
        return BAD_INPUT
    except InputError as error:
        return _failed(str(error), BAD_INPUT)
    except typer.Abort:
        return INTERRUPTED
    except typer.TyperException as error:
        message: str = error.format_message() if hasattr(error, "format_message") else str(error)
        if message.startswith("Usage:"):  # no sub-command was given: the message is the help
            print(message, file=sys.stderr)
            return USAGE
        return _failed(message, USAGE)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _discard_output()
        return _failed(str(error), BAD_INPUT)
    except UnicodeEncodeError as error:
        return _failed(f"{quoted(error.object)} is no path in this locale: set PYTHONUTF8=1", BAD_INPUT)
    except Exception as error:
        if is_out_of_memory(error):
            return _failed(no_memory(error), BAD_INPUT)
        if os.environ.get(TRACEBACK):
            raise
        where = f"(a fault of this program: {TRACEBACK}=1 shows where)"
        return _failed(f"{type(error).__name__}: {error} {where}", BAD_INPUT)
    finally:
        gc.set_threshold(*thresholds)
    return int(status or 0)


def _utf8(argument: str) -> str:
    """Return an argument; bytes that are no UTF-8 arrive as halves of surrogate pairs.

    So do all others than ASCII where Python follows a locale without them: those are read anew.

    Raises
    ------
    InputError
        It is no UTF-8.
    """
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError:
        with suppress(UnicodeError):
            return os.fsencode(argument).decode("utf-8")
        raise InputError(f"the argument {quoted(argument)} is not UTF-8: convert it, as with iconv") from None
    return argument


def _discard_output() -> None:
    """Throw away what Python still holds for standard output: it must not be tried again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(message: str, status: int) -> int:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return status
