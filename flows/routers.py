"""The router and its rivals on every routing table, on one page.  Run it:  make routers

Each table of configs/overview/routers.yaml is run in its own work tree, as `make repro CONFIG=TABLE` does, with the
DVC cache that all share; stages that are done are not run again, so the command resumes where it was stopped. Results
lie in reports/real/routers/TABLE, the page is reports/routers_overview.html.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from flows.configuration import merged, repeat
from flows.workspace import command, top
from symbiosis.core.errors import InputError
from symbiosis.core.params import StageParams

FILE = "configs/overview/routers.yaml"
RESULTS = "reports/real/routers"
PAGE = "reports/routers_overview"
TARGETS = ("report-routers",)


class Overview(StageParams):
    """The file of the overview.

    Attributes
    ----------
    params
        Changes to the params of every table's configuration.
    tables
        By configuration, changes for it alone.
    """

    params: dict[str, dict[str, Any]]
    tables: dict[str, dict[str, dict[str, Any]]] = Field(min_length=1)

    def changes(self, table: str) -> dict[str, Any]:
        """Return all changes for a table."""
        return merged(self.params, self.tables[table])


def read(root: Path) -> Overview:
    """Read the file.

    Raises
    ------
    InputError
        It is missing or malformed.
    """
    try:
        return Overview.model_validate(yaml.safe_load((root / FILE).read_text(encoding="utf-8")))
    except (OSError, ValidationError, yaml.YAMLError) as error:
        raise InputError(f"{FILE}: {error}") from None


def main() -> None:
    """Run the tables from the command line and make the page."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.routers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", help="of configs/overview/routers.yaml, to run these alone; default: all")
    parser.add_argument("--dirty", action="store_true", help="run tracked files as they are, committed or not")
    parser.add_argument("--report-only", action="store_true", help="only make the page, from the tables that are done")
    chosen = parser.parse_args()
    with command():
        root = top()
        overview = read(root)
        if unknown := sorted(set(chosen.tables) - overview.tables.keys()):
            raise InputError(f"{unknown[0]} is no table of {FILE}: its tables are {', '.join(overview.tables)}")
        failed = []
        for name in [] if chosen.report_only else chosen.tables or overview.tables:
            print(f"{name}:", flush=True)
            try:
                repeat(name, root, dirty=chosen.dirty, changes=overview.changes(name), targets=TARGETS, results=RESULTS)
            except subprocess.CalledProcessError:
                failed.append(name)
        made = [sys.executable, "-m", "symbiosis.routing.reports.overview", RESULTS, PAGE]
        status = subprocess.run(made, cwd=root, check=False).returncode
        if failed:
            raise InputError(f"{', '.join(failed)} failed, see above; the page has what was done before")
        sys.exit(status)


if __name__ == "__main__":
    main()
