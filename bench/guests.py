"""Measure guests, newer clicks and new items.  Run it:  python -m bench.guests --data FOLDER --cold FOLDER

FOLDER holds data/ and models/ as `make repro` leaves them, of scientific18 and of scientific18_cold. Everything is
measured as the stage `evaluate` does: all items are ranked, training and validation items left out, the test items are
looked for; intervals are paired bootstraps over the users.

Guests: the training items of a user are the session of somebody without an id. With an id nobody knows, the answer must
be the guest's. Shorter sessions show how many items a guest needs.

Newer clicks: the last training item is taken out of the history and given as a newer click, or not given; and, never
seen in training, the validation items are given as newer clicks, or not.

New items: see `bench.new_items`.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from bench.children import write_report
from bench.new_items import measure_new_items
from symbiosis.core import layout
from symbiosis.core.artifacts import read_frame
from symbiosis.core.statistics import means_with_intervals
from symbiosis.recommender.data.interactions import items_of, read_matrix, read_sizes
from symbiosis.recommender.inference.asking import RecommendationRequest
from symbiosis.recommender.inference.recommender import Recommender
from symbiosis.recommender.inference.scoring import History
from symbiosis.recommender.metrics.metrics import DEPTH, HELD_OUT_SETS
from symbiosis.recommender.metrics.ranking import rank_all

SAMPLES, SEED = 1000, 23
SHOWN = 20
SESSIONS = (1, 2, 3, 5)
ASKED = 1000
"""Users whose lists are asked for one by one."""


@dataclass(frozen=True)
class World:
    """A trained recommender and the split it was trained on.

    Attributes
    ----------
    recommender
        Ready to score.
    train, taken, test
        (U, I); what is taken, training and validation items, is no candidate.
    sessions
        Training items of each user, oldest first.
    """

    recommender: Recommender
    train: csr_array
    taken: csr_array
    test: csr_array
    sessions: list[np.ndarray]

    @classmethod
    def open(cls, root: Path) -> "World":
        """Read a folder with data/ and models/."""
        shape = read_sizes(root / layout.CLEAN)
        parts = (layout.TRAIN, layout.VALIDATION, layout.TEST)
        train, validation, test = (read_matrix(root / part, shape) for part in parts)
        return cls(Recommender.open(root), train, csr_array(train + validation), test, in_time(root, shape[0]))

    @property
    def users(self) -> np.ndarray:
        """Those who have test items."""
        return np.flatnonzero(np.diff(self.test.indptr))

    def known(self, user: int) -> History:
        """What the model knows of a user."""
        return History(items_of(self.train, user), user)

    def ranking(self, history: Callable[[int], History]) -> np.ndarray:
        """Rank all candidates of all users by a history of each, (U, DEPTH)."""
        score = self.recommender.parts.score

        def scores(users: np.ndarray) -> np.ndarray:
            return score([history(int(user)) for user in users])

        return rank_all(scores, self.taken, DEPTH, SEED, label="ranking")


def in_time(root: Path, n_users: int) -> list[np.ndarray]:
    """Return the training items of each user, oldest first."""
    frame = read_frame(root / layout.TRAIN, ["user", "item", "timestamp"]).sort("user", "timestamp", "item")
    users, items = frame["user"].to_numpy(), frame["item"].to_numpy().astype(np.int64)
    return np.split(items, np.cumsum(np.bincount(users, minlength=n_users))[:-1])


def table(world: World, rankings: Mapping[str, np.ndarray], users: np.ndarray, base: str) -> list[str]:
    """Return the metrics of rankings of the same users, and what each has more than the base."""
    values = {
        name: np.stack([column[users] for column in HELD_OUT_SETS.per_user(ranking, world.test).values()], axis=1)
        for name, ranking in rankings.items()
    }
    columns = np.concatenate([*values.values(), *(value - values[base] for value in values.values())], axis=1)
    cells = [
        f"{found['mean']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"
        for found in means_with_intervals(columns, SAMPLES, SEED)
    ]
    width, names = len(HELD_OUT_SETS.metrics), [*values, *(f"{name}, minus {base}" for name in values)]
    lines = ["| | " + " | ".join(HELD_OUT_SETS.metrics) + " |", "| --- |" + " ---: |" * width]
    for place, name in enumerate(names):
        if name != f"{base}, minus {base}":
            lines.append(f"| {name} | " + " | ".join(cells[place * width : (place + 1) * width]) + " |")
    return lines


def changes(one: np.ndarray, other: np.ndarray) -> str:
    """Say how many lists of the first places differ, and how much of them is the same."""
    one, other = one[:, :SHOWN], other[:, :SHOWN]
    overlap = np.array([len(np.intersect1d(a, b)) for a, b in zip(one, other, strict=True)])
    moved = (one != other).any(axis=1).mean()
    return (
        f"{moved:.1%} of {len(one):,} lists of {SHOWN} change; in {(overlap < SHOWN).mean():.1%} other items appear; "
        f"on average {overlap.mean():.1f} of {SHOWN} items stay."
    )


def measure_guests(world: World) -> list[str]:
    """Compare users with their own sessions as guests."""
    popularity = np.bincount(world.train.indices, minlength=world.train.shape[1]).astype(np.float32)
    popular = rank_all(lambda users: np.tile(popularity, (len(users), 1)), world.taken, DEPTH, SEED, label="popularity")
    rankings = {"known": world.ranking(world.known)}
    rankings["guest"] = world.ranking(lambda user: History(newer=world.sessions[user]))
    for length in SESSIONS:
        name = f"guest, last {length} item{'s' if length > 1 else ''}"
        rankings[name] = world.ranking(lambda user, last=length: History(newer=world.sessions[user][-last:]))
    rankings["popularity"] = popular
    users = world.users
    return [
        f"{len(users):,} users with test items; their sessions hold {np.diff(world.train.indptr)[users].mean():.1f} "
        "items on average.",
        "",
        *table(world, rankings, users, "known"),
        "",
        "Known and guest: " + changes(rankings["known"][users], rankings["guest"][users]),
        "",
        unknown_ids(world, users),
    ]


def unknown_ids(world: World, users: np.ndarray) -> str:
    """Ask for users by an id that nobody has, and as guests."""
    chosen = np.random.default_rng(SEED).permutation(users)[:ASKED]
    same, methods, notes = 0, set(), set()
    for user in chosen:
        session = tuple(world.recommender.catalogue.item_id(int(item)) for item in world.sessions[user])
        guest = world.recommender.recommend(RecommendationRequest(session=session, count=SHOWN))
        unknown = world.recommender.recommend(RecommendationRequest(user="nobody-1", session=session, count=SHOWN))
        same += [item.item for item in guest.items] == [item.item for item in unknown.items]
        methods.add(unknown.method)
        notes.add(unknown.note)
    return (
        f"With an unknown id and the same session, {same:,} of {len(chosen):,} lists are the guest's; method: "
        f"{', '.join(sorted(methods))}; note: {'; '.join(sorted(map(str, notes)))}."
    )


def measure_newer(world: World) -> list[str]:
    """Compare users with and without newer clicks."""
    validation, sessions = csr_array(world.taken - world.train), world.sessions
    validation.eliminate_zeros()
    known = world.ranking(world.known)
    earlier = world.ranking(lambda user: History(np.sort(sessions[user][:-1]), user))
    clicked = world.ranking(lambda user: History(np.sort(sessions[user][:-1]), user, sessions[user][-1:]))
    later = world.ranking(lambda user: History(items_of(world.train, user), user, items_of(validation, user)))
    users = world.users
    both = users[np.diff(validation.indptr)[users] > 0]
    last = {"without the last item": earlier, "the last item as a newer click": clicked, "known": known}
    return [
        f"The last training item, {len(users):,} users (vectors and walks were trained with it all the same):",
        "",
        *table(world, last, users, "without the last item"),
        "",
        "Click given or not: " + changes(earlier[users], clicked[users]),
        "",
        "As a newer click or in the history: " + changes(known[users], clicked[users]),
        "",
        f"Validation items, which no part of the model has seen, {len(both):,} users who have some:",
        "",
        *table(world, {"not given": known, "as newer clicks": later}, both, "not given"),
        "",
        "Given or not: " + changes(known[both], later[both]),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="for guests and newer clicks")
    parser.add_argument("--cold", type=Path, metavar="FOLDER", help="for new items, with its params.yaml")
    parser.add_argument("--scratch", type=Path, default=Path(".runs/without_cold_items"), help="where that is trained")
    parser.add_argument("--report", type=Path, default=Path("reports/bench/guests.md"))
    options = parser.parse_args(arguments)
    lines = ["# Guests, newer clicks and new items", ""]
    lines += ["Made by `python -m bench.guests`; its `--help` says what is measured."]
    if options.data:
        world = World.open(options.data)
        lines += ["", f"## Guests ({options.data.resolve().name})", "", *measure_guests(world)]
        lines += ["", f"## Newer clicks ({options.data.resolve().name})", "", *measure_newer(world)]
    if options.cold:
        lines += ["", f"## New items ({options.cold.resolve().name})", ""]
        lines += measure_new_items(options.cold, options.scratch, SAMPLES, SEED)
    write_report(options.report, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
