"""A PostgreSQL server of one's own for tests: a fresh cluster in a temporary folder, on a unix socket."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVER = "postgresql"
_NUMBER = itertools.count()


def _binaries() -> Path | None:
    """Folder of the newest server programs, None if there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    named = shutil.which("initdb")
    return found[-1] if found else Path(named).parent if named else None


def _as_user() -> list[str]:
    """What a command begins with to run as somebody else than root, whom the server refuses."""
    return [] if os.geteuid() else ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


@contextmanager
def server() -> Iterator[Callable[[], str]]:
    """Start a server; what is given makes an empty database and returns its address."""
    binaries = _binaries()
    if binaries is None or not (binaries / "initdb").is_file():
        pytest.skip("no PostgreSQL server is installed")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: a socket's path has at most 107 characters
    try:
        if not os.geteuid():
            try:
                owner = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("root needs the user `postgres` to start PostgreSQL")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        run = _as_user()
        data, log = folder / "data", folder / "log"
        made = subprocess.run(
            [*run, binaries / "initdb", "-D", data, "-A", "trust", "-U", "test", "-N", "-E", "UTF8", "--locale=C"],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"PostgreSQL cannot be set up: {made.stderr.splitlines()[-1:]}")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=50"
        control = [*run, binaries / "pg_ctl", "-D", data, "-w", "-l", log]
        subprocess.run([*control, "-o", options, "start"], cwd=folder, stdout=subprocess.DEVNULL, check=True)
        try:

            def database() -> str:
                name = f"test{next(_NUMBER)}"
                subprocess.run([binaries / "createdb", "-h", folder, "-U", "test", name], check=True)
                return f"postgresql+psycopg://test@/{name}?host={folder}"

            yield database
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], cwd=folder, stdout=subprocess.DEVNULL, check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
