"""One endpoint does not answer: which one is asked next, and for which reasons?"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from guardrails.call import Call, Event, Reset
from guardrails.errors import ConfigError, GuardrailsError, Interrupted
from guardrails.flow.retry import RetryBudget
from guardrails.flow.route import Route, does_not_fit, reasons, was_sent
from guardrails.handler import Stream, close_all

Order = Callable[[Call, Sequence[Route]], Sequence[Route]]
"""Which route is asked first, and which ones then. A route that it leaves out is not asked at all."""


def as_listed(_: Call, routes: Sequence[Route]) -> Sequence[Route]:
    """The order in which they are written down."""
    return routes


@dataclass(frozen=True, slots=True)
class FirstOf:
    """One endpoint does not answer: which one is asked next?

    The routes in their `order` (`guardrails.flow.choose` has others than the listed one), until one opens. A
    failed call goes on only to a route whose `on` names the reason, and only where it fits; a route that
    cannot take the request is passed over before anything is sent. Fallbacks after something was sent spend
    `budget`; those from an open circuit, a full queue or a misfit are free, so that a dead endpoint's calls
    move on for good once its breaker has opened. The caller sees the last attempt's error. A route's own
    `Retry` comes before its fallback: give it little patience where another route stands by.

    After the first token nothing falls back: the caller gets `Interrupted`, which says how much has arrived.
    With `restart` a call that breaks later starts again on the next route instead, behind a `Reset` event
    that makes void what came before; where no further route opens, `Interrupted` is raised after all.
    """

    routes: Sequence[Route]
    order: Order = as_listed
    budget: RetryBudget = field(default_factory=RetryBudget)
    restart: bool = False
    name: str = "routes"

    def __post_init__(self) -> None:
        names = [route.name for route in self.routes]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"routes need names of their own, not {', '.join(names) or 'none at all'}")

    @asynccontextmanager
    async def __call__(self, call: Call) -> AsyncGenerator[Stream]:
        """Open the first route that can be opened."""
        self.budget.count(call)
        async with _Walk(call, self.order(call, self.routes), self.budget) as walk:
            stream = await walk.go_on()
            if not self.restart:
                yield stream
                return
            async with aclosing(walk.restarting(stream)) as restarting:
                yield restarting

    async def aclose(self) -> None:
        """Close every route."""
        await close_all(*self.routes)


class _Walk:
    """A call on its way along the routes. At most one of them is open."""

    def __init__(self, call: Call, routes: Sequence[Route], budget: RetryBudget) -> None:
        self._call = call
        self._routes = iter(routes)
        self._budget = budget
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        return await self._open.__aexit__(kind, error, tb)

    async def go_on(self, failure: GuardrailsError | None = None) -> Stream:
        """Open the next route that opens. Raises the last failure when there is none."""
        misfits: list[str] = []
        for route in self._routes:
            if failure is not None and not reasons(failure) & route.on:
                continue
            if (why := route.misfit(self._call.request)) is not None:
                misfits.append(f"{route.name}: {why}")
                self._note(f"does_not_fit:{route.name}")
                continue
            if failure is not None:
                if was_sent(failure) and not self._budget.take(self._call.clock.now()):
                    self._note("no_fallback:budget_spent")
                    break
                self._note(f"fallback:{route.name}:{failure.kind}")
            try:
                return await self._open.enter_async_context(route(self._call))
            except GuardrailsError as error:
                failure = error
        raise failure if failure is not None else does_not_fit("; ".join(misfits) or "no route was chosen")

    async def restarting(self, stream: Stream) -> AsyncGenerator[Event]:
        """The events of `stream`, and of the next route after a `Reset` when it breaks."""
        while True:
            broken: Interrupted | None = None
            try:
                async for event in stream:
                    yield event
            except Interrupted as error:
                broken = error
            if broken is None:
                return
            await self._leave(broken)
            try:
                stream = await self.go_on(broken)
            except GuardrailsError as error:
                if error is not broken:
                    self._note(f"no_restart:{error.kind}")
                raise broken from None
            yield Reset(broken.kind)

    async def _leave(self, error: Interrupted) -> None:
        """Close the route that broke; its layers are told why."""
        opened, self._open = self._open, AsyncExitStack()
        await opened.__aexit__(type(error), error, error.__traceback__)

    def _note(self, detail: str) -> None:
        self._call.journal.note(self._call.clock.now(), "flow", detail)
