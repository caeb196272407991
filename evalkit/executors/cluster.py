"""Which Ray cluster does a run use, and how do the suite's files get there?

The cluster of `RAY_ADDRESS`, else one that runs on this machine (`ray start`), else one of our own for as
long as the run lasts: no dashboard, no usage statistics, its files in a folder that is removed afterwards.

To a cluster that was there before, the suite's folder goes as Ray's working directory, so that scorers in
Python, schemas, prices and modules beside the suite are found on every node. Golden sets stay here (a job
carries its sample), and so do earlier results and what looks like a file of keys.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from evalkit.plan import Plan
from guardrails.errors import ConfigError

OBJECTS = 100 * 2**20
"""Bytes of shared memory on a cluster of our own: jobs and rows are small, and go beside it."""

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
        named = os.environ.get("RAY_ADDRESS")
        shipped = None if plan.folder is None else {"working_dir": str(here), "excludes": list(_stays(plan))}
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            ray.init(named or "auto", runtime_env=shipped, **quiet)
        except ConnectionError as error:
            if named:
                raise _unreachable(error) from None
        except (ValueError, RuntimeError, ray.exceptions.RayError) as error:  # a folder of over 500 MB, say
            ray.shutdown()
            raise _unreachable(error) from None
        else:
            return cls(ray, here if shipped is None else Path(), opened=True)
        files = tempfile.TemporaryDirectory(prefix="evalkit-ray-", ignore_cleanup_errors=True)
        own = {"include_dashboard": False, "object_store_memory": OBJECTS, "_temp_dir": files.name}
        ray.init("local", **own, **quiet)
        return cls(ray, here, True, files)

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


def _unreachable(error: Exception) -> ConfigError:
    said = " ".join(str(error).split())[:300]
    return ConfigError(
        f"the Ray cluster cannot be used: {said}",
        hint="look at `ray status`; without RAY_ADDRESS a cluster is started on this machine",
    )


def _stays(plan: Plan) -> Iterator[str]:
    """What of the suite's folder does not travel, in the words of a .gitignore."""
    yield from STAYS
    here = (plan.folder or Path()).resolve()
    for path in (here / plan.suite.out, *(part.golden.path for part in plan.parts)):
        if path.resolve().is_relative_to(here):
            yield f"/{path.resolve().relative_to(here)}"
