"""Kinds of single values in ``gateway.yaml``: names, addresses, digests; each refusal says what to write instead."""

import re
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from symbiosis.core.errors import quoted, require_name


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value):
        raise ValueError(f"{quoted(value)} is no name: take up to 64 letters, digits, `_`, `.` and `-`")
    return value


def _policy_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", value):
        raise ValueError(f"{quoted(value)} is no name of a policy: take up to 64 letters, digits, `_` and `-`")
    return value


def _llm_name(value: str) -> str:
    require_name(value, "an LLM")
    if value == "auto" or value.startswith("auto:"):
        raise ValueError(f"{quoted(value)} stands for routing: rename the LLM and keep the provider's name in `model`")
    return value


def _environment(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError("is no name of an environment variable: name the variable, do not write the key itself")
    return value


def _address(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise ValueError(
            f"{quoted(value)} is no address: begin with http:// or https:// and a host, as http://127.0.0.1:9100/v1"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user or password: name the environment variable of the key in `key_env` instead")
    if parts.query or parts.fragment:
        raise ValueError(f"{quoted(value)} has a query or fragment: write the address up to /v1 alone")
    return value.rstrip("/")


def _origin(value: str) -> str:
    address = _address(value)
    if urlsplit(address).path:
        raise ValueError(f"{quoted(value)} is no origin: write scheme, host and port alone, as https://app.example.org")
    return address


def _store(value: str) -> str:
    if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValueError("is no URL of a store: write sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE")
    return value


def sha256_digest(value: str) -> str:
    """Return a digest in lower case.

    Raises
    ------
    ValueError
        It is not 64 hexadecimal digits.
    """
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        raise ValueError("is no SHA-256 (64 hexadecimal digits): make a key with `symbiosis gateway keys new NAME`")
    return value.lower()


def refuse_twice(names: Sequence[str], what: str, fix: str) -> None:
    """Raise ValueError for the first name that comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what.format(name)} is there twice: {fix}")
        seen.add(name)


Name = Annotated[str, AfterValidator(_name)]
PolicyName = Annotated[str, AfterValidator(_policy_name)]
LlmName = Annotated[str, AfterValidator(_llm_name)]
EnvironmentName = Annotated[str, AfterValidator(_environment)]
AddressUrl = Annotated[str, AfterValidator(_address)]
Origin = Annotated[str, AfterValidator(_origin)]
StoreUrl = Annotated[str, AfterValidator(_store)]
Share = Annotated[float, Field(ge=0, le=1)]
