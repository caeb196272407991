"""The two layers that filter: what is asked on its way in, what is answered on its way out.

    rules = [Rule(Pii()), Rule(Secrets()), Rule(Jailbreak(), action="block")]
    stack(endpoint, InputFilters(rules), OutputFilters([Pii()]))

Both fail closed: a detector that breaks or takes too long blocks the call, unless its rule says what else to
do. `guardrails.filters.policy` has the rules, `guardrails.filters.run` says where detectors run.
"""

from __future__ import annotations

import random
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from guardrails.call import Call, Event, Message, Request
from guardrails.errors import Blocked, ConfigError
from guardrails.filters.answer import Answer
from guardrails.filters.detector import AsyncDetector, Detector, Mark, named
from guardrails.filters.memory import Memory
from guardrails.filters.policy import (
    Action,
    Direction,
    Otherwise,
    Pseudonyms,
    Rule,
    Rulebook,
    Rules,
    VaultOf,
    misplaced,
)
from guardrails.filters.question import Question
from guardrails.filters.run import Again, Run
from guardrails.filters.surfaces import unscanned
from guardrails.handler import Handler, Stream

Given = Sequence[Rule | Detector | AsyncDetector]


@dataclass(frozen=True, slots=True)
class _Settings:
    """What both layers are told.

    `rules` are `Rule`s or detectors; what a detector's rule needs is `action` and `on_error`. `mark` names
    what was redacted. `rng` draws which calls a rule with a `sample` looks at. `vaults` gives the vault of a
    call's conversation.
    """

    rules: Given
    action: Action = "redact"
    on_error: Otherwise = "block"
    mark: Mark = named
    rng: random.Random = field(default_factory=random.Random, repr=False, compare=False)
    vaults: VaultOf | None = field(default=None, repr=False)
    _loaded: threading.Event = field(default_factory=threading.Event, init=False, repr=False, compare=False)

    def _rules(self, given: Given, direction: Direction) -> Rules:
        rules = Rules.of(given, action=self.action, on_exceeded=self.on_error, on_crash=self.on_error)
        wrong = [f"{rule.name}: {why}" for rule in rules.rules if (why := misplaced(rule.action, direction))]
        if self.vaults is None and any(rule.action == "pseudonymize" for rule in rules.rules):
            wrong.append("pseudonymize needs a vault: give `vaults`")
        if wrong:
            raise ConfigError("filters: " + "; ".join(wrong))
        return rules

    def _run(self, call: Call, direction: Direction, rules: Rules, vault: Pseudonyms | None) -> Run:
        left = tuple(rule for rule in rules.rules if rule.sample >= 1 or self.rng.random() < rule.sample)
        run = Run(call, direction, rules if len(left) == len(rules.rules) else Rules(left), self._loaded)
        run.vault = vault
        for rule in rules.rules:
            if rule not in left:
                run.unscanned(f"{rule.name}:sampled out", matters=not rule.shadow)
        if not rules.rules:
            run.unscanned("no rules")
        return run

    def _vault(self, call: Call) -> Pseudonyms | None:
        return None if self.vaults is None else self.vaults(call)


@dataclass(frozen=True, slots=True)
class InputFilters(_Settings):
    """Scans what is asked, before anything is sent.

    Every text of the request is looked at (`guardrails.filters.surfaces` lists them), each by itself, and for
    places also with the texts beside it in its message: a value may be spread over two. Images, schemas of
    tools and a vendor's own parts and fields are not looked at; they pass with a `not_scanned` note.

    `tool_results`: rules of their own for what tools answered. `memory` spares looking again at texts that
    did not change, such as the history of a conversation; `Memory(0)` remembers nothing.
    """

    tool_results: Given | None = None
    memory: Memory = field(default_factory=Memory, repr=False, compare=False)
    _asked: Rules = field(init=False, repr=False, compare=False)
    _results: Rules | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.rules and not self.tool_results:
            raise ConfigError("filters: no detectors", hint="give at least one, such as Pii(), or no filter")
        results = self.tool_results
        object.__setattr__(self, "_asked", self._rules(self.rules, "input"))
        object.__setattr__(
            self, "_results", None if results is None else self._rules(results, "tool_results")
        )

    def warm(self) -> None:
        """Load now what the first call would wait for. Safe in any thread."""
        results = None if self._results is None else self._results.rules
        Rulebook(self._asked.rules, tool_results=results).warm()

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open `inner` with the filtered request. Raises `Blocked` before anything is sent."""
        vault = self._vault(call)
        run = self._run(call, "input", self._asked, vault)
        results = run if self._results is None else self._run(call, "tool_results", self._results, vault)
        request = await Question(run, results, self.mark, self.memory).filtered(call.request)
        for kind in unscanned(request):
            run.unscanned(f"{kind}:unsupported", matters=False)
        for each in dict.fromkeys((run, results)):
            each.finish()
        for each in (run, results):
            each.raise_if_blocked()
        async with inner(call if request is call.request else call.with_request(request)) as stream:
            yield stream


@dataclass(frozen=True, slots=True)
class OutputFilters(_Settings):
    """Scans the answer while it streams: nothing leaves before it is certain that no finding reaches into it.

    `guardrails.filters.answer` says what waits for what. A stream that breaks, is left or is blocked releases
    nothing more. `tool_arguments`: rules of their own for the arguments of tool calls.

    With a rule whose action is `reask`, nothing leaves before the whole answer is judged, since what has left
    cannot be taken back: entering takes as long as the answer. The model is then asked again with a short
    message that names the kinds that were found, and nothing else of the answer.
    """

    tool_arguments: Given | None = None
    _answered: Rules = field(init=False, repr=False, compare=False)
    _arguments: Rules | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.rules and not self.tool_arguments:
            raise ConfigError("filters: no detectors", hint="give at least one, such as Pii(), or no filter")
        answered = self._rules(self.rules, "output")
        own = self.tool_arguments
        if own is None:
            own = Rulebook(output=answered.rules).of("tool_arguments")
            own = None if len(own) == len(answered.rules) else own
        object.__setattr__(self, "_answered", answered)
        object.__setattr__(self, "_arguments", None if own is None else self._rules(own, "tool_arguments"))

    def warm(self) -> None:
        """Load now what the first call would wait for. Safe in any thread."""
        arguments = None if self._arguments is None else self._arguments.rules
        Rulebook(output=self._answered.rules, tool_arguments=arguments).warm()

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open `inner` and yield its filtered stream, which may raise `Blocked` at any event."""
        rules = (*self._answered.rules, *(self._arguments.rules if self._arguments else ()))
        if any(rule.action == "reask" and rule.acts for rule in rules):
            yield _replay(await self._asked(call, inner))
            return
        async with inner(call) as stream, aclosing(self._filtered(call, stream)) as filtered:
            yield filtered

    async def _asked(self, call: Call, inner: Handler) -> list[Event]:
        """The events of the first answer that nothing stops. Raises `Blocked` when there is none."""
        tried, asked = 0, call
        while True:
            try:
                async with inner(asked) as stream, aclosing(self._filtered(asked, stream)) as filtered:
                    return [event async for event in filtered]
            except Again as stop:
                if tried >= stop.times:
                    raise stop.blocked from None
                tried += 1
                asked = call.with_request(_correction(call.request, stop.blocked))

    async def _filtered(self, call: Call, stream: Stream) -> AsyncGenerator[Event]:
        vault = self._vault(call)
        run = self._run(call, "output", self._answered.about(call.request), vault)
        arguments = run
        if self._arguments is not None:
            arguments = self._run(call, "tool_arguments", self._arguments.about(call.request), vault)
        answer = Answer(run, arguments, self.mark)
        async for event in stream:
            await answer.take(event)
            for ready in answer.ready():
                yield ready
            run.raise_if_blocked()
            arguments.raise_if_blocked()
        await answer.finish()
        for ready in answer.ready():
            yield ready
        run.raise_if_blocked()
        arguments.raise_if_blocked()
        await answer.watched()
        run.finish()
        if arguments is not run:
            arguments.finish()


async def _replay(events: list[Event]) -> AsyncIterator[Event]:
    for event in events:
        yield event


def _correction(request: Request, stop: Blocked) -> Request:
    kinds = ", ".join(sorted({kind for kind, _ in stop.findings}))
    text = (
        f"Your answer was not delivered, because a check found this in it: {kinds}. Answer again without it."
    )
    return replace(request, messages=(*request.messages, Message.of("user", text)))


def layers(
    book: Rulebook, *, rng: random.Random | None = None, vaults: VaultOf | None = None
) -> list[InputFilters | OutputFilters]:
    """The layers for all directions of a rulebook, in their order."""
    rng = random.Random() if rng is None else rng  # noqa: S311 - which calls are sampled is no secret
    made: list[InputFilters | OutputFilters] = []
    if book.input or book.tool_results:
        made.append(InputFilters(book.input, rng=rng, vaults=vaults, tool_results=book.tool_results))
    if book.output or book.tool_arguments:
        made.append(OutputFilters(book.output, rng=rng, vaults=vaults, tool_arguments=book.tool_arguments))
    return made
