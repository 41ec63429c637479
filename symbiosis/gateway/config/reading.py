"""Reading ``gateway.yaml``: each fault in one line that names file, key and fix."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from symbiosis.core.errors import InputError
from symbiosis.core.text_files import read_text
from symbiosis.gateway.config.schema import GatewayConfig
from symbiosis.routing.data.outcomes import Llms
from symbiosis.routing.serving.inputs import unlike

CONFIG_FILE = Path("gateway.yaml")
LONG_S = 1_000.0
"""A time of one request that is longer is rather one in milliseconds."""


def load(path: Path | None = None) -> GatewayConfig:
    """Read and check a config.

    Parameters
    ----------
    path
        The file; None: ``gateway.yaml`` in this folder, and where it is not there the defaults, which have simulated
        upstreams.

    Raises
    ------
    InputError
        The file is missing or no YAML, or a key is unknown, missing or wrong; one line that names every fault.
    """
    if path is None:
        if not CONFIG_FILE.exists():
            return GatewayConfig()
        path = CONFIG_FILE
    document = _document(path)
    try:
        return GatewayConfig.model_validate(document)
    except ValidationError as error:
        raise InputError(explain(error, str(path))) from None


def explain(error: ValidationError, file: str = str(CONFIG_FILE)) -> str:
    """Return pydantic's faults in one line: file, keys and what is wrong with each."""
    faults = error.errors(include_url=False)
    roots = [fault for fault in faults if not _follows(fault, faults)]
    return " ".join(f"{file}: {'; '.join(_fault(fault) for fault in roots)}".split())


def check(
    config: GatewayConfig, router_llms: Iterable[str] | None = None, environment: Mapping[str, str] | None = None
) -> list[str]:
    """Return what is allowed but probably not meant, a sentence each.

    Parameters
    ----------
    config
        As `load` gives it.
    router_llms
        Names of the router's LLMs; None: not known.
    environment
        Variables; None: of this process.
    """
    environment = os.environ if environment is None else environment
    notices = [
        f"`upstreams`: {upstream.name}: the environment variable {upstream.key_env} of its key is not set"
        for upstream in config.upstreams
        if upstream.key_env is not None and not environment.get(upstream.key_env)
    ]
    notices += [
        f"`upstreams`: {name}: a cached token costs more than another of the prompt; are the two prices swapped?"
        for name, (_, llm) in config.llms.items()
        if llm.price_cached > llm.price_prompt
    ]
    notices += _long(config)
    if config.share < 1 and config.mode != "apply":
        notices.append(f"`share`: {config.share:g} has no effect in mode {config.mode}")
    if config.keys.required and not config.keys.entries:
        notices.append("`keys`: keys are required but none is there: make one with `symbiosis gateway keys new NAME`")
    if not environment.get(config.keys.admin_env):
        notices.append(f"`keys.admin_env`: {config.keys.admin_env} is not set: /admin is closed")
    if config.recommender.enabled:
        for name in ("folder", "new_items"):
            given = getattr(config.recommender, name)
            if given is not None and not Path(given).exists():
                notices.append(f"`recommender.{name}`: {given} is missing: no item is recommended until it is there")
    if router_llms is not None and not config.simulated:
        notices += _unlike_router(config, list(router_llms))
    return notices


def require_upstream_keys(
    config: GatewayConfig, file: str = str(CONFIG_FILE), environment: Mapping[str, str] | None = None
) -> None:
    """Refuse to start where an upstream on another machine has no key in the environment.

    Raises
    ------
    InputError
        The variable that the config names is not set.
    """
    environment = os.environ if environment is None else environment
    for upstream in config.upstreams:
        if upstream.key_env is not None and not environment.get(upstream.key_env) and not upstream.is_loopback:
            raise InputError(
                f"{file}: `upstreams`: {upstream.name}: the environment variable {upstream.key_env} of its key is not "
                f"set: export it, or take `key_env` out"
            )


def unlike_trained(config: GatewayConfig, known: Llms) -> list[str]:
    """Return a sentence for each price that is so far from what the router learned with that its unit may be another.

    Parameters
    ----------
    config
        Prices in USD per million tokens.
    known
        The router's LLMs, prices in USD per token.
    """
    notices = []
    for arm, name in enumerate(known.names):
        if name not in config.llms:
            continue
        llm = config.llms[name][1]
        for key, trained in (("price_prompt", known.price_prompt[arm]), ("price_response", known.price_response[arm])):
            if (told := unlike(getattr(llm, key), float(trained) * 1e6)) is not None:
                notices.append(f"`upstreams`: {name}: {key} {told}")
    return notices


def _long(config: GatewayConfig) -> list[str]:
    """Return a sentence for each time in seconds that is as long as one in milliseconds would be."""
    given = {f"limits.{key}": getattr(config.limits, key) for key in ("connect_s", "first_byte_s", "idle_s")}
    given |= {"limits.retry_after_s": config.limits.retry_after_s, "breaker.open_s": config.breaker.open_s}
    given |= {f"policies.{name}.deadline_s": policy.deadline_s for name, policy in config.policies.items()}
    return [
        f"`{key}`: {value:g} seconds are {value / 60:.0f} minutes; is it in milliseconds?"
        for key, value in given.items()
        if value is not None and value >= LONG_S
    ]


def _unlike_router(config: GatewayConfig, router_llms: list[str]) -> list[str]:
    notices = [
        f"`upstreams`: the router does not know {name}: it serves only where it is asked for by name, until it is added"
        for name in config.llms
        if name not in router_llms
    ]
    if unserved := [name for name in router_llms if name not in config.llms]:
        notices.append(f"`upstreams`: no upstream serves {', '.join(unserved)} of the router: never chosen")
    return notices


def _document(path: Path) -> object:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    text = read_text(path)
    try:
        # YAML 1.2: `yes` and `on` are words; of keys that come twice the second is refused.
        document = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}" if mark is not None else ""
        problem = " ".join((error.problem or error.context or "it cannot be read").split())
        raise InputError(f"{path} is not valid YAML{where}: {problem}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InputError(f"{path} must hold keys such as `upstreams:`, not a {type(document).__name__}")
    return document


def _follows(fault: ErrorDetails, faults: Sequence[ErrorDetails]) -> bool:
    """Tell whether a fault only repeats another: pydantic calls a list too short if an entry of it is wrong."""
    place = fault["loc"]
    if fault["type"] == "too_short":
        return any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in faults)
    return fault["type"] == "default_factory_not_called"


def _fault(fault: ErrorDetails) -> str:
    place = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        return f"`{place}`: unknown key: correct or remove it"
    if fault["type"] == "missing":
        return f"`{place}`: missing: add it"
    if fault["type"] == "less_than_equal" and fault["ctx"]["le"] == 1 and (given := float(fault["input"])) <= 100:
        return f"`{place}`: {given:g} is no share from 0 to 1: did you mean {given / 100:g}?"
    told = fault["msg"].replace("a valid tuple", "a list").replace("Tuple", "List").removeprefix("Value error, ")
    return f"`{place}`: {told}" if place else told
