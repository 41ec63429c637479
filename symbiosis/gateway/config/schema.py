"""Blocks of ``gateway.yaml`` as frozen models: unknown keys are refused, and what contradicts itself is named."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from symbiosis.core.hosts import is_loopback
from symbiosis.gateway.config.answer_checks import CheckConfig
from symbiosis.gateway.config.values import (
    AddressUrl,
    EnvironmentName,
    LlmName,
    Name,
    Origin,
    PolicyName,
    Share,
    StoreUrl,
    refuse_twice,
    sha256_digest,
)
from symbiosis.routing.policy.exploration import Kind
from symbiosis.routing.serving.inputs import HIGHEST_PRICE, LEAST_S, LEAST_USD

AUTO = "auto"
"""The model name that stands for routing; ``auto:NAME`` for routing by a policy."""


class Block(BaseModel):
    """Base of every block: frozen, unknown keys and infinite numbers refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ListenConfig(Block):
    """Where the gateway listens: loopback, unless keys are required."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[Origin, ...] = ()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)


class LimitsConfig(Block):
    """What one request may take: megabytes, attempts, seconds; and how many are served at once in a worker."""

    in_flight: int = Field(default=256, ge=1)
    body_mb: float = Field(default=32, gt=0, le=1024)
    attempts: int = Field(default=3, ge=1, le=32)
    connect_s: float = Field(default=5, gt=0)
    first_byte_s: float = Field(default=60, gt=0)
    answer_s: float = Field(default=300, gt=0)
    idle_s: float = Field(default=60, gt=0)
    total_s: float | None = Field(default=None, gt=0)
    retry_after_s: float = Field(default=1, ge=0)


class BreakerConfig(Block):
    """When an LLM that fails is no longer asked: so many failures within a window, for so long."""

    failures: int = Field(default=5, ge=1)
    window_s: float = Field(default=30, gt=0)
    open_s: float = Field(default=15, gt=0)


class LlmConfig(Block):
    """An LLM: its name in the router and at the provider, prices in USD per million tokens, and what it can do."""

    name: LlmName
    model: str = Field(default_factory=lambda given: given["name"], min_length=1)
    price_prompt: float = Field(ge=0, le=HIGHEST_PRICE * 1e6)
    price_cached: float = Field(default_factory=lambda given: given["price_prompt"], ge=0, le=HIGHEST_PRICE * 1e6)
    price_response: float = Field(ge=0, le=HIGHEST_PRICE * 1e6)
    context: int | None = Field(default=None, ge=1)
    tools: bool = True
    vision: bool = False
    json_mode: bool = True
    workers: int = Field(default=8, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {key: value for key, value in given.items() if value is not None or key not in ("model", "price_cached")}


class UpstreamConfig(Block):
    """A base URL that speaks OpenAI's protocol, the environment variable of its key, and its LLMs."""

    name: Name
    base_url: AddressUrl
    key_env: EnvironmentName | None = None
    llms: tuple[LlmConfig, ...] = Field(min_length=1)

    @property
    def is_loopback(self) -> bool:
        """Whether it runs on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname or "")


class PolicyConfig(Block):
    """What `auto:NAME` decides for: at most one of trade-off, floor and budget, with or without a deadline."""

    trade_off: float | None = Field(default=None, ge=0)
    floor: float | None = Field(default=None, ge=0, le=1)
    usd_per_query: float | None = Field(default=None, ge=LEAST_USD)
    deadline_s: float | None = Field(default=None, ge=LEAST_S)

    @model_validator(mode="after")
    def _one_objective(self) -> "PolicyConfig":
        if not self.model_fields_set or not self.model_dump(exclude_none=True):
            raise ValueError("no part: give trade_off, floor, usd_per_query or deadline_s")
        given = list(self.model_dump(include={"trade_off", "floor", "usd_per_query"}, exclude_none=True))
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: keep one of them")
        return self


class KeyEntry(Block):
    """An API key by its SHA-256, with what it may spend in a period and ask in a minute."""

    name: Name
    sha256: Annotated[str, AfterValidator(sha256_digest)]
    budget_usd: float | None = Field(default=None, ge=0)
    period: Literal["day", "month", "total"] = "month"
    per_minute: float | None = Field(default=None, gt=0)


class KeysConfig(Block):
    """Whether a key is required, where the admin's key is, and the keys."""

    required: bool = False
    admin_env: EnvironmentName = "SYMBIOSIS_ADMIN_KEY"
    entries: tuple[KeyEntry, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> "KeysConfig":
        refuse_twice([entry.name for entry in self.entries], "`entries`: the key name {!r}", "rename one")
        refuse_twice([entry.sha256 for entry in self.entries], "`entries`: the sha256 {!r}", "make another key")
        return self


class ConversationsConfig(Block):
    """Whether a conversation keeps its LLM: USD that a switch must gain beyond the lost cache, and for how long."""

    keep: bool = True
    margin: float = Field(default=0.0, ge=0)
    lifetime_s: float = Field(default=3600, gt=0)
    remembered: int = Field(default=65536, ge=1)


class RetentionConfig(Block):
    """How long the store keeps decisions without feedback and explanations, in days, and how much feedback."""

    days: float | None = Field(default=90, ge=2)
    explained_days: float | None = Field(default=30, ge=2)
    lessons: int | None = Field(default=1_000_000, ge=1000)


class TracesConfig(Block):
    """Where OpenTelemetry spans go; no endpoint: nowhere."""

    endpoint: AddressUrl | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    service_name: str = Field(default="symbiosis-gateway", min_length=1)


class EncoderConfig(Block):
    """How many waiting queries are encoded at once."""

    batch: int = Field(default=8, ge=1)


class ExplorationConfig(Block):
    """How another LLM than the best is tried on a conversation's first message, to learn how it answers."""

    kind: Kind = "none"
    amount: float = Field(default=0.05, ge=0)
    tried: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _share(self) -> "ExplorationConfig":
        if self.kind == "epsilon" and self.amount > 1:
            raise ValueError(f"`amount`: {self.amount:g} is no share: of epsilon it is a share of the queries, 0 to 1")
        return self


class RecommenderConfig(Block):
    """Whether items are recommended, by which bundle, and items that came after its training.

    Without a folder it is what was promoted, else what the pipeline trained here.
    """

    enabled: bool = True
    folder: str | None = Field(default=None, min_length=1)
    new_items: str | None = Field(default=None, min_length=1)


class GatewayConfig(Block):
    """The whole of ``gateway.yaml``."""

    mode: Literal["apply", "observe", "off"] = "apply"
    share: Share = 1.0
    default: str | None = None
    state: str = Field(default=".router", min_length=1)
    store: StoreUrl | None = None
    store_texts: bool = False
    listen: ListenConfig = ListenConfig()
    limits: LimitsConfig = LimitsConfig()
    breaker: BreakerConfig = BreakerConfig()
    upstreams: tuple[UpstreamConfig, ...] = ()
    policies: dict[PolicyName, PolicyConfig] = Field(default_factory=dict)
    keys: KeysConfig = KeysConfig()
    conversations: ConversationsConfig = ConversationsConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    checks: tuple[CheckConfig, ...] = ()
    retention: RetentionConfig = RetentionConfig()
    traces: TracesConfig = TracesConfig()
    encoder: EncoderConfig = EncoderConfig()
    recommender: RecommenderConfig = RecommenderConfig()

    @cached_property
    def llms(self) -> Mapping[str, tuple[UpstreamConfig, LlmConfig]]:
        """The LLMs by their name in the router, each with its upstream, in the order of the file."""
        return MappingProxyType({llm.name: (upstream, llm) for upstream in self.upstreams for llm in upstream.llms})

    @property
    def simulated(self) -> bool:
        """Whether no upstream is configured, so that the gateway starts simulated ones."""
        return not self.upstreams

    def with_upstreams(self, upstreams: Sequence[UpstreamConfig]) -> "GatewayConfig":
        """Return this config with other upstreams, checked anew; the first LLM is the default where none is named.

        Raises
        ------
        pydantic.ValidationError
            The default or a policy does not go with them; `symbiosis.gateway.config.reading.explain` says it in a line.
        """
        given = self.model_dump(by_alias=True)
        given["upstreams"] = [upstream.model_dump() for upstream in upstreams]
        if self.default is None and upstreams:
            given["default"] = upstreams[0].llms[0].name
        return GatewayConfig.model_validate(given)

    def with_prices(self, llms: Mapping[str, LlmConfig]) -> "GatewayConfig":
        """Return this config with other prices of single LLMs, by name."""
        upstreams = tuple(
            upstream.model_copy(update={"llms": tuple(llms.get(llm.name, llm) for llm in upstream.llms)})
            for upstream in self.upstreams
        )
        return self.with_upstreams(upstreams)  # a plain copy would take the remembered `llms` along

    @model_validator(mode="after")
    def _consistent(self) -> "GatewayConfig":
        names = [llm.name for upstream in self.upstreams for llm in upstream.llms]
        refuse_twice([upstream.name for upstream in self.upstreams], "`upstreams`: the name {!r}", "rename one")
        refuse_twice(names, "`upstreams`: the LLM {!r}", "give each LLM a name of its own; `model` may repeat")
        refuse_twice([check.name for check in self.checks], "`checks`: the name {!r}", "rename one")
        if self.upstreams and self.default is None:
            raise ValueError(f"`default`: name the LLM that serves where routing is off or fails, {_one_of(names)}")
        if self.upstreams and self.default not in names:
            raise ValueError(f"`default`: {self.default!r} is no LLM of the upstreams: name {_one_of(names)}")
        for policy in self.policies:
            if policy == AUTO or policy in names:
                raise ValueError(f"`policies.{policy}`: the name is taken by {_holder(policy)}: rename the policy")
        for check in self.checks:
            if check.when.policy is not None and check.when.policy not in self.policies:
                raise ValueError(
                    f"`checks`: {check.name!r} is for the policy {check.when.policy!r}, which `policies` does not have"
                )
        if not self.listen.is_loopback and not self.keys.required:
            raise ValueError(
                f"`listen.host`: {self.listen.host} is open to other machines: set `keys.required: true`, or listen on "
                "127.0.0.1"
            )
        return self


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"


def _holder(policy: str) -> str:
    return "routing itself" if policy == AUTO else "an LLM"
