"""The model behind a judge: any handler, with a bound on open calls and a memory of verdicts.

    models = {"strict": Model(endpoint("http://localhost:8000/v1", model="m"), name="strict")}

A `Model` is shared by all judges that name it, so its bound holds for all of them together. Retries, rate
limits and fallbacks are the handler's own: `judges: {strict: {url: …, retries: …}}` is a policy like any
other.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random, SystemRandom
from typing import Any, Literal
from weakref import WeakKeyDictionary, WeakValueDictionary

from guardrails.call import Call, Delta, Message, Request, Response, Sampling, Tool, Usage, fold_response
from guardrails.clock import SYSTEM, Clock
from guardrails.errors import ConfigError, Refused
from guardrails.flow.spent import used
from guardrails.handler import Handler, Opening, close_all
from guardrails.record import EXACT, NO_MONEY
from judges.llm.replies import MAX_REPLY

MAX_THOUGHTS = 400_000
"""Characters of reasoning that are read before the visible reply; more is a reply that is too long."""

Form = Literal["schema", "tool", "prompt"]
VERDICT = "verdict"

# What an endpoint says to a field that it does not know, as against a request that it will not have.
_UNKNOWN_FIELD = frozenset({"untranslatable", "bad_request"})


class Verdicts:
    """Verdicts that were given before, by a digest of model, prompt, question and answer.

    The last `size` are kept in memory. `load` and `save` reach a store of your own with JSON text; they are
    called in the event loop, so they should be quick. Only verdicts that could be read are kept.
    """

    def __init__(
        self,
        size: int = 1_000,
        load: Callable[[str], str | None] | None = None,
        save: Callable[[str, str], None] | None = None,
    ) -> None:
        self.size = size
        self.hits = 0
        self._load = load
        self._save = save
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def get(
        self, key: str, fits: Callable[[dict[str, Any]], bool] = lambda verdict: True
    ) -> dict[str, Any] | None:
        """The verdict kept under a key. What is no JSON object there, or does not fit, counts as nothing."""
        found = self._kept.get(key)
        if found is None and self._load is not None and (text := self._load(key)) is not None:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                value = None
            found = value if isinstance(value, dict) else None
        if found is None or not fits(found):
            return None
        self.hits += 1
        self._keep(key, found)
        return found

    def put(self, key: str, verdict: Mapping[str, Any]) -> None:
        """Keep a verdict."""
        self._keep(key, dict(verdict))
        if self._save is not None:
            self._save(key, json.dumps(verdict))

    def _keep(self, key: str, verdict: dict[str, Any]) -> None:
        self._kept[key] = verdict
        self._kept.move_to_end(key)
        while len(self._kept) > self.size:
            self._kept.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Spent:
    """What some calls cost. `cost` and `tokens` are None as soon as those of one of them are unknown."""

    cost: Decimal | None = Decimal(0)
    tokens: int | None = 0
    calls: int = 0

    def __add__(self, other: Spent) -> Spent:
        cost = None if self.cost is None or other.cost is None else EXACT.add(self.cost, other.cost)
        tokens = None if self.tokens is None or other.tokens is None else self.tokens + other.tokens
        return Spent(cost, tokens, self.calls + other.calls)

    def as_fields(self) -> dict[str, Any]:
        """The fields of a `Score`."""
        cost = None if self.cost is None else float(self.cost)
        return {"cost_usd": cost, "tokens": self.tokens, "calls": self.calls}


NOTHING = Spent()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model wrote: its text, or the arguments of its call of the verdict's tool."""

    text: str = field(repr=False)
    response: Response = field(repr=False)
    too_long: bool = False

    @property
    def cut_off(self) -> bool:
        """Whether it ended for want of tokens."""
        return any(choice.finish_reason == "length" for choice in self.response.choices)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a judge asks of a model besides its messages. `reasoning`: an effort's word, or tokens."""

    schema: Mapping[str, Any] = field(repr=False, hash=False)
    sampling: Sampling = field(default_factory=Sampling)
    structured: Form | Literal["auto"] = "auto"
    reasoning: str | int | None = None
    logprobs: bool = False
    timeout: float = 120.0
    judge: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """A handler that judges ask. `name` is its name in the suite, `model` what it is (for `family`).

    `digest` stands for whatever else of its configuration a row's key should hold, such as its URL.
    `rng` draws the words of the fences: nobody who writes an answer may guess what it draws.
    """

    handler: Handler = field(repr=False)
    name: str = "judge"
    model: str = ""
    digest: str = ""
    concurrency: int = 16
    verdicts: Verdicts = field(default_factory=Verdicts, repr=False, compare=False)
    clock: Clock = field(default=SYSTEM, repr=False, compare=False)
    rng: Random = field(default_factory=SystemRandom, repr=False, compare=False)
    _gates: WeakKeyDictionary[Any, asyncio.Semaphore] = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )
    _asking: WeakValueDictionary[str, asyncio.Lock] = field(
        init=False, repr=False, compare=False, default_factory=WeakValueDictionary
    )
    _learnt: dict[bool, int] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ConfigError("a judge model's concurrency is at least 1")
        if not self.model:
            object.__setattr__(self, "model", str(getattr(self.handler, "model", "") or ""))

    @property
    def identity(self) -> str:
        """What a row's key says of it."""
        return f"{self.name}={self.model}" + (f"@{self.digest}" if self.digest else "")

    async def ask(self, messages: tuple[Message, ...], wish: Wish, bill: list[Spent]) -> Reply:
        """One reply, in the most binding form that the endpoint takes: schema, tool, or words alone.

        Which one that is, is found out once. Raises what the handler raises. What each call cost is put on
        the `bill`, that of calls that failed too.
        """
        forms = _forms(wish)
        known = self._learnt.get(wish.logprobs, 0) if wish.structured == "auto" else 0
        for number, (form, logprobs) in enumerate(forms[known:], start=known):
            try:
                async with self._gate():  # the wait for a place is not part of the call's time
                    reply = await self._billed(_request(messages, wish, form, logprobs), wish, bill)
            except Refused as error:
                if error.kind not in _UNKNOWN_FIELD or number == len(forms) - 1:
                    raise
            else:
                if wish.structured == "auto" and len(forms) > 1:
                    self._learnt[wish.logprobs] = max(number, self._learnt.get(wish.logprobs, 0))
                return reply
        raise AssertionError("the last form is asked or raises")

    async def _billed(self, request: Request, wish: Wish, bill: list[Spent]) -> Reply:
        call = self._call(request, wish)
        try:
            reply = await _read(self.handler, call)
        except Exception as error:
            bill.append(_lost(call, error))
            raise
        bill.append(_spent(call, reply.response.usage))
        return reply

    def alone(self, key: str) -> asyncio.Lock:
        """What to hold while a verdict is asked for: whoever else wants it waits, and finds it remembered."""
        lock = self._asking.get(key)
        if lock is None:
            lock = self._asking[key] = asyncio.Lock()
        return lock

    def _gate(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if loop not in self._gates:
            self._gates[loop] = asyncio.Semaphore(self.concurrency)
        return self._gates[loop]

    def _call(self, request: Request, wish: Wish) -> Call:
        return Call(
            request,
            clock=self.clock,
            deadline=self.clock.now() + wish.timeout,
            priority="bulk",
            labels={"role": "judge", "judge": wish.judge},
        )

    async def aclose(self) -> None:
        """Free the handler's connections."""
        await close_all(self.handler)


def nobody(call: Call) -> Opening:
    """A handler for judges that are only looked at: a suite is checked before its endpoints are made."""
    raise ConfigError("this judge was made to be looked at, and asks nobody")


def models(handlers: Mapping[str, Handler | Model], **options: Any) -> dict[str, Model]:
    """Handlers by their names as `Model`s; `options` are fields of `Model`. A `Model` stays what it is."""
    return {
        name: each if isinstance(each, Model) else Model(each, name=name, **options)
        for name, each in handlers.items()
    }


def _forms(wish: Wish) -> list[tuple[Form, bool]]:
    """What to try, one after the other: the form, and whether log-probabilities are asked for."""
    if isinstance(wish.reasoning, int):
        return [("prompt", False)]  # a vendor that thinks in tokens does so with no tool forced on it
    free: tuple[Form, ...] = ("schema", "tool", "prompt")
    forms = [(form, False) for form in (free if wish.structured == "auto" else (wish.structured,))]
    if not wish.logprobs:
        return forms
    # A tool's arguments come without log-probabilities.
    return [(form, True) for form, _ in forms if form != "tool"] + forms


def _request(messages: tuple[Message, ...], wish: Wish, form: Form, logprobs: bool) -> Request:
    extra: dict[str, Any] = {}
    tools: tuple[Tool, ...] = ()
    dialect = "openai_chat"
    if form == "schema":
        shape = {"name": VERDICT, "strict": True, "schema": dict(wish.schema)}
        extra["response_format"] = {"type": "json_schema", "json_schema": shape}
    elif form == "tool":
        tools = (Tool(VERDICT, "Give the verdict.", wish.schema),)
    if logprobs:
        extra |= {"logprobs": True, "top_logprobs": 20}
    sampling = wish.sampling
    if isinstance(wish.reasoning, str):
        extra["reasoning_effort"] = wish.reasoning
    elif wish.reasoning is not None:
        extra["thinking"] = {"type": "enabled", "budget_tokens": wish.reasoning}
        dialect = "anthropic"  # where thinking leaves no choice of temperature, and counts as output
        sampling = Sampling(max_tokens=(sampling.max_tokens or 0) + wish.reasoning)
    return Request(
        messages,
        tools=tools,
        tool_choice=f"tool:{VERDICT}" if tools else None,
        sampling=sampling,
        extra=extra,
        dialect=dialect if extra else "",
    )


async def _read(handler: Handler, call: Call) -> Reply:
    """Read until the end, or until there is more than any verdict has; then the stream is closed."""
    events: list[Any] = []
    spoken = thought = 0
    too_long = False
    async with handler(call) as stream:
        async for event in stream:
            events.append(event)
            if isinstance(event, Delta):
                thought += len(event.text) * (event.channel == "reasoning")
                spoken += len(event.text) * (event.channel != "reasoning")
            if spoken > MAX_REPLY or thought > MAX_THOUGHTS:
                too_long = True
                break
    response = fold_response(events)
    chosen = response.choices[0] if response.choices else None
    text = "" if chosen is None else chosen.text
    if chosen is not None:
        text = (
            next((use.arguments for use in chosen.tool_calls if use.name == VERDICT), text) or chosen.refusal
        )
    return Reply(text[: MAX_REPLY + 1], response, too_long)


def _spent(call: Call, usage: Usage | None) -> Spent:
    record = call.journal.record
    if record is not None:
        # An attempt that broke off before it said anything may have been billed.
        unknown = None in (record.cost_usd, *(attempt.cost_usd for attempt in record.attempts))
        cost = None if unknown else EXACT.add(record.cost_usd or NO_MONEY, record.wasted_usd)
        return Spent(cost, record.input_tokens + record.output_tokens, 1)
    if usage is None:
        return Spent(None, None, 1)
    return Spent(usage.cost, usage.input_tokens + usage.output_tokens, 1)


def _lost(call: Call, error: Exception) -> Spent:
    """What a call cost that failed: unknown, unless a record or the journal tells."""
    record, attempts = call.journal.record, call.journal.attempts
    if record is not None:
        told = _spent(call, None)
        return told if told.cost is not None or told.tokens else Spent(None, None, 1)
    refused = isinstance(error, Refused) and error.kind in _UNKNOWN_FIELD
    if refused or (attempts and all(used(each, 0) is None for each in attempts)):
        return Spent(calls=1)  # no model was reached
    return Spent(None, None, 1)
