"""From the model's name in a request to what is decided for: ``auto``, ``auto:NAME``, ``auto:floor=0.8,deadline=5``."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from symbiosis.gateway.config.reading import explain
from symbiosis.gateway.config.schema import AUTO, PolicyConfig
from symbiosis.gateway.requests.chat import BadRequest
from symbiosis.routing.policy.goals import Goal
from symbiosis.routing.policy.objectives import Budget, Deadline, Objective, Paper, QualityFloor, TradeOff

_SHORT = {"deadline": "deadline_s", "budget": "usd_per_query"}
_REMEMBERED = 256
"""Policies that clients wrote out, each with the state of its budget."""


@dataclass(frozen=True)
class Policy:
    """What a request is decided for.

    Attributes
    ----------
    name
        ``auto``, the config's name, or the parts as the client wrote them.
    objective
        None: the router's usual one.
    deadline
        None: the router's usual one.
    """

    name: str
    objective: Objective | None = None
    deadline: Deadline | None = None

    def goal(self, usual: Goal) -> Goal:
        """Return the goal of a decision, where what the policy leaves open is as usual.

        A deadline beside the published score, which has a waiting penalty of its own, makes its trade-off the
        objective.
        """
        if self.objective is None and self.deadline is None:
            return usual
        objective = self.objective or usual.objective
        if self.deadline is not None and isinstance(objective, Paper):
            objective = TradeOff(objective.rule.trade_off, objective.rule.weighting)
        usual_deadline = None if isinstance(objective, Paper) else usual.deadline
        return Goal(objective, self.deadline or usual_deadline)


class Policies:
    """The policies of a config; each budget among them is one object, paced as long as the process runs."""

    def __init__(self, configured: Mapping[str, PolicyConfig]) -> None:
        """Make the objectives.

        Parameters
        ----------
        configured
            By name.
        """
        self.usual = Policy(AUTO)
        self.named = {name: _policy(name, config) for name, config in configured.items()}
        self._written: OrderedDict[str, Policy] = OrderedDict()

    @property
    def models(self) -> list[str]:
        """Model names that route: ``auto`` and ``auto:NAME`` for each policy."""
        return [AUTO, *(f"{AUTO}:{name}" for name in self.named)]

    def parse(self, model: str) -> Policy | None:
        """Return the policy that a request's model names; None: it is an explicit LLM.

        Raises
        ------
        BadRequest
            There is no such policy (status 404; the message lists them), or its parts are wrong.
        """
        if model == AUTO:
            return self.usual
        if not model.startswith(f"{AUTO}:"):
            return None
        told = model.removeprefix(f"{AUTO}:")
        if told in self.named:
            return self.named[told]
        if "=" not in told:
            raise BadRequest(
                f"there is no policy {told!r}: use one of {', '.join(self.models)}, or parts as in auto:floor=0.8",
                "model",
                "model_not_found",
                status=404,
            )
        return self._remembered(told)

    def _remembered(self, told: str) -> Policy:
        parts: dict[str, object] = {}
        for part in told.split(","):
            key, _, value = (piece.strip() for piece in part.partition("="))
            key = _SHORT.get(key, key)
            if key in parts:
                raise BadRequest(f"`model`: {key} is there twice in {told!r}", "model")
            parts[key] = value
        try:
            config = PolicyConfig.model_validate(parts)
        except ValidationError as error:
            raise BadRequest(explain(error, f"model {AUTO}:{told!r}"), "model") from None
        name = ",".join(f"{key}={value!r}" for key, value in sorted(config.model_dump(exclude_none=True).items()))
        policy = self._written.pop(name, None) or _policy(name, config)
        self._written[name] = policy
        if len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)
        return policy


def _policy(name: str, config: PolicyConfig) -> Policy:
    objective: Objective | None = None
    if config.trade_off is not None:
        objective = TradeOff(config.trade_off)
    elif config.floor is not None:
        objective = QualityFloor(config.floor)
    elif config.usd_per_query is not None:
        objective = Budget(config.usd_per_query)
    return Policy(name, objective, None if config.deadline_s is None else Deadline(config.deadline_s))
