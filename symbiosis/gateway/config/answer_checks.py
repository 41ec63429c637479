"""The block ``checks`` of ``gateway.yaml``: what an answer must be to count as good without a user's word."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from symbiosis.gateway.config.values import Name, PolicyName

_OF_NAMES = frozenset({"properties", "$defs", "definitions", "dependentSchemas", "dependencies"})
_OF_DATA = frozenset({"const", "enum", "default", "examples"})


class Condition(BaseModel):
    """Of which requests a check judges the answer: ``always``, ``response_format``, or ``{policy: NAME}``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["always", "response_format", "policy"]
    policy: PolicyName | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, given: Any) -> Any:
        if given in ("always", "response_format"):
            return {"kind": given}
        if isinstance(given, Mapping) and list(given) == ["policy"] and given["policy"] is not None:
            return {"kind": "policy", **given}
        if isinstance(given, Mapping) and "kind" in given:  # a model that was dumped
            return given
        raise ValueError("write always, response_format or {policy: NAME}")


class CheckConfig(BaseModel):
    """A check: valid JSON, a JSON schema, or a regular expression that is searched for within a time limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Name
    kind: Literal["json", "json_schema", "regex"]
    shape: dict[str, Any] | None = Field(default=None, alias="schema")
    pattern: str | None = None
    timeout_s: float = Field(default=0.1, gt=0, le=10)
    when: Condition = Condition(kind="response_format")

    @model_validator(mode="after")
    def _whole(self) -> "CheckConfig":
        needed = {"json_schema": "schema", "regex": "pattern"}.get(self.kind)
        given = {"schema": self.shape, "pattern": self.pattern}
        for key, value in given.items():
            if key == needed and value is None:
                raise ValueError(f"`{key}` is missing: a check of kind {self.kind} needs it")
            if key != needed and value is not None:
                raise ValueError(f"`{key}` has no meaning for kind {self.kind}: take it out")
        if self.pattern is not None:
            _compile(self.pattern)
        if self.shape is not None:
            _check_schema(self.shape)
        return self


def _compile(pattern: str) -> None:
    import regex

    try:
        regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError) as error:
        raise ValueError(f"`pattern` does not compile ({error}): mend the expression") from None


def _check_schema(schema: dict[str, Any]) -> None:
    from jsonschema import exceptions, validators
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    dialect = schema.get("$schema")
    if dialect is not None and dialect not in {kind.META_SCHEMA["$schema"] for kind in _dialects()}:
        raise ValueError(f"`schema`: the dialect {dialect!r} is not known: take out `$schema` or name a published one")
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except exceptions.SchemaError as error:
        raise ValueError(f"`schema` is no JSON schema: `{error.json_path}`: {error.message}") from None
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver = Registry().with_resource("", resource).crawl().resolver()
    for key, value in _keywords(schema):
        if key == "patternProperties":
            raise ValueError("`schema`: `patternProperties` has no time limit: use `propertyNames: {pattern: ...}`")
        if key in ("$ref", "$dynamicRef") and isinstance(value, str):
            if not value.startswith("#"):
                raise ValueError(f"`schema` refers to {value!r}: nothing is fetched; put it into `$defs` of the schema")
            try:
                resolver.lookup(value)
            except Unresolvable:
                raise ValueError(f"`schema` refers to {value!r}, which it does not hold: mend `{key}`") from None
        if key == "pattern" and isinstance(value, str):
            _compile(value)


def _dialects() -> list[Any]:
    from jsonschema import validators

    names = ("Draft202012", "Draft201909", "Draft7", "Draft6", "Draft4", "Draft3")
    return [getattr(validators, f"{name}Validator") for name in names]


def _keywords(schema: object) -> Iterator[tuple[str, object]]:
    """Yield the keywords of a schema and of those inside it; names of properties and examples are none."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            yield from node.items()
            for key, value in node.items():
                named = key in _OF_NAMES and isinstance(value, dict)
                waiting += value.values() if named else [] if key in _OF_DATA else [value]
