"""The router's state: features, predictors and prices; predicting, learning, saving and loading."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from symbiosis.core.artifacts import read_json, sha256_of, write_json
from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Llms
from symbiosis.routing.model.calibration import Calibration, Kind, Ranges
from symbiosis.routing.model.cost_model import LogRidge
from symbiosis.routing.model.features import FeatureMap
from symbiosis.routing.model.forests import SharedForest
from symbiosis.routing.model.lengths import Family
from symbiosis.routing.model.linear_heads import LinearHeads
from symbiosis.routing.model.mixllm_predictor import ForestPrior
from symbiosis.routing.model.networks import SharedNetwork
from symbiosis.routing.model.params import Predictor
from symbiosis.routing.model.predictors import LENGTH, N_TARGETS, QUALITY, AveragePrior, Lengths, Part, Prior, TagPrior


@dataclass(frozen=True)
class Predictions:
    """What is expected of each LLM for each query.

    Attributes
    ----------
    quality
        (N, L), 0..1.
    response_tokens
        (N, L).
    cost_usd
        (N, L).
    variance
        (N, L), x A_l^-1 x^T.
    """

    quality: np.ndarray
    response_tokens: np.ndarray
    cost_usd: np.ndarray
    variance: np.ndarray


TENSORS = "router.safetensors"
MANIFEST = "router.json"


@dataclass(frozen=True)
class Router:
    """Predict and learn; which LLM to choose is `symbiosis.routing.policy.score`'s matter.

    Attributes
    ----------
    llms
        The LLMs; position is the arm.
    feature_map
        From embeddings to features.
    prior, heads
        Quality and log length of each LLM: fixed part and learning part.
    calibration
        Of quality.
    lengths
        From log length to tokens.
    cost_scale
        Dollars that count as 1 in the score, frozen at training.
    ranges
        How far outcomes lie from predictions, if known.
    costs
        Cost straight from the features; None: predicted tokens times prices.
    prompts
        Tokens of prompts from the features.
    """

    llms: Llms
    feature_map: FeatureMap
    prior: Prior
    heads: LinearHeads
    calibration: Calibration
    lengths: Lengths
    cost_scale: float
    ranges: Ranges | None = None
    costs: LogRidge | None = None
    prompts: LogRidge | None = None

    def prompt_tokens(self, features: np.ndarray) -> np.ndarray:
        """Return the tokens that prompts are expected to have, (..., L), for features (..., D).

        A prompt may be longer than its text: instructions, examples and tools come with it. An LLM whose prompts were
        never seen is expected to count like the mean of the others.

        Raises
        ------
        InputError
            The router was trained without the lengths of prompts.
        """
        if self.prompts is None:
            raise InputError("this router does not know how long prompts are: give prompt_tokens")
        tokens = self.prompts(features, np.full(len(self.llms), np.nan))
        if np.isnan(self.prompts.smear).any():
            tokens = np.where(np.isnan(tokens), np.nanmean(tokens, axis=-1, keepdims=True), tokens)
        return tokens

    def predict(
        self, features: np.ndarray, prompt_tokens: np.ndarray | None = None, prior: np.ndarray | None = None
    ) -> Predictions:
        """Predict quality, length, cost and uncertainty of every LLM.

        Parameters
        ----------
        features
            (N, D), from `feature_map`.
        prompt_tokens
            (N, L), counted by each LLM's tokenizer; if not given, what `Router.prompt_tokens` expects of the text, all
            that a served query brings and all that evaluations let the router see.
        prior
            (N, L, 2), ``prior(features)`` where it is at hand: it never changes.
        """
        mean, variance = self.heads.predict(features)
        mean = mean + (self.prior(features) if prior is None else prior)
        tokens = self.lengths(mean[:, :, LENGTH])
        cost = self.llms.cost_usd(self.prompt_tokens(features) if prompt_tokens is None else prompt_tokens, tokens)
        if self.costs is not None:
            cost = self.costs(features, cost)
        return Predictions(self.calibration(mean[:, :, QUALITY]), tokens, cost, variance)

    def learn(
        self,
        arm: int,
        features: np.ndarray,
        quality: float,
        response_tokens: float | None,
        prior: np.ndarray | None = None,
        *,
        shared: float = 0.0,
        weight: float = 1.0,
    ) -> None:
        """Learn the outcome of one query with the LLM that answered it; the others stay as they are.

        Parameters
        ----------
        arm
            The LLM.
        features
            (D,).
        quality, response_tokens
            What was observed; None if the length is not known.
        prior
            (L, 2), see `predict`.
        shared
            Part of the quality that is put down to the query, not to the LLM; see
            `symbiosis.routing.learning.feedback.Noise`.
        weight
            How many observations this one is worth.

        Raises
        ------
        InputError
            There is no such arm, or an observation is not finite or out of range.
        """
        if not 0 <= arm < len(self.llms):
            raise InputError(f"feedback for LLM {arm}: there are LLMs 0 to {len(self.llms) - 1}")
        if not 0 <= quality <= 1 or (response_tokens is not None and not 0 <= response_tokens < np.inf):
            raise InputError(
                f"feedback for {self.llms.names[arm]!r}: quality {quality} must lie in 0..1 and response tokens "
                f"{response_tokens} must be a number not below 0"
            )
        known = self.prior(features[None])[0] if prior is None else prior
        if response_tokens is None:  # as expected: moves nothing
            left = float(features @ self.heads.weights[arm, :, self.heads.dimension + LENGTH])
        else:
            left = np.log(max(response_tokens, 1.0)) - known[arm, LENGTH]
        self.heads.update(arm, features, np.array([quality - shared - known[arm, QUALITY], left]), weight)

    def copy(self) -> "Router":
        """Return a router that learns on its own."""
        return replace(self, heads=self.heads.copy())

    def take(self, arms: Sequence[int]) -> "Router":
        """Return a router of the given LLMs only; what it knows of them is unchanged."""
        tables = self.calibration.tables
        return replace(
            self,
            llms=self.llms.take(arms),
            prior=self.prior.take(arms),
            heads=self.heads.take(arms),
            calibration=replace(self.calibration, tables=tuple(tables[arm] for arm in arms) if tables else ()),
            lengths=Lengths(self.lengths.smear[list(arms)], self.lengths.longest[list(arms)]),
            ranges=None if self.ranges is None else self.ranges.take(arms),
            costs=None if self.costs is None else self.costs.take(arms),
            prompts=None if self.prompts is None else self.prompts.take(arms),
        )

    def with_llm(
        self,
        name: str,
        price_prompt: float,
        price_response: float,
        startup_s: float,
        tokens_per_s: float,
        penalty: float | np.ndarray,
        price_cached: float = np.nan,
        price_reasoning: float = np.nan,
    ) -> "Router":
        """Return a router with one LLM more, expected to be like the mean of the others until it has answered.

        Parameters
        ----------
        name
            Not yet taken.
        price_prompt, price_response, startup_s, tokens_per_s, price_cached, price_reasoning
            See `symbiosis.routing.data.outcomes.Llms`.
        penalty
            Ridge penalty of its heads, one or (D,): as if it had been seen on so little that everything is uncertain.

        Raises
        ------
        InputError
            The name is taken.
        """
        if name in self.llms.names:
            raise InputError(f"there is an LLM {name!r} already: choose another name")
        added = (price_prompt, price_response, startup_s, tokens_per_s, price_cached, price_reasoning)
        columns = [field.name for field in fields(Llms)][1:]
        tables = self.calibration.tables
        smear, longest = self.lengths.smear, self.lengths.longest
        return replace(
            self,
            llms=Llms(
                (*self.llms.names, name),
                *(np.append(getattr(self.llms, c), value) for c, value in zip(columns, added, strict=True)),
            ),
            prior=self.prior.with_average(),
            heads=self.heads.extend(LinearHeads.blank(1, self.heads.dimension, N_TARGETS, penalty)),
            calibration=replace(self.calibration, tables=(*tables, np.empty((2, 0))) if tables else ()),
            lengths=Lengths(np.append(smear, smear.mean()), np.append(longest, longest.max())),
            ranges=None if self.ranges is None else self.ranges.with_widest(),
            costs=None if self.costs is None else self.costs.with_unknown(),
            prompts=None if self.prompts is None else self.prompts.with_unknown(),
        )

    def save(self, folder: Path) -> None:
        """Write the state into a new folder: tensors, and a manifest with their digest."""
        from safetensors.numpy import save_file

        folder.mkdir()
        tensors = {
            **{f"features.{f.name}": getattr(self.feature_map, f.name) for f in fields(FeatureMap)},
            **{f"lengths.{f.name}": getattr(self.lengths, f.name) for f in fields(Lengths)},
            **{f"heads.{name}": getattr(self.heads, name) for name in HEADS},
            **{f"calibration.{arm}": table for arm, table in enumerate(self.calibration.tables)},
        }
        if self.ranges is not None:
            tensors |= {f"ranges.{name}": tensor for name, tensor in self.ranges.tensors().items()}
        for part, model in (("costs", self.costs), ("prompts", self.prompts)):
            if model is not None:
                tensors |= {f"{part}.{name}": tensor for name, tensor in model.tensors().items()}
        if isinstance(self.prior, ForestPrior):
            tensors |= self.prior.tensors()
        elif isinstance(self.prior, AveragePrior):
            for one in self.prior.parts:
                tensors |= _arrays(f"prior.{PARTS[type(one)]}", one)
        else:
            tensors |= _arrays("prior", self.prior)
        save_file({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}, folder / TENSORS)
        names = [field.name for field in fields(Llms)][1:]
        families = list(self.prior.families) if isinstance(self.prior, ForestPrior) else None
        predictor = predictor_of(self.prior)
        manifest = Manifest(
            format=_format_of(predictor),
            sha256=sha256_of(folder / TENSORS),
            predictor=predictor,
            length_models=families,
            calibration=self.calibration.kind,
            cost_scale=self.cost_scale,
            llms=[
                LlmState(name=name, **{c: float(getattr(self.llms, c)[arm]) for c in names})
                for arm, name in enumerate(self.llms.names)
            ],
        )
        write_json(folder / MANIFEST, manifest.model_dump(exclude_none=True))

    @classmethod
    def load(cls, folder: Path | str) -> "Router":
        """Read a state and make sure that it is whole.

        Raises
        ------
        InputError
            A file is missing, damaged or of another version.
        """
        folder = Path(folder)
        remedy = "delete the folder and run `dvc repro router-train`"
        try:
            manifest = Manifest.model_validate(read_json(folder / MANIFEST))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "format"
            raise InputError(f"{folder / MANIFEST}: `{place}`: {first['msg']}; {remedy}") from None
        if not (folder / TENSORS).is_file() or sha256_of(folder / TENSORS) != manifest.sha256:
            raise InputError(f"{folder / TENSORS} is missing or damaged (its digest differs); {remedy}")
        from safetensors.numpy import load_file

        tensors = load_file(folder / TENSORS)
        arms = range(len(manifest.llms))
        try:
            router = cls(
                Llms(
                    tuple(llm.name for llm in manifest.llms),
                    *(np.array([getattr(m, f.name) for m in manifest.llms]) for f in fields(Llms)[1:]),
                ),
                FeatureMap(*(tensors.pop(f"features.{f.name}") for f in fields(FeatureMap))),
                _load_prior(manifest, tensors),
                _load_heads(tensors),
                Calibration(
                    manifest.calibration,
                    tuple(tensors.pop(f"calibration.{arm}") for arm in arms if manifest.calibration != "none"),
                ),
                Lengths(*(tensors.pop(f"lengths.{f.name}") for f in fields(Lengths))),
                manifest.cost_scale,
                _load_ranges(tensors),
                _load_ridge(tensors, "costs"),
                _load_ridge(tensors, "prompts"),
            )
        except KeyError as error:
            raise InputError(f"{folder / TENSORS}: the tensor {error} is missing; {remedy}") from None
        if tensors or len(router.heads.precision) != len(router.llms):
            raise InputError(f"{folder / TENSORS} does not fit {MANIFEST} beside it; {remedy}")
        return router


PARTS: dict[type[Part], Predictor] = {TagPrior: "linear", SharedForest: "stacked", SharedNetwork: "network"}
KINDS: dict[str, type[Part]] = {name: kind for kind, name in PARTS.items()}


def predictor_of(prior: Prior) -> Predictor:
    """Return the form that a prior belongs to."""
    if isinstance(prior, ForestPrior):
        return "forest"
    if isinstance(prior, AveragePrior):
        return cast(Predictor, "+".join(PARTS[type(part)] for part in prior.parts))
    return PARTS[type(prior)]


def _format_of(predictor: Predictor) -> Literal[2, 3, 4, 5]:
    """Return the oldest format that can hold a form, so that what an older version can read it does read."""
    if predictor == "forest":
        return 3
    if "network" in predictor:
        return 5
    return 4 if "+" in predictor else 2


HEADS = ("precision", "moments", "weights", "penalty", "updates", "age", "kept")


def _load_heads(tensors: dict[str, np.ndarray]) -> LinearHeads:
    *arrays, updates, age, kept = (tensors.pop(f"heads.{name}") for name in HEADS)
    heads = LinearHeads(*arrays)
    heads.updates, heads.age, heads.kept = updates, age, kept
    return heads


def _load_ranges(tensors: dict[str, np.ndarray]) -> Ranges | None:
    names = [name for name in tensors if name.startswith("ranges.")]
    return Ranges.of({name.removeprefix("ranges."): tensors.pop(name) for name in names}) if names else None


def _load_ridge(tensors: dict[str, np.ndarray], part: str) -> LogRidge | None:
    if not any(name.startswith(f"{part}.") for name in tensors):
        return None
    return LogRidge(*(tensors.pop(f"{part}.{field.name}") for field in fields(LogRidge)))


def _load_prior(manifest: "Manifest", tensors: dict[str, np.ndarray]) -> Prior:
    if manifest.predictor == "forest":
        return ForestPrior.of(tensors, manifest.length_models or ["forest"] * len(manifest.llms))
    names = manifest.predictor.split("+")
    if len(names) > 1:
        return AveragePrior(tuple(_taken(tensors, f"prior.{name}", KINDS[name]) for name in names))
    return _taken(tensors, "prior", KINDS[names[0]])


def _taken(tensors: dict[str, np.ndarray], place: str, kind: type[Part]) -> Part:
    return kind(*(tensors.pop(f"{place}.{field.name}") for field in fields(kind)))


def _arrays(place: str, part: Part) -> dict[str, np.ndarray]:
    return {f"{place}.{field.name}": getattr(part, field.name) for field in fields(part)}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LlmState(_Strict):
    """An LLM in the manifest."""

    name: str
    price_prompt: float = Field(ge=0)
    price_response: float = Field(ge=0)
    startup_s: float = Field(ge=0)
    tokens_per_s: float = Field(gt=0)
    price_cached: float = Field(ge=0)
    price_reasoning: float = Field(ge=0)


class Manifest(_Strict):
    """What lies beside the tensors.

    Format 3 names the family of each LLM's regressor of the length; in format 2, which is still written where there is
    no such choice, those of the ``forest`` predictor are forests. Format 4 is an average of predictors, format 5 a
    network or an average with one.
    """

    format: Literal[2, 3, 4, 5]
    sha256: str
    predictor: Predictor
    length_models: list[Family] | None = None
    calibration: Kind
    cost_scale: float = Field(gt=0)
    llms: list[LlmState]

    @model_validator(mode="after")
    def _as_the_format_says(self) -> "Manifest":
        if (self.format == 3) != (self.length_models is not None):
            raise ValueError("format 3, and no other, has length_models")
        if self.length_models is not None and (self.predictor, len(self.length_models)) != ("forest", len(self.llms)):
            raise ValueError("length_models: one for each LLM, with the predictor forest alone")
        if self.predictor != "forest" and self.format != _format_of(self.predictor):
            raise ValueError(f"a predictor {self.predictor} has the format {_format_of(self.predictor)}")
        return self
