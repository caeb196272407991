"""What runs on every node: the suite's endpoints and judges, built there, doing one job after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit._version import version
from evalkit.asking import Asker
from evalkit.config import Suite
from evalkit.executors.ray_store import RayStore
from evalkit.plan import Job, Plan
from evalkit.trial import Failure, Trial

if TYPE_CHECKING:
    from evalkit.stores import Kept


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs to know, in plain values. Keys are not in it: each node has its own environment.

    `sets` are golden sets' names, each with its fallback scorer; `limits` is the actor that shared limits are
    kept in, if there are any; `version` is the driver's.
    """

    suite: Suite = field(repr=False)
    sets: Mapping[str, str]
    folder: Path
    limits: Any = field(repr=False)
    version: str

    def plan(self) -> Plan:
        """Build it. Raises `ConfigError` for what is missing here."""
        return Plan.elsewhere(self.suite, self.sets, self.folder, self._store)

    def _store(self, endpoint: str) -> RayStore | None:
        return None if self.limits is None else RayStore(self.limits, endpoint)


class Worker:
    """The actor. It may be started again at any moment, so it builds what it needs when it is asked to."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._asker: Asker | None = None

    async def join(self) -> Failure | None:
        """Get ready to work; why that cannot be, if so."""
        if (ours := version()) != self._setup.version:
            return Failure("version", f"a node has evalkit {ours}, and the driver {self._setup.version}")
        try:
            for target in self._ready().plan.targets:
                target.llm.warm()  # nothing else runs here yet
        except Exception as error:
            return Failure.of(error)
        return None

    def _ready(self) -> Asker:
        if self._asker is None:
            self._asker = Asker(self._setup.plan())
        return self._asker

    async def do(self, job: Job, run: str, kept: Kept | None) -> Trial:
        """One job: its row."""
        return await self._ready()(job, run, kept)

    async def aclose(self) -> None:
        """Free what it holds."""
        if self._asker is not None:
            await self._asker.aclose()
