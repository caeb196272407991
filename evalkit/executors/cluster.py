"""Which Ray cluster does a run use, and how do the suite's files get there?

The cluster of `RAY_ADDRESS`, else one that runs on this machine (`ray start`), else, or with
`RAY_ADDRESS=local`, one of our own for as long as the run lasts: no dashboard, no usage statistics, its files
in a folder that is removed afterwards, and a token that only this process and its workers know.

To a cluster that was there before, the suite's folder goes as Ray's working directory, so that scorers in
Python, schemas, prices and modules beside the suite are found on every node. Golden sets stay here (a job
carries its sample), and so do earlier results and what looks like a file of keys.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from evalkit.plan import Plan
from guardrails.errors import ConfigError

OBJECTS = 100 * 2**20
"""Bytes of shared memory on a cluster of our own: jobs and rows are small, and go beside it."""

QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}

KNOCKING = 10.0
"""Seconds that a named cluster gets to take a connection. Ray itself would go on for five minutes."""

_TOKEN_OF = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}

STAYS = (".git", ".venv", "__pycache__", ".env", ".env.*", "*.db", "*.db-wal", "*.db-shm")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A connection. `folder` is where workers find the suite's files; `opened`: closing ends it."""

    ray: Any
    folder: Path
    opened: bool
    _files: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def of(cls, plan: Plan) -> Cluster:
        """Connect, or start one. Blocks. Raises `ConfigError` when there is no Ray, or none that answers."""
        ray = package()
        here = (plan.folder or Path()).resolve()
        if ray.is_initialized():  # by the program that calls us: it chose cluster and environment
            return cls(ray, here, opened=False)
        shipped = None if plan.folder is None else {"working_dir": str(here), "excludes": list(_stays(plan))}
        if _joined(ray, os.environ.get("RAY_ADDRESS"), shipped):
            return cls(ray, here if shipped is None else Path(), opened=True)
        return cls(ray, here, True, _begin(ray))

    @property
    def cpus(self) -> int:
        """How many CPUs the cluster has, at least 1."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    def start(self, kind: type, *arguments: Any, **options: Any) -> Any:
        """A new actor of that class. Does not wait for it."""
        return self.ray.remote(kind).options(**options).remote(*arguments)

    @property
    def beside_us(self) -> Any:
        """Where to start an actor that lives as long as this process's node does."""
        here = self.ray.get_runtime_context().get_node_id()
        placed = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        return placed(node_id=here, soft=False)

    def close(self) -> None:
        """Disconnect; a cluster of our own ends. Blocks."""
        if self.opened:
            self.ray.shutdown()
        if self._files is not None:
            self._files.cleanup()


def package() -> Any:
    """The package `ray`. Raises `ConfigError` where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns about accelerators
    try:
        return import_module("ray")
    except ImportError:
        raise ConfigError(
            "running on many machines needs the package ray",
            hint='pip install "evalkit-guardrails[ray]", here and on every node',
        ) from None


def _joined(ray: Any, named: str | None, shipped: Mapping[str, Any] | None) -> bool:
    """Connect to the named cluster, or to this machine's; False when none was named and there is none.

    Raises `ConfigError` for one that is there and cannot be used.
    """
    if named == "local":
        return False
    if named:
        _knock(named)
    try:
        ray.init(named or "auto", runtime_env=shipped, **QUIET)
    except ConnectionError as error:
        if named:
            raise _unusable(error) from None
        return False
    except (ValueError, RuntimeError, ray.exceptions.RayError) as error:
        ray.shutdown()  # another version of Ray or Python, a folder of over 500 MB
        raise _unusable(error) from None
    return True


def _knock(address: str) -> None:
    """Raise `ConfigError` when nobody listens at `host:port`. Other forms of an address are left to Ray."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCKING).close()
    except (OSError, OverflowError) as error:
        raise _unusable(f"nobody answers at {address} ({error})") from None


def _begin(ray: Any) -> tempfile.TemporaryDirectory[str]:
    """Start a cluster of our own; the folder of its files. Raises `ConfigError` where that cannot be."""
    files = tempfile.TemporaryDirectory(prefix="evalkit-ray-", ignore_cleanup_errors=True)
    if not _TOKEN_OF & set(os.environ):
        # Else Ray 2.60 leaves one in the home folder, and sends it from then on to any cluster that it finds.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # stays: Ray reads it once per process
    try:
        ray.init("local", include_dashboard=False, object_store_memory=OBJECTS, _temp_dir=files.name, **QUIET)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        ray.shutdown()
        files.cleanup()
        raise ConfigError(
            f"Ray cannot be started on this machine: {_flat(error)}",
            hint="does `ray start --head` work? paths of sockets have to be short: TMPDIR=/tmp",
        ) from None
    return files


def _unusable(why: object) -> ConfigError:
    return ConfigError(
        f"the Ray cluster cannot be used: {_flat(why)}",
        hint="look at `ray status`; RAY_ADDRESS=local starts a cluster on this machine; one that asks for "
        "tokens (Ray 2.60 on) needs RAY_AUTH_MODE=token",
    )


def _flat(why: object) -> str:
    return " ".join(str(why).split())[:300]


def _stays(plan: Plan) -> Iterator[str]:
    """What of the suite's folder does not travel, in the words of a .gitignore."""
    yield from STAYS
    here = (plan.folder or Path()).resolve()
    for path in (here / plan.suite.out, *(part.golden.path for part in plan.parts)):
        if path.resolve().is_relative_to(here):
            yield f"/{path.resolve().relative_to(here)}"
