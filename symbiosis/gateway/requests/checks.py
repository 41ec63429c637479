"""Checks of an answer that the config names: they stand in for a user's thumbs. An answer is read, never executed."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from symbiosis.gateway.config.answer_checks import CheckConfig
from symbiosis.gateway.requests.chat import ChatRequest

LONGEST_ANSWER = 1 << 18
"""Characters; a longer answer is not judged."""
_JSON_FORMATS = ("json_object", "json_schema")


class CheckVerdict(NamedTuple):
    """A check's name and its word on an answer: quality 1 or 0."""

    check: str
    quality: float


class Checks:
    """The checks of a config, compiled."""

    def __init__(self, configured: Sequence[CheckConfig]) -> None:
        """Compile the expressions and schemas.

        Parameters
        ----------
        configured
            The block ``checks``.
        """
        self._checks = [(config, _compiled(config)) for config in configured]

    def apply_to(self, request: ChatRequest, policy: str | None = None) -> bool:
        """Tell whether any check judges the answer to a request, so that its text must be kept until then."""
        return any(_applies(config, request, policy) for config, _ in self._checks)

    def verdict(self, request: ChatRequest, answer: str | None, policy: str | None = None) -> CheckVerdict | None:
        """Judge an answer.

        Parameters
        ----------
        request
            What was asked.
        answer
            The whole text; None: it is not whole, or a call of tools, and is not judged.
        policy
            The name of the request's policy.

        Returns
        -------
        CheckVerdict or None
            Of the first check that the answer fails, else of the first that it passes. None: no check applies or came
            to an end in time, or the answer is longer than `LONGEST_ANSWER`.
        """
        if answer is None or len(answer) > LONGEST_ANSWER:
            return None
        passed = None
        for config, judge in self._checks:
            if not _applies(config, request, policy):
                continue
            good = judge(answer)
            if good is False:
                return CheckVerdict(config.name, 0.0)
            if good and passed is None:
                passed = CheckVerdict(config.name, 1.0)
        return passed


def _applies(config: CheckConfig, request: ChatRequest, policy: str | None) -> bool:
    if config.when.kind == "response_format":
        return request.response_format in _JSON_FORMATS
    return config.when.kind == "always" or config.when.policy == policy


Judge = Callable[[str], bool | None]
"""From an answer to whether it is good; None: not found out in time."""


def _compiled(config: CheckConfig) -> Judge:
    if config.pattern is not None:
        return _regex(config.pattern, config.timeout_s)
    if config.shape is not None:
        return _schema(config.shape, config.timeout_s)
    return _is_json


def _regex(pattern: str, timeout_s: float) -> Judge:
    import regex

    compiled = regex.compile(pattern)

    def judge(answer: str) -> bool | None:
        try:
            return compiled.search(answer, timeout=timeout_s, concurrent=True) is not None
        except TimeoutError:
            return None

    return judge


def _schema(schema: dict[str, Any], timeout_s: float) -> Judge:
    import regex
    from jsonschema import ValidationError, validators
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    def pattern(validator: Any, pattern: str, instance: object, schema: object) -> Iterator[ValidationError]:
        """The keyword with a time limit, which Python's own expressions lack."""
        if isinstance(instance, str) and not regex.search(pattern, instance, timeout=timeout_s, concurrent=True):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")

    kind = validators.extend(validators.validator_for(schema, validators.Draft202012Validator), {"pattern": pattern})
    # A registry of its own: nothing is fetched.
    validator = kind(schema, registry=Registry())

    def judge(answer: str) -> bool | None:
        try:
            return bool(validator.is_valid(_read(answer)))
        except (TimeoutError, Unresolvable):
            return None
        except (ValueError, RecursionError):
            return False

    return judge


def _is_json(answer: str) -> bool:
    try:
        _read(answer)
    except (ValueError, RecursionError):
        return False
    return True


def _read(answer: str) -> object:
    return json.loads(answer, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
