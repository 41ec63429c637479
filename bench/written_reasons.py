"""Score reasons written by language models against a rule.  Run it:  python -m bench.written_reasons --data FOLDER ...

Each FOLDER holds data/ as the pipeline leaves it, and models/pretrain if the scratch model is to write. For test
interactions drawn at random, what speaks for the item is looked up in the training data
(`symbiosis.recommender.inference.grounds`); of every second one, the name of the item's last category serves as the
user's own words. Ways:

- facts: the title and the facts as they are told, no model at all;
- smollm2-135m: the pre-trained language model, given title and first fact with examples;
- smollm2-135m, checked: the same, the facts standing in for what the rule refuses: what is shown to users;
- scratch: the model that this project pre-trains, from the numbers of user and item.

The rule (`symbiosis.recommender.inference.fact_writer.Rule`): the reason names the item, names a fact, invents nothing
(words of other items, numbers, claims) and does not repeat itself; sound is all of it. Intervals are 95 %, by bootstrap
over the interactions. No reason is printed.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.children import write_report
from symbiosis.core import layout
from symbiosis.core.artifacts import read_frame, read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.statistics import means_with_intervals
from symbiosis.recommender.data.interactions import items_of, read_matrix, read_sizes
from symbiosis.recommender.inference.candidates import Candidates
from symbiosis.recommender.inference.fact_writer import FactWriter, Judgement, Known, Rule
from symbiosis.recommender.inference.grounds import Grounds
from symbiosis.recommender.inference.reasons import Sampling, Writer
from symbiosis.text.smollm2 import NAME as SMOLLM2

SAMPLES, SEED = 1000, 13
SCRATCH_WORDS = 24
AT_ONCE = 16
FOUND: dict[str, Callable[[Judgement], bool]] = {
    "names the item": lambda one: one.names_item,
    "names a fact": lambda one: one.names_fact,
    "invents nothing": lambda one: not one.invented,
    "no repeats": lambda one: not one.repeats,
    "sound": lambda one: one.sound,
}


def pairs_of(root: Path, count: int) -> tuple[list[tuple[int, int]], list[Known], Rule]:
    """Draw test interactions that something speaks for; return them, what is known of each, and the rule."""
    items = read_frame(root / layout.ITEMS).sort("item")
    shape = read_sizes(root / layout.CLEAN)
    train, test = (read_matrix(root / path, shape) for path in (layout.TRAIN, layout.TEST))
    grounds = Grounds(train, items, Candidates(items))
    users, wanted = test.tocoo().coords
    pairs: list[tuple[int, int]] = []
    known: list[Known] = []
    for place in np.random.default_rng(SEED).permutation(len(users)):
        user, item = int(users[place]), int(wanted[place])
        categories = items["categories"][item]
        words = str(categories[-1]) if len(pairs) % 2 and categories is not None and len(categories) else None
        (facts,) = grounds.reasons([item], items_of(train, user).tolist(), user, words)
        if facts and items["title"][item]:
            pairs.append((user, item))
            known.append(Known(item, items["title"][item], items["brand"][item], facts))
        if len(pairs) == count:
            break
    return pairs, known, Rule(items)


def written_by_smollm2(known: list[Known], kept: Path, most: int) -> tuple[list[str], float]:
    """Return its reasons and the CPU seconds of each; what an earlier run wrote is read, and at most so many are new.

    Raises
    ------
    SystemExit
        Some are not written yet: run again.
    """
    found: dict[str, Any] = read_json(kept) if kept.exists() else {"reasons": {}, "seconds": 0.0}
    missing = [one for one in known if one.told not in found["reasons"]]
    if missing:
        writer = FactWriter.load()
        for start in range(0, min(most, len(missing)), AT_ONCE):
            part = missing[start : start + AT_ONCE]
            began = time.process_time()
            found["reasons"] |= dict(zip([one.told for one in part], writer.write(part), strict=True))
            found["seconds"] += time.process_time() - began
            write_json(kept, found)
    if left := sum(one.told not in found["reasons"] for one in known):
        sys.exit(f"{kept} lacks {left} reasons: run again")
    return [found["reasons"][one.told] for one in known], found["seconds"] / len(found["reasons"])


def measure(root: Path, count: int, kept: Path, most: int) -> dict[str, Any]:
    """Let every way write, and judge it."""
    pairs, known, rule = pairs_of(root, count)
    written = {"facts": [one.told for one in known]}
    seconds = {}
    written[SMOLLM2], seconds[SMOLLM2] = written_by_smollm2(known, kept, most)
    sound = [rule.judge(text, one).sound for text, one in zip(written[SMOLLM2], known, strict=True)]
    written[f"{SMOLLM2}, checked"] = [
        text if is_sound else one.told for text, one, is_sound in zip(written[SMOLLM2], known, sound, strict=True)
    ]
    note = ""
    try:
        writer = Writer.load(root / layout.PRETRAINED, root / layout.GRAPH, root / layout.DISTANCES)
        began = time.process_time()
        written["scratch"] = [writer.reason(*pair, Sampling(maximum_words=SCRATCH_WORDS)) for pair in pairs]
        seconds["scratch"] = (time.process_time() - began) / len(pairs)
    except InputError as error:
        note = f"The scratch model writes nothing: {error}"
    columns = {}
    for name, texts in written.items():
        judged = [rule.judge(text, one) for text, one in zip(texts, known, strict=True)]
        columns[name] = np.array([[found(one) for found in FOUND.values()] for one in judged])
    numbers = means_with_intervals(np.concatenate(list(columns.values()), axis=1).astype(float), SAMPLES, SEED)
    ways: dict[str, Any] = {}
    for place, (name, texts) in enumerate(written.items()):
        ways[name] = dict(zip(FOUND, numbers[len(FOUND) * place :][: len(FOUND)], strict=True))
        ways[name]["different"] = len(set(texts))
        ways[name]["words"] = round(float(np.mean([len(text.split()) for text in texts])), 1)
        if name in seconds:
            ways[name]["cpu seconds a reason"] = round(seconds[name], 3)
    return {"interactions": len(pairs), "note": note, "ways": ways}


def report(measured: dict[str, Any]) -> list[str]:
    """Return the table of one folder."""
    lines = [f"{measured['interactions']} test interactions. {measured['note']}", ""]
    names = [*FOUND, "different", "words", "CPU s"]
    lines += [f"| way | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for way, row in measured["ways"].items():
        cells = [f"{row[name]['mean']:.2f} [{row[name]['low']:.2f}, {row[name]['high']:.2f}]" for name in FOUND]
        cells += [str(row["different"]), str(row["words"]), str(row.get("cpu seconds a reason", ""))]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure every folder; write the report and its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--names", nargs="+", help="one per folder, for the report (default: the folders' names)")
    parser.add_argument("--reasons", type=int, default=200, help="of each folder")
    parser.add_argument("--kept", type=Path, required=True, help="folder for what the language model wrote")
    parser.add_argument("--most", type=int, default=10_000, help="new reasons by the language model in this run")
    parser.add_argument("--report", type=Path, default=Path("reports/bench/written_reasons.md"))
    options = parser.parse_args()
    options.kept.mkdir(parents=True, exist_ok=True)
    lines = ["# Written reasons", "", "Made by `python -m bench.written_reasons`, which tells what is measured."]
    numbers = {}
    for root, name in zip(options.data, options.names or [root.resolve().name for root in options.data], strict=True):
        numbers[name] = measure(root, options.reasons, options.kept / f"{name}.json", options.most)
        lines += ["", f"## {name}", "", *report(numbers[name])]
    write_report(options.report, lines)
    write_json(options.report.with_suffix(".json"), numbers)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
