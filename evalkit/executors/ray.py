"""A run on many machines: `evalkit run suite.yaml --executor ray`.

The driver keeps everything that there is one of: the plan, the store, the cost cap, the gates. It sends out
single jobs, as many at once as the suite's `concurrency` says, and writes down each row as it comes back. A
worker is a Ray actor that has built the suite's endpoints and judges for itself.

A worker that dies costs the calls that it was in: each is sent to another one, twice at most, and becomes a
row with the error `worker_lost` after that. As the driver alone writes rows, and one for each job, nothing is
counted twice, whatever became of the first call.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit._version import version
from evalkit.asking import Asker, unanswered
from evalkit.config import endpoint_name
from evalkit.executors.cluster import Cluster
from evalkit.executors.pool import Member, Pool
from evalkit.executors.ray_store import Limits
from evalkit.executors.worker import Setup, Worker
from evalkit.fitting import names
from evalkit.plan import Job, Plan, about
from evalkit.sample import Attachment
from evalkit.trial import Failure, Trial
from guardrails.clock import SYSTEM, Clock
from guardrails.errors import ConfigError, GuardrailsError

if TYPE_CHECKING:
    from evalkit.stores import Kept

TRIES = 3
"""How many workers a job may lose before it is given up."""

RESTARTS = 10
"""How often one worker may be started again."""

CLOSING = 5.0
"""Seconds that workers get to close their connections."""

LIMITED = frozenset({"rate_limit", "budget", "breaker"})


class RayExecutor:
    """The executor of a run on a Ray cluster. `workers` are there until `aclose()`."""

    def __init__(self, plan: Plan, cluster: Cluster, workers: int, *, clock: Clock = SYSTEM) -> None:
        self._plan = plan
        self._cluster = cluster
        self._clock = clock
        self._pool = Pool(cluster.ray.exceptions, clock)
        limits = None
        if _is_limited([plan.suite.endpoints, plan.suite.user]):
            limits = cluster.start(Limits, num_cpus=0, scheduling_strategy=cluster.beside_us)
        self._limits = limits
        setup = _setup(plan, cluster, limits)
        at_once = plan.suite.concurrency * len(plan.targets)
        options = {"num_cpus": 1, "max_restarts": RESTARTS, "max_concurrency": at_once + 2}
        self._members = [
            Member(cluster.start(Worker, setup, scheduling_strategy="SPREAD", **options))
            for _ in range(workers)
        ]
        self._waiting = list(self._members)

    @classmethod
    def of(cls, plan: Plan, *, workers: int | None = None) -> RayExecutor:
        """On the cluster that there is, or on one of its own; call it in the event loop of the run.

        `workers`: left out, one for each CPU of the cluster, and no more than calls can be open. Blocks until
        the cluster answers. Raises `ConfigError` where there is no Ray, or the plan cannot travel.
        """
        _travels(plan)
        cluster = Cluster.of(plan)
        at_once = min(plan.suite.concurrency * len(plan.targets), plan.size)
        return cls(plan, cluster, workers or max(1, min(cluster.cpus, at_once)))

    @property
    def actors(self) -> list[Any]:
        """Ray's handles of the workers, for those who look after the cluster."""
        return [member.actor for member in self._members]

    async def __call__(self, job: Job, run: str, kept: Kept | None, /) -> Trial:
        """Have it done by a worker. Raises `NoWorkers` when there is none."""
        started = self._clock.wall().isoformat(timespec="milliseconds")
        try:
            job = packed(job)
        except GuardrailsError as error:
            return unanswered(job, run, started, Failure.of(error))
        self._begin()
        for _ in range(TRIES):
            member = await self._pool.least_busy()
            try:
                return await self._asked(member, job, run, kept)
            except self._pool.errors.RayTaskError as error:
                return unanswered(job, run, started, Failure.of(error.cause or error))
            except self._pool.errors.RayError:
                self._pool.admit(member)
        lost = f"{TRIES} workers died over this call, one after another"
        why = Failure(
            "worker_lost", lost, "is there enough memory on the nodes? go on with the run to try again"
        )
        return unanswered(job, run, started, why)

    def _begin(self) -> None:
        """Ask the workers in, the first time: only now there is an event loop for sure."""
        while self._waiting:
            self._pool.admit(self._waiting.pop())

    async def _asked(self, member: Member, job: Job, run: str, kept: Kept | None) -> Trial:
        member.busy += 1
        asked = member.actor.do.remote(job, run, kept)
        try:
            trial: Trial = await asked
        except asyncio.CancelledError:
            self._cluster.ray.cancel(asked)  # or its call would go on, and cost
            raise
        finally:
            member.busy -= 1
        return trial

    async def aclose(self) -> None:
        """End the workers, and leave the cluster."""
        for task in [*self._pool.joining.values()]:
            task.cancel()
        closing = [asyncio.ensure_future(_closed(each.actor)) for each in self._pool.ready]
        if closing:
            await asyncio.wait(closing, timeout=CLOSING)
        for actor in (*self.actors, *filter(None, [self._limits])):
            self._cluster.ray.kill(actor)
        self._cluster.close()
        await Asker(self._plan).aclose()


async def _closed(actor: Any) -> None:
    try:
        await actor.aclose.remote()
    except Exception:  # it is gone already, or will be
        return


def _setup(plan: Plan, cluster: Cluster, limits: Any) -> Setup:
    prompts = tuple(spec.resolved(plan.folder or Path()) for spec in plan.suite.prompts)
    suite = plan.suite.model_copy(update={"prompts": prompts})
    sets = {part.golden.name: part.scoring.fallback for part in plan.parts}
    return Setup(suite, sets, cluster.folder, limits, version())


def _travels(plan: Plan) -> None:
    """Raise `ConfigError` for endpoints that are objects: a worker can build those of the suite only."""
    described = [(endpoint_name(each), about(each)) for each in plan.suite.endpoints]
    if [(target.name, target.about) for target in plan.targets] != described:
        raise ConfigError(
            "these endpoints cannot travel to other machines: they are not the suite's own",
            hint="describe them under the suite's `endpoints`; `type: function` calls your own code",
        )


def packed(job: Job) -> Job:
    """The job with its attached files inside. Raises `ConfigError` for one that is gone."""
    attached = job.sample.attachments
    if not any(each.path for each in attached):
        return job
    inside = tuple(Attachment(each.media_type, each.part().url) for each in attached)
    return replace(job, sample=replace(job.sample, attachments=inside))


def _is_limited(config: Any) -> bool:
    """Whether anything in the endpoints' policies is shared among workers."""
    return bool(LIMITED & set(names(config)))
