"""A head of its own for satisfied or not, beside the router that predicts quality (MixLLM, arXiv 2502.18482, Eq. 15).

What it learns and how the printed equations were mended: `symbiosis.routing.learning.feedback`.
"""

from collections import deque
from collections.abc import Sequence
from typing import Literal

import numpy as np

from symbiosis.routing.learning.policy_network import TRUNK, PolicyNetwork
from symbiosis.routing.model.linear_heads import LinearHeads
from symbiosis.routing.model.router import Router


class SupervisedHead:
    """Ridge regression, per LLM, of satisfaction minus predicted quality; knows nothing at first.

    Parameters
    ----------
    heads
        One target per LLM. Their A_l says how much the router has seen already, so that a few clicks do not outweigh
        the offline data.
    """

    def __init__(self, heads: LinearHeads) -> None:
        self.heads = heads

    @classmethod
    def blank(cls, precision: np.ndarray) -> "SupervisedHead":
        """Start from A_l, (L, D, D), and no opinion."""
        return cls(LinearHeads(precision.copy(), np.zeros((*precision.shape[:2], 1))))

    def output(self, x: np.ndarray) -> np.ndarray:
        """Return the expected surplus of satisfaction over predicted quality, (L,)."""
        return self.heads.predict(x[None])[0][0, :, 0]

    def learn(self, arm: int, x: np.ndarray, satisfied: bool, expected: float) -> None:
        """Learn whether an answer satisfied of which quality `expected` was predicted."""
        self.heads.update(arm, x, np.array([float(satisfied) - expected]))

    def take(self, arms: Sequence[int]) -> "SupervisedHead":
        """Return the head of the given LLMs only."""
        return SupervisedHead(self.heads.take(arms))

    def with_llm(self) -> "SupervisedHead":
        """Return the head with one LLM more, of which nothing has been seen."""
        penalty = float(np.linalg.eigvalsh(self.heads.precision[0])[0])
        return SupervisedHead(self.heads.extend(LinearHeads.blank(1, self.heads.dimension, 1, penalty)))


class Confidence:
    """kappa: how much the satisfaction head counts, by LLM; Eq. 17 over a window, bounded, after a warm-up.

    Parameters
    ----------
    maximum
        Upper bound.
    warm_up
        Answers with feedback before kappa leaves 0.
    window
        Queries over which the variance of each LLM's output is taken.
    epsilon
        Added to the variance.
    """

    def __init__(self, maximum: float, warm_up: int, window: int = 512, epsilon: float = 1e-3) -> None:
        self.maximum, self.warm_up, self.epsilon = maximum, warm_up, epsilon
        self.outputs: deque[np.ndarray] = deque(maxlen=window)
        self.feedback = 0
        self._sum: np.ndarray | float = 0.0
        self._squares: np.ndarray | float = 0.0

    def observe(self, output: np.ndarray) -> None:
        """Take note of the head's output (L,) for one query."""
        if len(self.outputs) == self.outputs.maxlen:
            oldest = self.outputs[0]
            self._sum, self._squares = self._sum - oldest, self._squares - oldest**2
        self.outputs.append(output)
        self._sum, self._squares = self._sum + output, self._squares + output**2

    def rewarded(self) -> None:
        """Take note of one more feedback."""
        self.feedback += 1

    def kappa(self) -> np.ndarray | float:
        """Return kappa, (L,), in 0..maximum; 0 before warm-up."""
        if self.feedback < self.warm_up or not self.outputs:
            return 0.0
        n = len(self.outputs)
        variance = np.maximum(self._squares / n - (self._sum / n) ** 2, 0.0)
        return np.minimum(1 / (variance + self.epsilon), self.maximum)


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

    @property
    def samples(self) -> bool:
        """Whether it is a policy, which draws some of the actions and learns from those alone."""
        return isinstance(self.head, PolicyNetwork)

    def observe(self, x: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Take note of a query, features (D,), and return what the head adds, (L,): to quality, and to the score.

        The one that it does not add to is None.
        """
        output = self.head.output(x)
        self.confidence.observe(output)
        return self._weighted(output)

    def shares(self, x: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the same without taking note of the query."""
        return self._weighted(self.head.output(x))

    def _weighted(self, output: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        weighted = self.confidence.kappa() * output
        return (weighted, None) if isinstance(self.head, SupervisedHead) else (None, weighted)

    def mixed(self, chances: np.ndarray, x: np.ndarray, admissible: np.ndarray) -> np.ndarray:
        """Draw a share of the queries from the policy, which learns from nothing else; chances are (L,)."""
        if isinstance(self.head, SupervisedHead):
            return chances
        policy = np.where(admissible, self.head.policy(x), 0.0)
        return (1 - self.sampled_share) * chances + self.sampled_share * policy / policy.sum()

    def learn(
        self,
        arms: Sequence[int],
        x: np.ndarray,
        satisfied: Sequence[bool],
        expected: Sequence[float],
        propensity: float,
    ) -> None:
        """Learn from the answers to one query.

        Parameters
        ----------
        arms, x
            The k LLMs that answered, the one that was chosen first, and the query's features (D,).
        satisfied, expected
            k values each: what was told, and predicted quality without this head's part.
        propensity
            Probability with which the first LLM was chosen; a policy learns from nothing else.
        """
        self.confidence.rewarded()
        if isinstance(self.head, SupervisedHead):
            for arm, good, quality in zip(arms, satisfied, expected, strict=True):
                self.head.learn(arm, x, bool(good), quality)
        else:
            self.head.learn(arms[0], x, 1.0 if satisfied[0] else -1.0, propensity)

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

    def copy(self) -> "BinaryHead":
        """Return a head that knows the same and learns alone."""
        return self.of({name: tensor.copy() for name, tensor in self.tensors().items()})

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
