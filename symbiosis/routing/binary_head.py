"""A head of its own for satisfied or not, beside the router that predicts quality (MixLLM, arXiv 2502.18482, Eq. 15).

What it learns and how the printed equations were mended: `symbiosis.routing.feedback`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from symbiosis.routing.feedback import Confidence, SupervisedHead
from symbiosis.routing.heads import LinearHeads
from symbiosis.routing.policy_network import TRUNK, PolicyNetwork
from symbiosis.routing.router import Router

Kind = Literal["supervised", "policy_gradient"]


class BinaryHead:
    """The head, how much it counts, and the share of queries whose LLM is drawn from its policy.

    Parameters
    ----------
    head
        Predicts the surplus of satisfaction over quality, or is a policy.
    confidence
        kappa.
    sampled_share
        Of the queries, drawn from the policy; 0..1.
    """

    def __init__(self, head: SupervisedHead | PolicyNetwork, confidence: Confidence, sampled_share: float) -> None:
        self.head, self.confidence, self.sampled_share = head, confidence, sampled_share

    @classmethod
    def blank(
        cls,
        router: Router,
        kind: Kind,
        *,
        maximum_kappa: float = 1.0,
        warm_up: int = 50,
        sampled_share: float = 0.05,
        rate: float = 0.05,
        hidden: int = 32,
        seed: int = 0,
    ) -> "BinaryHead":
        """Start without an opinion; see ``online_replay.binary`` in ``params.yaml`` for the settings."""
        head: SupervisedHead | PolicyNetwork
        if kind == "supervised":
            head = SupervisedHead.blank(router.heads.precision)
        else:
            head = PolicyNetwork.blank(len(router.llms), router.heads.dimension, hidden, rate, seed)
        return cls(head, Confidence(maximum_kappa, warm_up), sampled_share)

    def observe(self, x: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Take note of a query, features (D,), and return what the head adds, (L,): to quality, and to the score.

        The one that it does not add to is None.
        """
        output = self.head.output(x)
        self.confidence.observe(output)
        weighted = self.confidence.kappa() * output
        return (weighted, None) if isinstance(self.head, SupervisedHead) else (None, weighted)

    def mixed(self, chances: np.ndarray, x: np.ndarray, admissible: np.ndarray) -> np.ndarray:
        """Draw a share of the queries from the policy, which learns from nothing else; chances are (L,)."""
        if isinstance(self.head, SupervisedHead):
            return chances
        policy = np.where(admissible, self.head.policy(x), 0.0)
        return (1 - self.sampled_share) * chances + self.sampled_share * policy / policy.sum()

    def learn(self, arm: int, x: np.ndarray, satisfied: bool, expected: float, propensity: float) -> None:
        """Learn from one answer.

        Parameters
        ----------
        arm, x
            The LLM that answered, and the query's features (D,).
        satisfied
            What was told.
        expected
            Predicted quality, without this head's part.
        propensity
            Probability with which the LLM was chosen.
        """
        self.confidence.rewarded()
        if isinstance(self.head, SupervisedHead):
            self.head.learn(arm, x, satisfied, expected)
        else:
            self.head.learn(arm, x, 1.0 if satisfied else -1.0, propensity)

    def take(self, arms: Sequence[int]) -> "BinaryHead":
        """Return the head of the given LLMs, in that order; the others' part is forgotten."""
        kept = list(arms)
        return self._with(self.head.take(kept), [output[kept] for output in self.confidence.outputs])

    def with_llm(self) -> "BinaryHead":
        """Return the head with one LLM more, of which nothing is known."""
        return self._with(self.head.with_llm(), [np.append(output, 0.0) for output in self.confidence.outputs])

    def _with(self, head: SupervisedHead | PolicyNetwork, outputs: list[np.ndarray]) -> "BinaryHead":
        own = self.confidence
        confidence = Confidence(own.maximum, own.warm_up, own.outputs.maxlen or 1, own.epsilon)
        for output in outputs:
            confidence.observe(output)
        confidence.feedback = own.feedback
        return BinaryHead(head, confidence, self.sampled_share)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all that it knows, by name."""
        own = self.confidence
        settings = [self.sampled_share, own.maximum, own.warm_up, own.outputs.maxlen or 1, own.epsilon, own.feedback]
        outputs = np.array(own.outputs) if own.outputs else np.zeros((0, 0))
        known = {"settings": np.array(settings, dtype=np.float64), "outputs": outputs}
        if isinstance(self.head, SupervisedHead):
            heads = self.head.heads
            return known | {name: getattr(heads, name) for name in _LINEAR}
        network = self.head
        trunk = {name: getattr(network, name) for name in TRUNK}
        return known | trunk | {"policy": network.outputs, "rate": np.array([network.rate, network.baseline])}

    @classmethod
    def of(cls, tensors: dict[str, np.ndarray]) -> "BinaryHead":
        """Return what `tensors` gave."""
        share, maximum, warm_up, window, epsilon, feedback = tensors["settings"].tolist()
        confidence = Confidence(maximum, int(warm_up), int(window), epsilon)
        for output in tensors["outputs"]:
            confidence.observe(output)
        confidence.feedback = int(feedback)
        head: SupervisedHead | PolicyNetwork
        if "precision" in tensors:
            heads = LinearHeads(*(tensors[name] for name in _LINEAR[:4]))
            heads.updates, heads.age, heads.kept = (tensors[name] for name in _LINEAR[4:])
            head = SupervisedHead(heads)
        else:
            rate, baseline = tensors["rate"].tolist()
            first, first_bias, second, second_bias = (tensors[name] for name in TRUNK)
            head = PolicyNetwork(first, first_bias, second, second_bias, tensors["policy"], rate)
            head.baseline = baseline
        return cls(head, confidence, share)


_LINEAR = ("precision", "moments", "weights", "penalty", "updates", "age", "kept")
