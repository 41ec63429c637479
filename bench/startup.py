"""CPU seconds that a command takes from process start, the median of several runs.

    python -m bench.startup -- python -m symbiosis.cli recommend --user 1
    python -m bench.startup --runs 9 --threads 2 -- symbiosis route "prove it"

One run that is not counted fills the page cache first. CPU time, user and system, of the command and its children: it
hardly depends on what else the machine does. The output of the command is dropped.
"""

import argparse
import os
import resource
import statistics
import subprocess
from collections.abc import Sequence


def cpu_seconds(command: Sequence[str], threads: int = 1) -> float:
    """Run a command to its end and return its CPU seconds, user and system.

    Raises
    ------
    SystemExit
        The command failed; its last line of error output is shown.
    """
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the median and the range."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.startup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="counted runs (5)")
    parser.add_argument("--threads", type=int, default=1, help="of the numerical libraries (1)")
    parser.add_argument("command", nargs="+", help="after --")
    options = parser.parse_args(arguments)
    cpu_seconds(options.command, options.threads)
    seconds = [cpu_seconds(options.command, options.threads) for _ in range(options.runs)]
    print(f"CPU seconds: median {statistics.median(seconds):.2f}, {min(seconds):.2f} to {max(seconds):.2f}")


if __name__ == "__main__":
    main()
