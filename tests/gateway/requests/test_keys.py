"""API keys: who may, how much, and how often."""

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from symbiosis.core.errors import InputError
from symbiosis.gateway.config.schema import KeyEntry, KeysConfig
from symbiosis.gateway.requests.keys import PREFIX, KeyRefused, Keys, TokenBucket, bearer, new_key, period_of

APP, TEST = new_key(), new_key()
NOW = datetime(2026, 11, 28, 23, 59, tzinfo=UTC).timestamp()


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def config(required: bool = True, **limits: object) -> KeysConfig:
    entries = [{"name": "app", "sha256": APP.sha256, **limits}, {"name": "test", "sha256": TEST.sha256}]
    return KeysConfig.model_validate({"required": required, "entries": entries})


def nothing_spent(key: str, period: str) -> float:
    return 0.0


def header(secret: str) -> str:
    return f"Bearer {secret}"


def test_new_keys_differ_and_go_into_the_config() -> None:
    assert APP.secret != TEST.secret
    assert APP.secret.startswith(PREFIX)
    assert hashlib.sha256(APP.secret.encode()).hexdigest() == APP.sha256
    assert APP.secret not in APP.entry("app")
    (entry,) = YAML(typ="safe").load(APP.entry("app"))
    assert KeyEntry.model_validate(entry) == KeyEntry(name="app", sha256=APP.sha256)
    with pytest.raises(InputError, match="'a: b' is no name"):
        APP.entry("a: b")


def test_a_key_is_known_by_its_secret_alone() -> None:
    keys = Keys(config(), nothing_spent)
    for key, name in ((APP, "app"), (TEST, "test")):
        entry = keys.authenticate(header(key.secret))
        assert entry is not None
        assert entry.name == name
    for wrong in (
        None,
        "",
        "Bearer",
        "Bearer ",
        APP.secret,
        f"Basic {APP.secret}",
        header(APP.secret[:-1]),
        "Bearer é",
    ):
        assert keys.authenticate(wrong) is None
        with pytest.raises(KeyRefused) as caught:
            keys.admit(wrong)
        assert caught.value.status == 401
    assert bearer(f"  bearer   {APP.secret} ") == APP.secret


@given(st.text())
def test_any_header_is_read(authorization: str) -> None:
    assert Keys(config(), nothing_spent).authenticate(authorization) is None


def test_keys_are_optional_unless_required() -> None:
    keys = Keys(config(required=False), nothing_spent)
    assert keys.admit(None) is None
    assert keys.admit(header("sk-of-another-provider")) is None
    assert keys.admit(header(APP.secret)) is not None


@pytest.mark.parametrize(("period", "name"), [("day", "2026-11-28"), ("month", "2026-11"), ("total", "total")])
def test_budget_of_a_period(period: str, name: str) -> None:
    spent = {("app", name): 1.99}
    keys = Keys(config(budget_usd=2, period=period), lambda *of: spent.get(of, 0.0), now=lambda: NOW)
    assert keys.admit(header(APP.secret)) is not None
    spent["app", name] = 2.0
    with pytest.raises(KeyRefused) as caught:
        keys.admit(header(APP.secret))
    assert (caught.value.status, caught.value.code) == (429, "insufficient_quota")
    assert caught.value.document()["error"]["type"] == "insufficient_quota"  # type: ignore[index]
    assert APP.secret not in str(caught.value)
    assert keys.admit(header(TEST.secret)) is not None


def test_periods_begin_in_utc() -> None:
    assert period_of("day", NOW) == "2026-11-28"
    assert period_of("day", NOW + 60) == "2026-11-29"
    assert period_of("month", NOW + 3 * 86400) == "2026-12"


def test_rate_is_shared_among_workers() -> None:
    clock = Clock()
    keys = Keys(config(per_minute=60), nothing_spent, workers=4, clock=clock)
    for _ in range(15):
        keys.admit(header(APP.secret))
    with pytest.raises(KeyRefused) as caught:
        keys.admit(header(APP.secret))
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.retry_after_s == pytest.approx(4.0)
    clock.now += 4.0
    assert keys.admit(header(APP.secret)) is not None
    assert keys.admit(header(TEST.secret)) is not None


def test_slow_rate_lets_one_pass_at_a_time() -> None:
    clock = Clock()
    keys = Keys(config(per_minute=0.5), nothing_spent, clock=clock)
    keys.admit(header(APP.secret))
    clock.now += 119
    with pytest.raises(KeyRefused):
        keys.admit(header(APP.secret))
    clock.now += 1
    assert keys.admit(header(APP.secret)) is not None


@given(
    capacity=st.floats(1, 20),
    per_second=st.floats(0.01, 20),
    steps=st.lists(st.floats(-1, 5), min_size=1, max_size=80),
)
def test_bucket_never_exceeds_its_rate_and_keeps_its_word(
    capacity: float, per_second: float, steps: list[float]
) -> None:
    clock = Clock()
    bucket = TokenBucket(capacity, per_second, clock)
    passed: list[float] = []
    for step in steps:
        clock.now += step
        wait = bucket.take()
        if wait == 0:
            passed.append(max(clock.now, passed[-1] if passed else clock.now))
            continue
        clock.now += wait + 1e-6
        late = bucket.take()
        assert late == 0 or step < 0 or min(steps) < 0
        if late == 0:
            passed.append(max(clock.now, passed[-1] if passed else clock.now))
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= capacity + per_second * (passed[last] - passed[first]) + 1e-3


def test_admin_key_comes_from_the_environment() -> None:
    keys = Keys(config(), nothing_spent)
    assert keys.is_admin("Bearer é", {"SYMBIOSIS_ADMIN_KEY": "é"})
    assert not keys.is_admin("Bearer no", {"SYMBIOSIS_ADMIN_KEY": "yes"})
    assert not keys.is_admin(header(APP.secret), {"SYMBIOSIS_ADMIN_KEY": "yes"})
    for closed in ({}, {"SYMBIOSIS_ADMIN_KEY": ""}):
        assert not keys.is_admin("Bearer ", closed)
        assert not keys.is_admin(None, closed)
