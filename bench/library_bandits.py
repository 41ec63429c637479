"""LinUCB and linear Thompson sampling by MABWiser, for a test of ours.  Run it in an environment of its own:

    python -m venv mabwiser && mabwiser/bin/pip install mabwiser
    mabwiser/bin/python bench/library_bandits.py tests/routing/baselines/mabwiser.json

It plays a made-up stream and writes what the library expects of each arm for new contexts: LinUCB's optimistic value,
and mean and deviation of what Thompson sampling draws. It imports nothing of this project.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from mabwiser.mab import MAB, LearningPolicy

ROUNDS, FEATURES, ARMS, ASKED, DRAWS = 60, 4, 3, 4, 4000
EXPLORATION = 0.7


def main() -> None:
    """Write the stream and the library's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    rng = np.random.default_rng(0)
    contexts = rng.standard_normal((ROUNDS, FEATURES)).round(3)
    arms = rng.integers(ARMS, size=ROUNDS)
    rewards = rng.random(ROUNDS).round(3)
    asked = rng.standard_normal((ASKED, FEATURES)).round(3)

    def fitted(policy: object) -> MAB:
        bandit = MAB(list(range(ARMS)), policy, seed=1)
        bandit.fit(arms, rewards, contexts)
        return bandit

    def values(bandit: MAB) -> np.ndarray:
        return np.array([[row[arm] for arm in range(ARMS)] for row in bandit.predict_expectations(asked)])

    thompson = fitted(LearningPolicy.LinTS(alpha=EXPLORATION, l2_lambda=1.0))
    drawn = np.stack([values(thompson) for _ in range(DRAWS)])
    document = {
        "library": f"mabwiser {version('mabwiser')}",
        "exploration": EXPLORATION,
        "draws": DRAWS,
        "contexts": contexts.tolist(),
        "arms": arms.tolist(),
        "rewards": rewards.tolist(),
        "asked": asked.tolist(),
        "lin_ucb": values(fitted(LearningPolicy.LinUCB(alpha=EXPLORATION, l2_lambda=1.0))).tolist(),
        "thompson": {"mean": drawn.mean(axis=0).tolist(), "deviation": drawn.std(axis=0).tolist()},
    }
    file.write_text(json.dumps(document) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
