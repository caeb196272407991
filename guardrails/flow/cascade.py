"""Most questions are easy: can a small model answer those, and a large one the rest?"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from guardrails.call import Call, Event, Response, fold_response
from guardrails.errors import EndpointError, GuardrailsError, Shed
from guardrails.flow.route import Route
from guardrails.handler import Stream, close_all, opening, warm_all

log = logging.getLogger("guardrails")

GoodEnough = Callable[[Call, Response], bool | Awaitable[bool]]


def finished_well(_: Call, response: Response) -> bool:
    """Whether every choice came to an end of its own, with something in it, and no refusal."""
    return bool(response.choices) and all(
        choice.finish_reason in ("stop", "tool_calls")
        and (choice.text or choice.tool_calls)
        and not choice.refusal
        for choice in response.choices
    )


@dataclass(frozen=True, slots=True)
class Cascade:
    """Most questions are easy: can a small model answer those, and a large one the rest?

    `small` is asked first; `good_enough` – a judge, a rule about confidence, any function, async or not –
    looks at its whole answer. If it says yes, that is the answer. If it says no or breaks, or if `small`
    fails or does not take the request, `large` is asked, and streams.

    What it costs: nothing of the small answer leaves before all of it is there and judged, so its first token
    comes late, and the questions that go on to `large` wait for both. Entering takes that long, too: give
    the layers outside a first-token patience to match.
    """

    small: Route
    large: Route
    good_enough: GoodEnough = field(default=finished_well, repr=False)
    name: str = "cascade"

    @opening
    async def __call__(self, call: Call) -> AsyncGenerator[Stream]:
        """Open the answer of one of the two."""
        events = await self._small(call)
        if events is not None:
            async with aclosing(_played(events)) as played:
                yield played
            return
        async with self.large(call) as stream:
            yield stream

    async def _small(self, call: Call) -> list[Event] | None:
        """The small model's answer, if it is good enough."""
        try:
            async with self.small(call) as stream:
                events = [event async for event in stream]
        except (EndpointError, Shed) as error:
            self._note(call, error.kind)
            return None
        if await self._is_good(call, fold_response(events)):
            self._note(call, "", self.small)
            return events
        self._note(call, "not_good_enough")
        return None

    async def _is_good(self, call: Call, response: Response) -> bool:
        try:
            verdict = self.good_enough(call, response)
            return verdict if isinstance(verdict, bool) else await verdict
        except GuardrailsError:
            return False
        except Exception as error:
            # Without the error's own text, which may quote the answer.
            log.warning("the judge of %s broke: %s (asking the large one)", self.name, type(error).__name__)
            return False

    def _note(self, call: Call, why: str, route: Route | None = None) -> None:
        detail = f"cascade:{(route or self.large).name}" + (f":{why}" if why else "")
        call.journal.note(call.clock.now(), "flow", detail)

    def warm(self) -> None:
        """Load now what the first call of either would wait for."""
        warm_all(self.small, self.large)

    async def aclose(self) -> None:
        """Close both."""
        await close_all(self.small, self.large)


async def _played(events: list[Event]) -> AsyncGenerator[Event]:
    for event in events:
        yield event
