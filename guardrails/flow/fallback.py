"""One endpoint does not answer: which one is asked next, and for which reasons?"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from guardrails.call import Call, Delta, Event, Finish, Reset
from guardrails.errors import (
    Blocked,
    BudgetExceeded,
    ConfigError,
    EndpointError,
    GuardrailsError,
    Interrupted,
    Refused,
    Rejected,
    Shed,
)
from guardrails.flow.entering import Kept
from guardrails.flow.holdback import filtered, played
from guardrails.flow.retry import RetryBudget
from guardrails.flow.route import Route, does_not_fit, reasons, was_sent
from guardrails.handler import Opening, Stream, close_all, opening, warm_all
from guardrails.telling import Spell

log = logging.getLogger("guardrails")

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
    The log hears once that a route fails and which one takes its calls, and that it answers again.

    With `restart` a call that breaks later starts again on the next route instead, behind a `Reset` event
    that makes void what came before; where no further route opens, `Interrupted` is raised after all.

    An answer that the endpoint's own filter cuts off (`content_filter`) is a refusal like any other where a
    further route takes `content_policy`: before its first token always, among held-back tokens with
    `Holdback(refuses_filtered=True)`, later with `restart`. Without such a route, and after tokens without
    either, it passes as the endpoint ended it; so does one of several choices.
    """

    routes: Sequence[Route]
    order: Order = as_listed
    budget: RetryBudget = field(default_factory=RetryBudget)
    restart: bool = False
    name: str = "routes"
    _spells: dict[str, Spell] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [route.name for route in self.routes]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"routes need names of their own, not {', '.join(names) or 'none at all'}")

    def __call__(self, call: Call) -> Opening:
        """Open the first route that can be opened."""
        return self._restarting(call) if self.restart else Kept(lambda opened: self._walk(call).go_on(opened))

    @opening
    async def _restarting(self, call: Call) -> AsyncGenerator[Stream]:
        walk = self._walk(call)
        opened = Kept(walk.go_on)
        async with opened as stream, aclosing(walk.restarting(stream, opened)) as restarting:
            yield restarting

    def _walk(self, call: Call) -> _Walk:
        self.budget.count(call)
        return _Walk(call, self.order(call, self.routes), self.budget, self._spells)

    def warm(self) -> None:
        """Load now what the first call on any route would wait for."""
        warm_all(*self.routes)

    async def aclose(self) -> None:
        """Close every route."""
        await close_all(*self.routes)


class _Walk:
    """A call on its way along the routes. At most one of them is open."""

    def __init__(
        self, call: Call, routes: Sequence[Route], budget: RetryBudget, spells: dict[str, Spell]
    ) -> None:
        self._call = call
        self._left = list(routes)
        self._budget = budget
        self._spells = spells
        self._from = ""

    async def go_on(self, opened: Kept, failure: GuardrailsError | None = None) -> Stream:
        """Open the next route that opens. Raises the last failure when there is none."""
        misfits: list[str] = []
        said: list[str] = []
        unasked: list[str] = []
        while self._left:
            route = self._left.pop(0)
            if failure is not None and not (words := reasons(failure)) & route.on:
                if words:
                    unasked.append(
                        f"{route.name} was not asked, its `on` lacks {' and '.join(sorted(words))}"
                    )
                continue
            if (why := route.misfit(self._call.request)) is not None:
                misfits.append(f"{route.name}: {why}")
                self._note(f"does_not_fit:{route.name}")
                continue
            if failure is not None:
                if was_sent(failure) and not self._budget.take(self._call.clock.now()):
                    self._note("no_fallback:budget_spent")
                    unasked.append(f"{route.name} was not asked, the retry budget is spent")
                    break
                self._note(f"fallback:{route.name}:{failure.kind}")
                self._ill(failure, route.name)
            self._from = route.name
            try:
                stream = await opened.enter(self._opening(route))
                if self._spells:
                    self._well(route.name)
                return stream
            except GuardrailsError as error:
                said.append(f"{route.name}: {_short(error)}")
                failure = error.again()
        if failure is None:
            raise does_not_fit("; ".join(misfits) or "no route was chosen")
        _explain(failure, said, [*misfits, *unasked])
        if said:
            self._ill(failure)
        raise failure

    def _ill(self, failure: GuardrailsError, instead: str = "") -> None:
        """A route failed: tell the log, once, unless it is the request that is at fault."""
        if not _is_outage(failure):
            return
        spell = self._spells.setdefault(self._from, Spell())
        if spell.goes_on(f"{_short(failure)} {instead}", self._call.clock.now()):
            where = f"calls go on to {instead}" if instead else "no other route takes its calls"
            log.warning("route %s fails (%s): %s", self._from, _short(failure), where)

    def _well(self, name: str) -> None:
        spell = self._spells.get(name)
        if spell is not None and spell.told and spell.over():
            log.info("route %s answers again after %.0f s", name, self._call.clock.now() - spell.since)

    def _opening(self, route: Route) -> Opening:
        """Of a route. It raises `Refused` when its filter speaks before its first token, if that helps."""
        return _listened_to(route, self._call) if self._may_leave_filtered() else route(self._call)

    def _may_leave_filtered(self) -> bool:
        """Whether another route is there for an answer that the endpoint's own filter cuts off."""
        left = self._left
        return (
            bool(left)  # mostly nothing is, and then there is no more to ask
            and (self._call.request.sampling.n or 1) == 1
            and any("content_policy" in route.on for route in left)
        )

    async def restarting(self, stream: Stream, opened: Kept) -> AsyncGenerator[Event]:
        """The events of `stream`, and of the next route after a `Reset` when it breaks or is cut off."""
        while True:
            failure: GuardrailsError | None = None
            end: list[Event] = []
            try:
                async for event in stream:
                    if filtered(event) and self._may_leave_filtered():
                        end = [event, *[later async for later in stream]]
                        failure = Refused("its filter ended the answer", kind="content_policy")
                        break
                    yield event
            except Interrupted as error:
                failure = error.again()
            if failure is None:
                return
            await opened.leave(failure)  # the layers of the route that broke are told why
            try:
                stream = await self.go_on(opened, failure)
            except GuardrailsError as error:
                if error is not failure:
                    self._note(f"no_restart:{error.kind}")
                if not end:
                    raise failure from None
                for event in end:
                    yield event
                return
            yield Reset(failure.kind)

    def _note(self, detail: str) -> None:
        self._call.journal.note(self._call.clock.now(), "flow", detail)


def _short(error: GuardrailsError) -> str:
    return error.short if isinstance(error, EndpointError) else error.kind


_REQUESTS_OWN = frozenset({"context_length", "content_policy", "does_not_fit", "bad_request", "too_large"})


def _is_outage(error: GuardrailsError) -> bool:
    """Whether other calls will fare the same on that route: not for this request or tenant only."""
    if isinstance(error, Rejected) and error.only_theirs:
        return False
    return isinstance(error, EndpointError | Shed | BudgetExceeded) and error.kind not in _REQUESTS_OWN


def _explain(failure: GuardrailsError, said: Sequence[str], unasked: Sequence[str]) -> None:
    """Say in the last failure what the routes before it said, and which ones were passed over and why.

    Not in a filter's decision: that is for whoever asked, and nobody expects another route to see it.
    """
    if len(said) > 1:
        failure.add(f"no route answered ({', '.join(said)})")
    if not isinstance(failure, Blocked):
        for each in unasked:
            failure.add(each)


@opening
async def _listened_to(route: Route, call: Call) -> AsyncGenerator[Stream]:
    """A route that opens only when its filter has nothing against the beginning."""
    async with route(call) as stream:
        head = await _beginning(stream)
        async with aclosing(played(head, stream)) as whole:
            yield whole


async def _beginning(stream: Stream) -> list[Event]:
    """The events up to the first with output. Raises `Refused` when the endpoint's filter speaks before."""
    head: list[Event] = []
    async for event in stream:
        if filtered(event):
            raise Refused("its filter refused to answer", kind="content_policy")
        head.append(event)
        if isinstance(event, Finish) or (isinstance(event, Delta) and (event.text or event.tool)):
            break
    return head
