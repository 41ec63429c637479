"""Stages side by side: places, leases, the choice of a runner, and two stages of one workspace at a time."""

import argparse
import os
import pickle
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import zc.lockfile
from conftest import command
from prefect.states import Completed, Crashed, Failed, Pending, Running, State
from test_flows import alive, until

from flows.parallel import runner as module
from flows.parallel.lease import Lease, is_held, lease, read_result, write_result
from flows.parallel.places import Places
from flows.parallel.runner import HEAVY, Runner, add_options, chosen_runner, is_heavy, machine_places
from flows.parallel.stages import GraphRun, _outcome, _seconds
from flows.repro import StageError, StageResult, StageStoppedError, reproduce
from symbiosis.core.errors import InputError

# ------------------------------------------------------------------ places


def test_places_are_never_too_many() -> None:
    """Whatever the order of arrival, no more stages run than there are places, and no more heavy ones."""
    places, running, seen = Places(total=3, heavy=1), list[bool](), list[list[bool]]()

    def work(order: int) -> None:
        heavy = order % 3 == 0
        with places.one(order, heavy, lambda: True):
            running.append(heavy)
            seen.append(running.copy())
            threading.Event().wait(0.01)
            running.remove(heavy)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(12)))
    assert len(seen) == 12
    assert all(len(together) <= 3 and sum(together) <= 1 for together in seen)


def test_a_waiting_heavy_stage_keeps_no_place_from_a_light_one() -> None:
    places, order = Places(total=2, heavy=1), list[str]()
    go = {name: threading.Event() for name in ("first", "second", "light")}

    def work(name: str, number: int, heavy: bool) -> None:
        with places.one(number, heavy, lambda: True):
            order.append(name)
            go[name].wait(60)

    with ThreadPoolExecutor(3) as pool:
        pool.submit(work, "first", 0, True)
        until(lambda: order == ["first"])
        pool.submit(work, "second", 1, True)
        until(lambda: len(places._waiting) == 1)
        pool.submit(work, "light", 2, False)
        until(lambda: order == ["first", "light"])
        go["first"].set()
        until(lambda: order == ["first", "light", "second"])
        for event in go.values():
            event.set()


def test_who_was_submitted_first_goes_first() -> None:
    """With one place, waiting stages begin in order, whoever came first."""
    places, begun, release = Places(total=1, heavy=1), list[int](), threading.Event()

    def work(order: int) -> None:
        with places.one(order, False, lambda: True):
            begun.append(order)
            release.wait(60)

    with ThreadPoolExecutor(4) as pool:
        pool.submit(work, 9)
        until(lambda: begun == [9])
        for count, order in enumerate((7, 3, 5), start=1):
            pool.submit(work, order)
            until(lambda count=count: len(places._waiting) == count)
        release.set()
    assert begun == [9, 3, 5, 7]


def test_waiting_ends_with_the_flow() -> None:
    places = Places(total=1, heavy=1)
    with places.one(0, False, lambda: True) as first, places.one(1, False, lambda: False) as second:
        assert first
        assert not second
    with places.one(2, False, lambda: True) as third:
        assert third


# ------------------------------------------------------------------ leases


def test_a_lease_is_held_until_it_ends(stub: Path) -> None:
    with lease(stub) as held, lease(stub) as other:
        assert is_held(held.path)
        other.end()
        assert is_held(held.path)
        assert not is_held(other.path)
        other.end()
    assert not is_held(held.path)
    assert not list((stub / ".dvc/tmp").glob("*.lease"))


def test_a_lease_ends_with_a_killed_flow(stub: Path) -> None:
    """What it leaves is removed by the next flow."""
    code = "from pathlib import Path; from flows.parallel.lease import Lease; print(Lease(Path()).path); input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as flow:
        assert flow.stdout is not None
        path = flow.stdout.readline().strip()
        assert is_held(path)
        living = Lease(stub)
        assert Path(path).exists()
        flow.kill()
    assert not is_held(path)
    assert Path(path).exists()
    Lease(stub).end()
    assert not Path(path).exists()
    assert is_held(living.path)
    living.end()


def test_results_are_kept_as_long_as_the_lease(stub: Path) -> None:
    """For names of any kind; one that comes when the flow has ended is dropped."""
    result = StageResult("ran", 1.5)
    with lease(stub) as held, lease(stub) as other:
        assert read_result(held.path, "a/b/1 train@x") is None
        write_result(held.path, "a/b/1 train@x", result)
        assert read_result(held.path, "a/b/1 train@x") == result
        assert read_result(other.path, "a/b/1 train@x") is None
    write_result(held.path, "train", result)
    assert read_result(held.path, "a/b/1 train@x") is None
    assert not list((stub / ".dvc/tmp").glob("*.lease*"))


# ------------------------------------------------------------------ stages


def test_stages_of_one_workspace_side_by_side(stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages with different outputs share DVC's lock and its lock file: all run, and DVC has nothing left to do.

    Their variables win over this process's, and None takes one away.
    """
    variables = {"BEHAVE_train": "bar", "BEHAVE_router": None}
    for name in variables:
        monkeypatch.setenv(name, "crash")
    log: list[str] = []

    def run(stage: str) -> StageResult:
        return reproduce(stage, stub_run, log.append, force=True, environment=variables)

    stages = ["baseline@a", "baseline@b", "train", "router"]
    with ThreadPoolExecutor(len(stages)) as pool:
        assert [one.outcome for one in pool.map(run, stages)] == ["ran"] * len(stages)
    assert "49/50" in log
    assert "Data and pipelines are up to date" in command(stub_run, "dvc", "status")
    assert command(stub_run, "git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_a_stage_waits_for_the_lock_of_dvc(stub_run: Path) -> None:
    """Longer than the three seconds after which DVC by itself gives up."""
    held = zc.lockfile.LockFile(str(stub_run / ".dvc/tmp/lock"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reproduce, "train", stub_run, lambda _: None)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=8)
        held.close()
        assert waiting.result(timeout=60).outcome == "unchanged"


def test_a_stage_ends_with_the_lease_of_its_flow(stub_run: Path) -> None:
    """On its own, with all its processes, wherever it runs; and none begins afterwards."""
    with lease(stub_run) as held, ThreadPoolExecutor(1) as pool:

        def run() -> object:
            environment = {"BEHAVE_train": "sleep"}
            return reproduce(
                "train", stub_run, print, force=True, environment=environment, going=lambda: is_held(held.path)
            )

        running = pool.submit(run)
        until((stub_run / "child.pid").is_file)
        child = psutil.Process(int((stub_run / "child.pid").read_text()))
        dvc = child.parent()
        held.end()
        with pytest.raises(StageStoppedError, match="stage `train` was ended with its flow"):
            running.result(timeout=60)
        with pytest.raises(StageStoppedError, match="was not begun"):
            run()
    assert dvc is not None
    assert not alive(dvc.pid)
    assert not alive(child.pid)


def test_a_failure_comes_whole_from_another_process() -> None:
    failure = StageError("download", 1, ["connection reset"], 2.5)
    copy = pickle.loads(pickle.dumps(failure))  # noqa: S301 - what Dask and Ray do
    assert (str(copy), copy.retryable, copy.seconds) == (str(failure), True, 2.5)


@pytest.mark.parametrize(
    ("state", "outcome", "seconds"),
    [
        (Completed(name="Ran", data=1.5), "ran", 1.5),
        (Completed(name="Unchanged", data=0.5), "unchanged", 0.5),
        (Failed(data=StageError("train", 1, [], 3.5)), "failed", 3.5),
        (Failed(data=InputError("no rows")), "failed", 0.0),
        (Crashed(message="its worker was killed"), "failed", 0.0),
        (Running(), "failed", 0.0),
        (Pending(name="NotReady"), "not run", 0.0),
    ],
)
def test_what_became_of_a_stage(state: State, outcome: str, seconds: float) -> None:
    assert (_outcome(state), _seconds(state)) == (outcome, seconds)


def test_complaint() -> None:
    graph = {"a": (), "b": ("a",), "c": ()}
    good = GraphRun(dict.fromkeys(graph, "ran"), dict.fromkeys(graph, 1.0), graph)
    assert good.complaint() is None
    bad = GraphRun({"a": "failed", "b": "not run", "c": "ran"}, dict.fromkeys(graph, 1.0), graph)
    assert bad.complaint() == "failed: a; not run, they depend on it: b"


# ------------------------------------------------------------------ the choice


def choose(*arguments: str) -> Runner:
    """What a command line chooses."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    return chosen_runner(parser.parse_args(arguments))


def test_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose() == Runner()
    assert choose("--workers", "3").places() == 3
    monkeypatch.setattr(module, "find_spec", lambda _: object())
    assert choose("--runner", "ray").places() == 2
    with socket.create_server(("127.0.0.1", 0)) as cluster:
        address = f"127.0.0.1:{cluster.getsockname()[1]}"
        assert choose("--runner", "dask", "--address", f"tcp://{address}").address == f"tcp://{address}"
        assert choose("--runner", "ray", "--address", address, "--heavy", "2").heavy == 2
    assert Runner.model_validate(Runner(kind="dask", workers=4).model_dump()) == Runner(kind="dask", workers=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "--workers: Input should be greater than or equal to 1"),
        (["--heavy", "-1"], "--heavy: Input should be greater than or equal to 1"),
        (["--address", "127.0.0.1:1"], "an address is that of a cluster: give the runner `dask` or `ray` with it"),
        (
            ["--runner", "ray", "--address", "head"],
            "`head` is no address of a Ray cluster: HOST:PORT or ray://HOST:PORT",
        ),
        (["--runner", "ray", "--address", "tcp://a:1"], "`tcp://a:1` is no address of a Ray cluster"),
        (
            ["--runner", "dask", "--address", "a:99999"],
            "`a:99999` is no address of a Dask cluster: HOST:PORT or tcp://",
        ),
        (["--runner", "dask", "--address", "a:1", "--workers", "2"], "a cluster with an address has its own workers"),
        (
            ["--runner", "dask", "--address", "127.0.0.1:1"],
            "there is no Dask cluster at 127.0.0.1:1: Connection refused",
        ),
    ],
)
def test_choices_that_do_not_fit(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, before anything runs."""
    monkeypatch.setattr(module, "find_spec", lambda _: object())
    with pytest.raises(InputError) as refused:
        choose(*arguments)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_missing_extra_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=rf"needs the extra `{kind}`: pip install -c requirements.lock .*\[{kind}\]"):
        choose("--runner", kind)


@pytest.mark.parametrize(("cores", "gib", "places"), [(1, 64, 1), (2, 24, 1), (8, 64, 4), (64, 16, 4), (16, 2, 1)])
def test_places_of_a_machine(cores: int, gib: int, places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores and 4 GiB each, and at least one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: argparse.Namespace(total=gib << 30))
    assert machine_places() == places


def test_heavy_stages_are_stages() -> None:
    """A renamed stage would silently be light."""
    import yaml
    from conftest import ROOT

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(stages) >= HEAVY
    assert is_heavy("neural-baseline@multi_vae")
    assert not is_heavy("clean")
