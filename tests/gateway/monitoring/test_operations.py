"""docs/operations.md, the alert rules and the Containerfile name what exists, and all of it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from conftest import ROOT

from symbiosis.gateway.config.schema import GatewayConfig
from symbiosis.gateway.monitoring.errors import KINDS
from symbiosis.gateway.monitoring.metrics import CIRCUITS, Metrics
from symbiosis.routing.serving.records import Mode

PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
RULES = yaml.safe_load((ROOT / "configs/gateway/prometheus_alerts.yaml").read_text(encoding="utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
CONTAINERFILE = (ROOT / "Containerfile").read_text(encoding="utf-8")


def metrics() -> dict[str, set[str]]:
    """Labels by name of each metric, as a scraper sees the name."""
    found = {}
    for collector in list(Metrics().registry._collector_to_names):
        (family,) = collector.describe() if hasattr(collector, "describe") else collector.collect()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = set(collector._labelnames)  # type: ignore[attr-defined]
    return found


def table(heading: str) -> list[list[str]]:
    """Cells of the table below a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    assert rows
    return rows


def test_every_metric_is_explained_and_exists() -> None:
    """Name and labels, in both directions."""
    explained = {row[0].strip("`"): set(filter(None, row[1].replace(",", " ").split())) for row in table("Metrics")}
    assert explained == metrics()
    named = set(re.findall(r"\bsymbiosis_[a-z_]+", PAGE))
    assert named <= set(metrics())


def test_values_of_labels_are_those_that_are_counted() -> None:
    """Kinds of errors and modes, as the code has them."""
    rows = {row[0].strip("`"): row[2] for row in table("Metrics")}
    kinds = set(re.findall(r"`([\w-]+)`", rows["symbiosis_upstream_errors_total"]))
    assert kinds == {"429", "4xx", "5xx", "other", *KINDS} - {"client"}
    modes = set(re.findall(r"`([\w-]+)`", rows["symbiosis_decisions_total"]))
    assert modes == set(get_args(Mode)) - {"library"}
    for number, state in enumerate(CIRCUITS):
        assert f"{number} {state}" in rows["symbiosis_circuit_state"]


def test_alerts_use_metrics_and_labels_that_exist() -> None:
    """Every name in an expression; every label in a selector or a grouping."""
    known = metrics()
    assert ALERTS
    for rule in ALERTS:
        for name, selector in re.findall(r"\b(symbiosis_[a-z_]+)(?:\{([^}]*)\})?", rule["expr"]):
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            assert base in known, name
            labels = set(re.findall(r"(\w+)[=!]", selector))
            assert labels <= known[base], f"{rule['alert']}: {labels}"
        for grouping in re.findall(r"sum by \(([^)]*)\)", rule["expr"]):
            every = {label for labels in known.values() for label in labels}
            assert {label.strip() for label in grouping.split(",")} <= every | {"instance", "le"}
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")


def test_every_alarm_has_its_advice() -> None:
    """In both directions."""
    assert [row[0].strip("`") for row in table("When an alarm rings")] == [rule["alert"] for rule in ALERTS]


def test_endpoints_that_are_named_exist() -> None:
    """By method and path, as the application has them."""
    named = set(re.findall(r"`(GET|POST|DELETE) (/[\w/]+)", PAGE))
    assert ("POST", "/admin/llms/NAME/drain") in named
    code = "import json; from symbiosis.gateway.service import admin, endpoints, recommendations; print(json.dumps([[m, r.path] for s in (admin, endpoints, recommendations) for r in s.router.routes for m in r.methods]))"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    served = {(method, re.sub(r"\{[\w:]+\}", "X", path)) for method, path in yaml.safe_load(done.stdout)}
    assert {(method, re.sub(r"\b[A-Z]{3,}\b", "X", path)) for method, path in named} <= served


def test_config_snippets_are_right() -> None:
    """Each snippet of the gateway's config is one."""
    snippets = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    ours = [snippet for snippet in snippets if set(snippet) & set(GatewayConfig.model_fields)]
    assert len(ours) == 3
    for snippet in ours:
        GatewayConfig.model_validate(snippet)
    for key in set(re.findall(r"`(limits|breaker|listen|keys)\.(\w+)", PAGE)):
        block = GatewayConfig.model_fields[key[0]].annotation
        assert key[1] in block.model_fields, key  # type: ignore[union-attr]


def copied() -> list[tuple[str, str]]:
    """Sources and targets of what the Containerfile copies."""
    lines = [line.split()[1:] for line in CONTAINERFILE.splitlines() if line.startswith("COPY ")]
    return [(source, line[-1]) for line in lines for source in line[:-1]]


def test_the_containerfile_copies_what_exists() -> None:
    """Tracked files only, and all that the package is built from."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for source, target in copied():
        assert any(file == source or file.startswith(f"{source}/") for file in tracked.splitlines()), source
        assert target.startswith("/opt/symbiosis/")
    assert {source for source, _ in copied()} >= {"symbiosis", "stages", "flows", "pyproject.toml", "requirements.lock"}


def test_the_container_is_no_root_and_says_how_it_is() -> None:
    """A user by number, a health check of an endpoint that exists, the gateway as its command, no secret."""
    assert re.search(r"^FROM python:3\.11-slim$", CONTAINERFILE, re.MULTILINE)
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", CONTAINERFILE, re.MULTILINE)
    assert "/health/ready" in CONTAINERFILE.split("HEALTHCHECK")[1].splitlines()[0]
    assert 'ENTRYPOINT ["symbiosis", "gateway"]' in CONTAINERFILE
    assert CONTAINERFILE.index("USER ") > CONTAINERFILE.rindex("RUN ")
    assert not re.search(r"(?i)(password|secret|api_key)=", CONTAINERFILE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_containers_steps_run(tmp_path: Path) -> None:
    """Minutes: COPY and the pip steps of RUN in an empty environment, then the entry's command."""
    root = tmp_path / "opt/symbiosis"
    root.mkdir(parents=True)
    for source, target in copied():
        name = Path(target).name if not target.endswith("/") else source
        copy = tmp_path / target.lstrip("/") if not target.endswith("/") else root / name
        listing = subprocess.run(["git", "ls-files", source], cwd=ROOT, capture_output=True, text=True, check=True)
        for file in listing.stdout.splitlines():
            place = copy if file == source else copy / Path(file).relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((ROOT / file).read_bytes())
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    steps = re.findall(r"^RUN python (-m pip .*)$", CONTAINERFILE, re.MULTILINE)
    assert len(steps) == 2
    python = tmp_path / "venv/bin/python"
    for step in steps:
        arguments = step.replace("/opt/symbiosis", str(root)).split()
        subprocess.run([str(python), *arguments], check=True)
    work = tmp_path / "srv"
    work.mkdir()
    command = [str(python.with_name("symbiosis")), "gateway", "--check"]
    told = subprocess.run(command, cwd=work, capture_output=True, text=True, check=True)
    assert "is right" in told.stdout
