"""Off-policy estimates by Open Bandit Pipeline, for a test of ours.  Run it in an environment of its own:

    python -m venv obp && obp/bin/pip install obp
    obp/bin/python bench/library_policies.py tests/routing/learning/open_bandit.json

It reads the small log that comes with the library (Open Bandit Dataset, arXiv 2008.07146: random policy, campaign
"all", its first rounds) and estimates a policy that prefers actions of a low number. It imports nothing of this
project.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import obp
from obp.dataset import OpenBanditDataset
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    InverseProbabilityWeighting,
    SelfNormalizedDoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
    SwitchDoublyRobust,
)

ROUNDS = 3000
SWITCH = 10.0
ESTIMATORS = {
    "dm": DirectMethod(),
    "ips": InverseProbabilityWeighting(),
    "snips": SelfNormalizedInverseProbabilityWeighting(),
    "dr": DoublyRobust(),
    "sndr": SelfNormalizedDoublyRobust(),
    "switch": SwitchDoublyRobust(tau=SWITCH),
}


def main() -> None:
    """Write the log and the library's estimates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    log = OpenBanditDataset(behavior_policy="random", campaign="all").obtain_batch_bandit_feedback()
    action, reward, propensity = (log[name][:ROUNDS] for name in ("action", "reward", "pscore"))
    actions = int(log["n_actions"])
    # The same for all rounds: a policy, and what is expected of each action, from the rounds after those.
    later_action, later_reward = log["action"][ROUNDS:], log["reward"][ROUNDS:]
    seen = np.bincount(later_action, minlength=actions)
    expected = (np.bincount(later_action, later_reward, minlength=actions) + 0.004 * 100) / (seen + 100)
    target = 1 / (1 + np.arange(actions))
    target /= target.sum()
    given = {
        "reward": reward,
        "action": action,
        "pscore": propensity,
        "position": np.zeros(ROUNDS, dtype=int),
        "action_dist": np.tile(target, (ROUNDS, 1))[:, :, None],
        "estimated_rewards_by_reg_model": np.tile(expected, (ROUNDS, 1))[:, :, None],
    }
    estimates = {name: float(one.estimate_policy_value(**given)) for name, one in ESTIMATORS.items()}
    document = {
        "library": f"obp {obp.__version__}",
        "switch": SWITCH,
        "actions": actions,
        "propensity": float(propensity[0]),
        "action": action.tolist(),
        "rewarded": np.flatnonzero(reward).tolist(),
        "expected": expected.tolist(),
        "estimates": estimates,
    }
    assert np.ptp(propensity) == 0
    file.write_text(json.dumps(document) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
