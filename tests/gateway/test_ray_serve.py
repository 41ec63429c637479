"""Two replicas by Ray Serve: no decision is lost, one of them learns, and a query's decision is the same from both."""

import sys
import threading
from pathlib import Path

import gateway_world
import httpx
import psutil
import pytest
from gateway_world import PATIENCE_S
from test_killed import Acknowledged, judge, key_entry, settle
from test_many_machines import agreed, decided, loaded, teach
from typer.testing import CliRunner

from symbiosis.cli.gateway import gateway as gateway_command
from symbiosis.core.errors import InputError
from symbiosis.gateway.config.schema import GatewayConfig
from symbiosis.gateway.service import ray_serve

DECISIONS = 200


def test_what_is_missing_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"needs Ray: pip install -c requirements.lock 'symbiosis\[ray\]'"):
        ray_serve.run(GatewayConfig(), 2)
    outcome = CliRunner().invoke(gateway_command, ["--workers", "2", "--replicas", "2"])
    assert str(outcome.exception).startswith("`--workers` and `--replicas` exclude each other")
    (tmp_path / "gateway.yaml").write_text("{}\n")
    with pytest.raises(InputError, match="names no upstream"):
        ray_serve.build({"config": str(tmp_path / "gateway.yaml")})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_replicas(trained_folder: Path, llms_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray.serve")
    monkeypatch.setattr(gateway_world, "PATIENCE_S", 240.0)  # two replicas load all that a gateway loads
    folder = gateway_world.copied(trained_folder, tmp_path / "gateway")
    gateway_world.write_config(
        folder,
        llms_address,
        keys={"required": True, "entries": [key_entry()]},
        exploration={"kind": "epsilon", "amount": 0.5},
        breaker={"failures": 1000},
    )
    heard, done = Acknowledged(), threading.Event()
    with gateway_world.gateway(folder, replicas=2) as running:
        processes = psutil.Process(running.process.pid).children(recursive=True)
        teach(running.address, heard)
        # A query's decision is the same from both.
        every = range(20)
        gateway_world.eventually(
            lambda: all(decided(running.address, "Explain.")["decision"]["version"] > 0 for _ in every), "a version"
        )
        assert agreed([running.address], processes=2, asked=150) >= 10
        port = int(running.address.rpartition(":")[2])
        with loaded([port], heard, done):
            gateway_world.eventually(lambda: len(heard.decisions) >= DECISIONS, "enough decisions")
        settle(running, url := f"sqlite:///{folder}/.router/store.db")
        # Both decide, one learns.
        assert len({key.partition("-")[0] for key in heard.decisions}) == 2
        headers = {"authorization": f"Bearer {gateway_world.ADMIN_KEY}"}
        said = [httpx.get(f"{running.address}/admin/learner", headers=headers).json() for _ in range(30)]
        assert {one["here"] for one in said} == {True, False}
        assert len({one["instance_here"] for one in said if one["here"]}) == 1
    assert running.process.returncode == 0, running.log.read_text()
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    assert not alive
    judge(folder, url, heard, DECISIONS, met_failures=False)
