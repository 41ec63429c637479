"""What was heard of a soaked gateway against what is in its store and its newest version, and whether it grew."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from symbiosis.routing.serving.snapshots import read_state
from symbiosis.routing.serving.store import Store
from symbiosis.routing.serving.versions import Versions

if TYPE_CHECKING:
    from bench.soak.gateway import Sample, World

WARM_S = 75.0
"""After a start, what is loaded once is in memory."""
GROWTH, FILES, SLOWER = 0.05, 16, 1.6
"""Of memory from the second to the last quarter of a life, as a share; of the most open files; overhead, a factor."""


class Check(NamedTuple):
    """One property: whether it held, and what was seen."""

    name: str
    passed: bool
    words: str


def checks(world: "World") -> list[Check]:
    """Return all checks."""
    return [*_answers(world), *_stored(world), *_growth(world)]


def _answers(world: "World") -> list[Check]:
    heard = world.heard
    wrong = f"{len(heard.wrong)} wrong: {'; '.join(heard.wrong[:3])}" if heard.wrong else f"{heard.sent:,} requests"
    overhead = np.array(heard.overhead)
    # The first minute encodes its first texts, and another follows the kill.
    third = len(overhead) // 3
    checked = []
    for name, share in (("p50", 50), ("p99", 99)):
        first, last = (float(np.percentile(part[:, 1], share)) for part in (overhead[:third], overhead[-third:]))
        flat = last < SLOWER * first + 5.0
        checked.append(
            Check(f"overhead {name} flat", flat, f"{first:.2f} ms in the first third, {last:.2f} in the last")
        )
    # Of wall-clock times other work on the machine is a part; of CPU it is not.
    last_life = [one for one in world.samples if one.life == world.samples[-1].life]
    third = max(len(last_life) // 3, 2)
    first, last = cpu_ms(last_life[third : 2 * third]), cpu_ms(last_life[-third:])
    checked.append(Check("CPU a request flat", not last > SLOWER * first, f"{first:.1f} ms, later {last:.1f}"))
    return [Check("no error of the gateway's own", not heard.wrong, wrong), *checked]


def cpu_ms(samples: "Sequence[Sample]") -> float:
    """Return milliseconds of CPU per request, over the samples of the last life among them; nan where it is short."""
    own = [one for one in samples if one.life == samples[-1].life]
    requests = own[-1].sent - own[0].sent if own else 0
    return 1e3 * (own[-1].cpu_s - own[0].cpu_s) / requests if requests else float("nan")


def _stored(world: "World") -> list[Check]:
    heard = world.heard
    with Store(world.store) as store:
        entries = {one.entry.record.decision: one for one in store.every()}
        lessons = [one.number for one in store.lessons()]
        calls, feedback = store.calls_frame(), store.feedback_frame()
        spent = store.spent("app", "total")
    versions = Versions(world.folder / ".router")
    state = read_state(versions.open())
    lost = heard.begun - set(entries)
    extra = len(entries) - len(heard.begun)
    bare = [key for key in heard.whole if (one := entries.get(key)) and one.entry.served and not one.calls]
    told = dict(zip(feedback["decision"], feedback["quality"], strict=True))
    paid = float(calls["cost_usd"].fill_null(0).sum())
    # Of an answer of an LLM that the client named there is no vector, and nothing to learn.
    routed = sum(len(entries[key].entry.record.vector) > 0 for key in told)
    learned = lessons == list(range(1, len(lessons) + 1)) and (state.logged, state.lessons) == (len(lessons), routed)
    once = told == heard.feedback and len(told) == feedback.height and max(heard.new.values(), default=0) <= 1
    unheard = sum(count for name, count in heard.outcomes.items() if name == "left" or not name[0].isdigit())
    newest = versions.numbers()[-1]
    twice = bool(calls.select("decision", "attempt").is_duplicated().any())
    return [
        Check("decisions are answered requests", not lost and 0 <= extra <= unheard,
              f"{len(heard.begun):,} answers with an id, {len(lost)} not stored; {extra} stored of {unheard} requests "
              "that ended before an answer was heard"),
        Check("no call is lost", not bare, f"{len(heard.whole):,} whole answers, {len(bare)} without their call"),
        Check("feedback exactly once", once, f"{len(heard.feedback):,} acknowledged, {feedback.height:,} stored"),
        Check("lessons exactly once", learned,
              f"{len(lessons):,} numbered, {routed:,} of them on routed queries; version {newest} learned "
              f"{state.lessons:,} up to {state.logged:,}"),
        Check("each call paid once", not twice and bool(np.isclose(spent, paid, rtol=1e-9)),
              f"{calls.height:,} calls, ${paid:.4f}, the key's ${spent:.4f}"),
    ]  # fmt: skip


def _growth(world: "World") -> list[Check]:
    lives = sorted({one.life for one in world.samples})
    grown, words, files = [], [], []
    for life in lives:
        of_life = [one for one in world.samples if one.life == life]
        warm = [one for one in of_life if one.at - of_life[0].at >= WARM_S] or of_life
        first, last = _ends(warm)
        grown.append(last / first - 1)
        requests = warm[-1].sent - warm[0].sent
        words.append(f"life {life}: {first:.0f} to {last:.0f} MB over {requests:,} requests")
        half = len(warm) // 2
        files.append(tuple(max(one.files for one in part) for part in (warm[:half] or warm, warm[half:])))
    flat = all(second <= first + FILES for first, second in files)
    counted = "; ".join(f"at most {first} in the first half, {second} in the second" for first, second in files)
    return [
        Check("memory flat", max(grown) <= GROWTH, "; ".join(words)),
        Check("open files flat", flat, counted),
    ]


def _ends(samples: "list[Sample]") -> tuple[float, float]:
    """Return the median memory of the second and of the last quarter, in MB."""
    part = max(len(samples) // 4, 1)
    second, last = samples[part : 2 * part] or samples, samples[-part:]
    return float(np.median([one.mb for one in second])), float(np.median([one.mb for one in last]))
