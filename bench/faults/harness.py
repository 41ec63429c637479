"""Try subjects under faults, and judge what each fault has left and what another run makes of it."""

import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.faults import subjects
from bench.faults.injection import Fault, Kind
from bench.faults.runs import Disk, Ended, contents, in_child, operations, part, reset
from bench.faults.subjects import LEFT_OVER, Subject, said

KINDS: tuple[Kind, ...] = ("killed", "cut", "limited", "full", "read-only", "memory", "slow", "clock")
CODE = ("stages", "symbiosis")
TEMPORARY = "tmp"
POINTS = 40
MEMORY_MIB = (0, 4, 16, 64)
AGED = b"an older output"
WRONG = "wrong: "
SAME, LINE, FAILED = "same bytes", "one line", "failed"


@dataclass(frozen=True)
class Verdict:
    """What a fault did to a subject.

    Attributes
    ----------
    subject, fault
        Which.
    outcome
        ``same bytes``: it was killed, or went on all the same, and another run gives the same bytes. ``one line``: it
        ended in one line, likewise. ``failed``: see `told`.
    told
        How it ended, and what is wrong.
    """

    subject: str
    fault: str
    outcome: str
    told: str


class Harness:
    """Tries subjects in one folder, made anew before each try.

    Parameters
    ----------
    disk
        On which the folder lies.
    points
        How many file operations of a subject it is killed at, at most; all renames are among them.
    """

    def __init__(self, disk: Disk, points: int) -> None:
        self.disk, self.points = disk, points
        self.folder = disk.folder / "work"
        self.world = disk.folder / "world"
        self._template = disk.folder / "template"

    def verdicts(self, subject: Subject, kinds: Sequence[Kind]) -> Iterator[Verdict]:
        """Try a subject under faults of some kinds."""
        self._begin(subject)
        plain, names = operations(subject.work, self.folder)
        self._good = contents(self.folder, CODE)
        if plain.status:
            yield Verdict(subject.name, "none", FAILED, said(plain))
            return
        for fault in self._faults(names, kinds):
            at = f" ({names[fault.amount - 1]})" if fault.kind == "killed" else ""
            outcome, told = self._judged(subject, fault)
            yield Verdict(subject.name, f"{fault}{at}", outcome, told)

    def _begin(self, subject: Subject) -> None:
        """Make the folder in which each try of a subject begins; its outputs are there, but others."""
        reset(self.folder, self.world, CODE)
        if subject.overrides:
            subjects.write_params(self.folder, subject.overrides)
        if subject.begins_with is not None:
            ended = in_child(subject.begins_with, self.folder)
            if ended.status:
                sys.exit(f"{subject.name}: its beginning failed: {ended.errors}")
        for target in subject.targets:
            for file in _files(self.folder / target):
                file.write_bytes(file.read_bytes() + AGED)
        if self._template.exists():
            shutil.rmtree(self._template)
        shutil.copytree(self.folder, self._template, symlinks=True, ignore=no_code)
        self._before = contents(self.folder, CODE)

    def _faults(self, names: Sequence[str], kinds: Sequence[Kind]) -> Iterator[Fault]:
        sizes = sorted({file.stat().st_size for file in _files(self.folder) if not _is_code(file, self.folder)})
        largest = sizes[-1]
        amounts: dict[Kind, Sequence[int]] = {
            "killed": _spread(names, self.points),
            "cut": sorted({0, 100, 4096, largest // 2}),
            "limited": sorted({0, 4096, largest // 2}),
            "full": (0, 4, largest // 2048),
            "memory": MEMORY_MIB,
        }
        for kind in kinds:
            if kind in ("full", "read-only") and not self.disk.is_own:
                continue
            for amount in amounts.get(kind, (0,)):
                yield Fault(kind, amount)

    def _judged(self, subject: Subject, fault: Fault) -> tuple[str, str]:
        reset(self.folder, self._template, CODE)
        for left in (self.disk.folder / TEMPORARY).glob("*"):  # the system's to clear up
            shutil.rmtree(left, ignore_errors=True)
        self.disk.prepare(fault)
        ended = in_child(subject.work, self.folder, fault)
        self.disk.restore()
        after = contents(self.folder, CODE)
        wrong = [*_ending(ended, fault), *self._halves(subject, after), *_complaints(subject, self.folder, False)]
        if ended.status == 0 and (other := self._other_than_good(subject, after)):
            wrong.append(f"it ended well, but {other}")
        elif after != self._before or subject.complaints is not None:
            again = in_child(subject.work, self.folder)
            found = contents(self.folder, CODE)
            if again.status:
                wrong.append(f"run again: {said(again)}")
            elif other := self._other_than_good(subject, found):
                wrong.append(f"run again, {other}")
            wrong += _complaints(subject, self.folder, True)
            found = contents(self.folder, CODE)
            wrong += [f"{name} stays" for name in found if subject.complaints and LEFT_OVER.search(name)]
        if wrong:
            return FAILED, f"{said(ended)}; {'; '.join(wrong)}"
        return (LINE if ended.status > 0 else SAME), said(ended)

    def _other_than_good(self, subject: Subject, found: dict[str, str]) -> str:
        """Say what is not as after a run without faults; of a subject with a judge, its targets alone."""
        if subject.complaints is None:
            return _differs(found, self._good)
        return "; ".join(
            told for target in subject.targets if (told := _differs(part(found, target), part(self._good, target)))
        )

    def _halves(self, subject: Subject, after: dict[str, str]) -> Iterator[str]:
        for target in subject.targets:
            now = part(after, target)
            if now and now not in (part(self._before, target), part(self._good, target)):
                yield f"{target} is half-written"


def _ending(ended: Ended, fault: Fault) -> Iterator[str]:
    """Say what is wrong with how a process ended."""
    if ended.status < 0 and fault.kind not in ("killed", "cut", "memory"):
        yield "a signal ended it"
    if ended.status == -signal.SIGALRM:
        yield "it did not end"
    if "Traceback" in ended.errors and ended.status >= 0:
        yield "a traceback"
    if ended.status > 0 and len(ended.lines) != 1:
        yield f"{len(ended.lines)} lines: {' | '.join(ended.lines)[:300]}"


def _complaints(subject: Subject, folder: Path, again: bool) -> list[str]:
    judge = subject.complaints
    if judge is None:
        return []
    told = in_child(lambda: print(*(f"{WRONG}{one}" for one in judge(again)), sep="\n"), folder)
    if told.status:
        return [f"its judge failed: {said(told)}"]
    return [line.removeprefix(WRONG) for line in told.output.splitlines() if line.startswith(WRONG)]


def _differs(found: dict[str, str], wanted: dict[str, str]) -> str:
    """Name what differs between two folders, the empty text if nothing does."""
    beside = sorted(found.keys() - wanted.keys())
    missing = sorted(wanted.keys() - found.keys())
    other = sorted(name for name in found.keys() & wanted.keys() if found[name] != wanted[name])
    parts = (("stays: ", beside), ("is missing: ", missing), ("has other bytes: ", other))
    return "; ".join(f"{word}{', '.join(names[:3])}" for word, names in parts if names)


def _spread(names: Sequence[str], most: int) -> list[int]:
    """Choose operations, counted from 1: all renames, and of the others some from begin to end."""
    numbers = range(1, len(names) + 1)
    if len(names) <= most:
        return list(numbers)
    renames = [number for number in numbers if names[number - 1].startswith("os.rename")]
    renames = renames[:: max(1, -(-len(renames) * 2 // most))]
    step = len(names) / (most - len(renames))
    return sorted({*renames, *(int(step * number) + 1 for number in range(most - len(renames)))})


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else [path for path in sorted(place.rglob("*")) if path.is_file()]


def _is_code(file: Path, folder: Path) -> bool:
    return file.relative_to(folder).parts[0] in CODE


def no_code(folder: str, names: list[str]) -> list[str]:
    """Name what is not copied: the program, at the top of the folder that is tried."""
    return [name for name in names if name in CODE] if Path(folder).name == "work" else []


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the counts of outcomes by subject and kind of fault, as Markdown."""
    counted: dict[str, dict[str, Counter[str]]] = {}
    for one in verdicts:
        kind = one.fault.split()[0]
        counted.setdefault(one.subject, {}).setdefault(kind, Counter())[one.outcome] += 1
    kinds = [kind for kind in ("none", *KINDS) if any(kind in found for found in counted.values())]
    lines = [f"| writer | {' | '.join(kinds)} |", "| --- |" + " ---: |" * len(kinds)]
    for name, found in counted.items():
        lines.append(f"| {name} | {' | '.join(_cell(found.get(kind, Counter())) for kind in kinds)} |")
    total = Counter(one.outcome for one in verdicts)
    lines += ["", f"{len(verdicts):,} tries: " + ", ".join(f"{total[word]:,} {word}" for word in (SAME, LINE, FAILED))]
    return "\n".join(lines)


def _cell(counts: Counter[str]) -> str:
    """Return such as ``12 + 3``: so many ended with the same bytes, so many in one line; FAILED is spelled out."""
    shown = f"{counts[SAME]} + {counts[LINE]}" if counts[LINE] else f"{counts[SAME]}" if counts[SAME] else ""
    return f"{shown} **{counts[FAILED]} failed**".strip() if counts[FAILED] else shown
