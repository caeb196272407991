"""What holds for every test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import settings

# Shared machines pause: a test's own time says nothing. CI draws the same examples each time.
settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("project")


@dataclass(frozen=True)
class Postgres:
    """A server of this session's own, on a socket in a folder: no port, no configuration of the machine."""

    folder: Path
    user: str = "evalkit"
    password: str = "not-to-be-seen"

    def url(self, schema: str = "public", **query: str) -> str:
        """A URL with the password in it, whose tables go to `schema`."""
        asked = {"host": str(self.folder), "options": f"-csearch_path={schema}", **query}
        return f"postgresql://{self.user}:{self.password}@/postgres?{urlencode(asked)}"

    def schema(self) -> str:
        """The URL of a new, empty schema."""
        import psycopg

        name = f"s{uuid.uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return self.url(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL, one for each worker; skips where none is installed."""
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed (psycopg)")
    with tempfile.TemporaryDirectory(prefix="evalkit-pg-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder))
        with subprocess.Popen(_cluster(server), cwd=folder, stderr=subprocess.PIPE) as running:
            assert running.stderr is not None
            said = iter(running.stderr.readline, b"")
            assert any(b"ready to accept connections" in line for line in said), "the server did not start"
            rest = threading.Thread(target=deque, args=(said, 0))  # or its pipe fills
            rest.start()
            yield server
            running.send_signal(signal.SIGQUIT)
            rest.join()


def _cluster(server: Postgres) -> list[str]:
    """Make the server's files; the command that runs it."""
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("initdb", path=os.pathsep.join([*map(str, reversed(known)), os.environ["PATH"]]))
    if found is None or shutil.which("setpriv") is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    secret = server.folder / "password"
    secret.write_text(server.password, encoding="utf-8")
    become = ["setpriv", "--pdeathsig", "QUIT"]  # it ends with this process, even a killed one
    if os.geteuid() == 0:  # which the server refuses to be
        account = pwd.getpwnam("nobody")
        become += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        for path in (server.folder, secret):
            os.chown(path, account.pw_uid, account.pw_gid)
    data = f"--pgdata={server.folder / 'data'}"
    access = [f"--username={server.user}", f"--pwfile={secret}", "--auth=scram-sha-256"]
    make = [*become, found, data, *access, "--encoding=UTF8", "--locale=C", "--no-sync"]
    subprocess.run(make, check=True, cwd=server.folder, stdout=subprocess.DEVNULL)
    options = {"listen_addresses": "", "unix_socket_directories": str(server.folder), "fsync": "off"}
    program = str(Path(found).resolve().with_name("postgres"))
    given = [f"-c{name}={value}" for name, value in (options | {"shared_buffers": "32MB"}).items()]
    return [*become, program, "-D", str(server.folder / "data"), *given]
