"""gateway.yaml: what is read, what is refused in one line with its fix, and what is only noticed."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from symbiosis.core.errors import InputError
from symbiosis.gateway.config.reading import CONFIG_FILE, check, explain, load, require_upstream_keys
from symbiosis.gateway.config.schema import GatewayConfig, LlmConfig, UpstreamConfig

EXAMPLE = Path(__file__).parents[3] / "configs" / "gateway" / "gateway.yaml"
SMALL = """
upstreams:
  - name: provider
    base_url: https://llm.example.org/v1/
    key_env: PROVIDER_KEY
    llms: [{name: small, price_prompt: 0.1, price_response: 0.4}]
default: small
"""
DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str) -> GatewayConfig:
    """Read a config in the present folder."""
    CONFIG_FILE.write_text(text, encoding="utf-8")
    return load()


def test_example_gives_the_defaults_but_for_what_it_says() -> None:
    example = load(EXAMPLE)
    given = {"default", "upstreams", "policies", "checks"}
    assert example.model_dump(exclude=given) == GatewayConfig().model_dump(exclude=given)
    assert set(GatewayConfig.model_fields) == example.model_fields_set
    for name in ("listen", "limits", "breaker", "keys", "conversations", "traces", "encoder", "recommender"):
        block = getattr(example, name)
        assert block.model_fields_set == set(type(block).model_fields)
    assert list(example.llms) == ["large", "small", "local"]


def test_without_a_file_upstreams_are_simulated(folder: Path) -> None:
    assert load() == GatewayConfig() == read("")
    assert load().simulated
    with pytest.raises(InputError, match="other.yaml cannot be read"):
        load(Path("other.yaml"))


def test_left_out_values_follow_from_others(folder: Path) -> None:
    config = read(SMALL)
    upstream, llm = config.llms["small"]
    assert not config.simulated
    assert upstream.base_url == "https://llm.example.org/v1"
    assert (llm.model, llm.price_cached, llm.context) == ("small", 0.1, None)
    null = read(SMALL.replace("price_prompt", "model: null, price_cached: null, price_prompt"))
    assert null == config


def test_config_is_frozen(folder: Path) -> None:
    config = read(SMALL)
    with pytest.raises(ValidationError):
        config.share = 0.5  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.llms["small"] = config.llms["small"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        ("shares: 1", "shares", "unknown key"),
        ("listen: {hosts: a}", "listen.hosts", "unknown key"),
        ("share: 1.5", "share", "did you mean 0.015"),
        ("share: .inf", "share", "finite"),
        ("share: some", "share", "valid number"),
        ("mode: on", "mode", "'apply', 'observe' or 'off'"),
        ("state: null", "state", "valid string"),
        ("store: mysql://a", "store", "sqlite:///FILE or postgresql+psycopg://"),
        ("upstreams: 3", "upstreams", "a list"),
        ("upstreams: [{name: a, base_url: 'http://a', llms: []}]", "upstreams.0.llms", "at least 1 item"),
        ("listen: {host: 0.0.0.0}", "listen.host", "set `keys.required: true`, or listen on 127.0.0.1"),
        ("listen: {host: llm.example.org}", "listen.host", "open to other machines"),
        ("listen: {port: 70000}", "listen.port", "65535"),
        ("listen: {allowed_origins: [app.example.org]}", "listen.allowed_origins.0", "https://"),
        ("listen: {allowed_origins: ['https://a.org/b']}", "listen.allowed_origins.0", "scheme, host and port alone"),
        ("limits: {attempts: 0}", "limits.attempts", "greater than or equal to 1"),
        ("policies: {cheap: {}}", "policies.cheap", "give trade_off, floor, usd_per_query or deadline_s"),
        ("policies: {cheap: {trade_off: null}}", "policies.cheap", "no part"),
        ("policies: {a: {trade_off: 1, floor: 1}}", "policies.a", "trade_off and floor exclude each other"),
        ("policies: {a: {usd_per_query: 0}}", "policies.a.usd_per_query", "greater than or equal to 0.000000000001"),
        ("policies: {auto: {floor: 1}}", "policies.auto", "taken by routing itself"),
        ("policies: {'a=b': {floor: 1}}", "policies.a=b", "no name of a policy"),
        (SMALL + "policies: {small: {floor: 1}}", "policies.small", "taken by an LLM"),
        (SMALL.replace("default: small", ""), "default", "name the LLM"),
        (SMALL.replace("default: small", "default: large"), "default", "'large' is no LLM of the upstreams"),
        (SMALL.replace("https://llm", "llm"), "upstreams.0.base_url", "begin with http:// or https://"),
        (SMALL.replace("https://llm", "https://me:secret@llm"), "upstreams.0.base_url", "`key_env` instead"),
        (SMALL.replace("PROVIDER_KEY", "sk-123"), "upstreams.0.key_env", "do not write the key itself"),
        (SMALL.replace("prompt: 0.1", "prompt: -1"), "upstreams.0.llms.0.price_prompt", "greater than or equal to 0"),
        (SMALL.replace("price_prompt: 0.1, ", ""), "upstreams.0.llms.0.price_prompt", "missing: add it"),
        (SMALL.replace("{name: small", "{name: 'auto:x'"), "upstreams.0.llms.0.name", "stands for routing"),
        (SMALL.replace("{name: small", "{name: ' ä'"), "upstreams.0.llms.0.name", "begins or ends with a blank"),
        ("keys: {entries: [{name: a, sha256: abc}]}", "keys.entries.0.sha256", "64 hexadecimal digits"),
        (
            "keys: {entries: [{name: a, sha256: abc, period: year}]}",
            "keys.entries.0.period",
            "'day', 'month' or 'total'",
        ),
        ("checks: [{name: a, kind: xml}]", "checks.0.kind", "'json', 'json_schema' or 'regex'"),
        ("checks: [{name: a, kind: regex}]", "checks.0", "`pattern` is missing"),
        ("checks: [{name: a, kind: json, pattern: a}]", "checks.0", "`pattern` has no meaning for kind json"),
        ("checks: [{name: a, kind: regex, pattern: (}]", "checks.0", "`pattern` does not compile"),
        (
            "checks: [{name: a, kind: json_schema, schema: {type: 3}}]",
            "checks.0",
            "`schema` is no JSON schema: `$.type`",
        ),
        ("checks: [{name: a, kind: json_schema, schema: {$ref: 'http://a'}}]", "checks.0", "nothing is fetched"),
        ("checks: [{name: a, kind: json_schema, schema: {$dynamicRef: 'b.json'}}]", "checks.0", "nothing is fetched"),
        ("checks: [{name: a, kind: json_schema, schema: {$ref: '#/$defs/a'}}]", "checks.0", "does not hold"),
        ("checks: [{name: a, kind: json_schema, schema: {$schema: 'http://a'}}]", "checks.0", "is not known"),
        ("checks: [{name: a, kind: json_schema, schema: {patternProperties: {a: {}}}}]", "checks.0", "propertyNames"),
        ("checks: [{name: a, kind: json, when: never}]", "checks.0.when", "always, response_format or {policy: NAME}"),
        ("checks: [{name: a, kind: json, when: {policy: b}}]", "checks", "which `policies` does not have"),
        ("traces: {endpoint: localhost}", "traces.endpoint", "begin with http://"),
    ],
)
def test_fault_is_one_line_with_file_key_and_fix(text: str, key: str, told: str, folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith("gateway.yaml: ")
    assert f"`{key}`" in message
    assert told in message
    assert "\n" not in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("share: 1\nshare: 1", 'in line 2: found duplicate key "share"'),
        ("listen:\n  port: 1\n  port: 2", 'in line 3: found duplicate key "port"'),
        ("share: [1", "in line 1"),
        ("share: &a [*b]", "in line 1: found undefined alias 'b'"),
        ("state: !!python/object:os.system x", "could not determine a constructor"),
        ("state: 2026-13-45", "month must be"),
        ("a: " + "[" * 1000, "not valid YAML"),
        ("- share", "must hold keys such as `upstreams:`, not a list"),
        ("share", "not a str"),
        ("1: 2", "Keys should be strings"),
    ],
)
def test_what_is_no_config_is_told_with_its_line(text: str, told: str, folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert str(caught.value).startswith("gateway.yaml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_that_yaml_once_took_for_switches_are_names(folder: Path) -> None:
    config = read("policies: {yes: {floor: 1}, on: {floor: 0}}\nmode: off")
    assert list(config.policies) == ["yes", "on"]
    assert config.mode == "off"


def test_names_and_digests_are_there_once(folder: Path) -> None:
    llm = "{name: a, price_prompt: 1, price_response: 1}"
    upstream = "{name: NAME, base_url: 'http://a', llms: [LLMS]}"
    twice = {
        f"upstreams: [{upstream.replace('LLMS', f'{llm}, {llm}')}]": "the LLM 'a' is there twice",
        f"upstreams: [{upstream}, {upstream}]".replace("LLMS", llm): "the name 'NAME' is there twice",
        f"keys: {{entries: [{{name: a, sha256: {DIGEST}}}, {{name: a, sha256: {DIGEST[::-1]}}}]}}": "the key name 'a'",
        f"keys: {{entries: [{{name: a, sha256: {DIGEST}}}, {{name: b, sha256: {DIGEST.upper()}}}]}}": "the sha256",
        "checks: [{name: a, kind: json}, {name: a, kind: json}]": "the name 'a' is there twice",
    }
    for text, told in twice.items():
        with pytest.raises(InputError, match=told):
            read(text)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert GatewayConfig.model_validate({"listen": {"host": host}}).listen.is_loopback


def test_open_address_with_keys_is_accepted() -> None:
    config = GatewayConfig.model_validate({"listen": {"host": "0.0.0.0"}, "keys": {"required": True}})
    assert not config.listen.is_loopback
    assert any("none is there" in notice for notice in check(config, environment={}))


def test_notices(folder: Path) -> None:
    everything_set = {"PROVIDER_KEY": "x", "SYMBIOSIS_ADMIN_KEY": "y"}
    assert check(read(SMALL), ["small"], everything_set) == []
    told = {
        "PROVIDER_KEY of its key is not set": check(read(SMALL), None, {"SYMBIOSIS_ADMIN_KEY": "y"}),
        "SYMBIOSIS_ADMIN_KEY is not set": check(read(SMALL), None, {"PROVIDER_KEY": "x"}),
        "swapped?": check(read(SMALL.replace("price_prompt", "price_cached: 1, price_prompt")), None, everything_set),
        "no effect in mode off": check(read("mode: off\nshare: 0.5"), None, everything_set),
        "the router does not know small": check(read(SMALL), [], everything_set),
        "no upstream serves large": check(read(SMALL), ["small", "large"], everything_set),
    }
    for part, notices in told.items():
        assert len(notices) == 1
        assert part in notices[0]


def test_start_needs_the_keys_of_upstreams_elsewhere(folder: Path) -> None:
    require_upstream_keys(read(SMALL), environment={"PROVIDER_KEY": "x"})
    require_upstream_keys(read(SMALL.replace("https://llm.example.org", "http://localhost:1")), environment={})
    for environment in ({}, {"PROVIDER_KEY": ""}):
        with pytest.raises(InputError, match="gateway.yaml: .*PROVIDER_KEY.*export it"):
            require_upstream_keys(read(SMALL), environment=environment)


def test_prices_change_in_a_config_of_their_own() -> None:
    config = load(EXAMPLE)
    small = config.llms["small"][1]
    dearer = config.with_prices({"small": small.model_copy(update={"price_prompt": 9.0})})
    assert dearer.llms["small"][1].price_prompt == 9.0
    assert config.llms["small"][1] == small
    assert list(dearer.llms) == list(config.llms)


def test_simulated_upstreams_are_put_in() -> None:
    llm = LlmConfig(name="a", price_prompt=1, price_response=2)
    upstream = UpstreamConfig(name="simulated", base_url="http://127.0.0.1:9100/v1", llms=(llm,))
    config = GatewayConfig(share=0.5).with_upstreams([upstream])
    assert (config.default, config.share, list(config.llms)) == ("a", 0.5, ["a"])
    with_checks = load(EXAMPLE).with_upstreams(load(EXAMPLE).upstreams)
    assert with_checks == load(EXAMPLE)
    with pytest.raises(ValidationError) as caught:
        GatewayConfig(default="b").with_upstreams([upstream])
    assert explain(caught.value) == "gateway.yaml: `default`: 'b' is no LLM of the upstreams: name one of a"
