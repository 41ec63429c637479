"""Try every stage and every other writer under faults, and say what each leaves behind.

    python -m bench.faults                                   # all of them, some minutes
    python -m bench.faults download pretrain --points 200    # some, killed at up to 200 points each
    python -m bench.faults --list

Faults: killed before file operations and in the middle of a write, a limit on the size of files, a full and a read-only
disk, no memory, a slow disk, a clock that jumps. After each, every output is as it was, away or new, and whole; the
process ended by the signal, or in one line; and another run ends with the same bytes and leaves nothing beside them.
A disk that can be filled is mounted in a name space of its own (`unshare`); where that is not allowed, the faults
`full` and `read-only` are left out, and the table says so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.faults import subjects
from bench.faults.harness import CODE, FAILED, KINDS, POINTS, TEMPORARY, Harness, Verdict, no_code, table
from bench.faults.injection import Kind
from bench.faults.runs import Disk
from bench.faults.states import states
from bench.faults.subjects import ROOT, Subject

ALONE = "SYMBIOSIS_FAULTS_ALONE"
"""Set in the process that has a name space of its own."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
ENVIRONMENT = dict.fromkeys(_ONE_THREAD, "1") | {
    "HF_HUB_OFFLINE": "1",
    "SYMBIOSIS_TRACKING": "off",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Set before what reads it is imported: a process with threads cannot be forked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the chosen subjects, print the table; return 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help="by name, or how names begin [default: all]")
    parser.add_argument("--list", action="store_true", help="list the subjects")
    parser.add_argument("--points", type=int, default=POINTS, help="killed at how many, at most [%(default)s]")
    parser.add_argument("--faults", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="every try, for a closer look")
    chosen = parser.parse_args(arguments)
    os.environ.update(ENVIRONMENT)
    stages = subjects.stages()
    known = [*stages, *subjects.variants(stages), *states()]
    if chosen.list:
        print("\n".join(subject.name for subject in known))
        return 0
    if ALONE not in os.environ and (status := _in_own_name_space(arguments)) is not None:
        return status
    wanted = [one for one in known if not chosen.subjects or one.name.startswith(tuple(chosen.subjects))]
    if not wanted:
        parser.error(f"no subject begins with {' or '.join(chosen.subjects)}: see --list")
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        disk = Disk(Path(folder, "disk"), own=ALONE in os.environ)
        try:
            verdicts = _run(Harness(disk, chosen.points), stages, wanted, chosen.faults)
        finally:
            disk.close()
    print(table(verdicts))
    if not disk.is_own:
        print("no disk of its own could be mounted: not tried full or read-only")
    if chosen.json:
        chosen.json.write_text(json.dumps([vars(one) for one in verdicts], indent=1) + "\n", encoding="utf-8")
    return int(any(one.outcome == FAILED for one in verdicts))


def _run(harness: Harness, stages: list[Subject], wanted: list[Subject], kinds: Sequence[Kind]) -> list[Verdict]:
    """Make the world, as far as the subjects need it, and try them."""
    (harness.disk.folder / TEMPORARY).mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(harness.disk.folder / TEMPORARY)
    harness.folder.mkdir()
    for name in CODE:
        shutil.copytree(ROOT / name, harness.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    sys.path.insert(0, str(harness.folder))
    sys.dont_write_bytecode = True
    names = [stage.name for stage in stages]
    last = max((names.index(one.name) for one in wanted if one.name in names), default=-1)
    needed = stages if any(one.name not in names for one in wanted) else stages[: last + 1]
    if all(one.name in ("download", "download-routing", "train-encoder") for one in wanted):  # they need no other
        needed = wanted
    subjects.load([*needed, *wanted])
    subjects.make_world(harness.folder, needed)
    shutil.copytree(harness.folder, harness.world, symlinks=True, ignore=no_code)
    verdicts = []
    for subject in wanted:
        begun = time.monotonic()
        found = list(harness.verdicts(subject, kinds))
        verdicts += found
        failed = [one for one in found if one.outcome == FAILED]
        print(f"{subject.name}: {len(found)} tries, {len(failed)} failed, {time.monotonic() - begun:.0f} s",
              file=sys.stderr, flush=True)  # fmt: skip
        for one in failed[:12]:
            print(f"  {one.fault}: {one.told}", file=sys.stderr, flush=True)
    return verdicts


def _in_own_name_space(arguments: Sequence[str] | None) -> int | None:
    """Run once more where disks may be mounted that nobody else sees; None: that is not allowed here."""
    alone = ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))]
    try:
        if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
            return None
    except FileNotFoundError:
        return None
    command = [*alone, sys.executable, "-m", "bench.faults", *(sys.argv[1:] if arguments is None else arguments)]
    return subprocess.run(command, env=os.environ | {ALONE: "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
