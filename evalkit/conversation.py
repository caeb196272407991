"""A sample of several turns: scripted ones, or those of a simulated user, carried through one handler.

Each call asks with the whole conversation so far, as a chat client does. The user's next text is the next one
of the script, or what a `SimulatedUser` makes up from a goal and a persona. Judges get every turn, the record
adds up the model's calls, and what the simulated user cost is kept apart: it is no part of the model's price.

What is not covered: tools. A model that calls one is told that it is not connected, so that the history stays
one that every vendor accepts. A simulated user reads what the model writes, so a model can talk it into
anything, and another model behind it gives other conversations: name it beside every figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, Self

from guardrails.call import Call, Message, Request, Response, Sampling, Text, ToolResult
from guardrails.errors import ConfigError, GuardrailsError
from guardrails.handler import Handler, collect
from guardrails.record import CallRecord, total
from judges.answer import Answer

MAX_TURNS = 100
"""Texts of a simulated user: each one asks the model again with all that came before."""

NOT_CONNECTED = "This tool is not connected."
NO_ANSWER = "(no answer)"

Ended = Literal["script", "stop", "max_turns", "error"]


class SimulatedUserFailed(GuardrailsError):
    """The simulated user's endpoint failed, so nothing is known of the model."""

    default_kind = "simulated_user"


@dataclass(frozen=True, slots=True)
class SimulatedUser:
    """Somebody who pursues `goal` in the manner of `persona`, played by the model behind `handler`.

    It writes at most `max_turns` texts after the sample's first one, and ends the conversation with `stop`.
    """

    handler: Handler = field(repr=False)
    goal: str = field(repr=False)
    persona: str = field(default="", repr=False)
    max_turns: int = 8
    stop: str = "[DONE]"
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=400))

    def __post_init__(self) -> None:
        if not self.goal.strip():
            raise ConfigError("a simulated user needs a goal", hint="say what the person wants to get done")
        if not 1 <= self.max_turns <= MAX_TURNS:
            raise ConfigError(f"a simulated user's max_turns is from 1 to {MAX_TURNS}")
        if not self.stop.strip():
            raise ConfigError("a simulated user needs a stop word, such as [DONE]")

    @classmethod
    def of(cls, described: Mapping[str, Any], handler: Handler) -> Self:
        """From a sample's `user`: `{goal, persona, max_turns, stop}`. Raises `ConfigError`."""
        kinds: Mapping[str, type] = {"goal": str, "persona": str, "max_turns": int, "stop": str}
        if unknown := sorted(str(key) for key in described if key not in kinds):
            raise ConfigError(
                f"a simulated user has no {unknown[0][:40]!r}", hint=f"it has {', '.join(kinds)}"
            )
        for key, value in described.items():
            if not isinstance(value, kinds[key]) or isinstance(value, bool):
                raise ConfigError(f"a simulated user's {key} must be {_KINDS[kinds[key]]}")
        return cls(handler, **{"goal": "", **described})

    def request(self, turns: Sequence[Message]) -> Request:
        """What the simulated user is asked: the conversation with the roles changed, without instructions.

        What a system message told the model is not shown: a person would not see it either.
        """
        persona = f"\n\nWho this person is: {self.persona.strip()}" if self.persona.strip() else ""
        system = _PROMPT.format(goal=self.goal.strip(), persona=persona, stop=self.stop)
        seen = [
            Message.of(_OTHER[turn.role], turn.text) for turn in turns if turn.role in _OTHER and turn.text
        ]
        begin = Message.of("user", "(The assistant is waiting for your first message.)")
        return Request((Message.of("system", system), begin, *seen), sampling=self.sampling)


_OTHER = {"user": "assistant", "assistant": "user"}
_KINDS = {str: "text", int: "a whole number"}
_PROMPT = """\
You play a person who writes to an assistant. Stay this person; you are never the assistant.

What this person wants: {goal}{persona}

Write only the person's next message: no quotation marks, no name before it, no description. Say one thing \
at a time, as people do, and tell what you know only when it is asked for or needed. Do not make up facts \
about what you want.

As soon as the goal is reached, or it is clear that it will not be, write only {stop}"""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What became of a conversation.

    `response` is the model's last answer; None when a call failed, and then `error` is why. `turns` are all
    messages, those of the first request and the last answer included. `records` are the model's calls in
    order, a failed one last; `user_records` those of the simulated user. `ended`: the script was through, the
    user said the stop word (or nothing), it had no turns left, or a call failed.
    """

    response: Response | None
    turns: tuple[Message, ...] = field(repr=False)
    records: tuple[CallRecord, ...] = ()
    user_records: tuple[CallRecord, ...] = ()
    ended: Ended = "script"
    error: Exception | None = None

    @property
    def record(self) -> dict[str, Any] | None:
        """The model's calls as one record (see `merged`); `user_cost_usd` is the simulated user's cost."""
        whole = merged(self.records)
        if whole is not None and self.user_records:
            whole["user_cost_usd"] = _plain(_total(_with_attempts(self.user_records)))
        return whole

    def answer(self) -> Answer:
        """The last answer with the whole conversation, for judges. Raises the error of a failed one."""
        if self.response is None:
            raise self.error or ValueError("the conversation has no answer")
        return Answer.of(self.response, self.record, self.turns)


async def converse(
    handler: Handler, call: Call, turns: Sequence[str] = (), user: SimulatedUser | None = None
) -> Conversation:
    """Carry a conversation through `handler`, from the request of `call` on.

    `turns` are the user's further texts, one after each answer; a `user` goes on where they end. Every call
    has the clock, the deadline, the priority, the tenant and the labels of the first one, so the deadline is
    the whole conversation's; calls of the simulated user are labelled `role: simulated_user`. What fails is
    in the result; a cancellation passes through.
    """
    talk = _Talk(handler, call, list(call.request.messages))
    try:
        response = await talk.answer()
        async with aclosing(_texts(talk, turns, user)) as texts:
            async for text in texts:
                talk.messages.append(Message.of("user", text))
                response = await talk.answer()
    except Exception as error:
        return talk.result(None, "error", error)
    return talk.result(response, talk.ended)


async def _texts(talk: _Talk, turns: Iterable[str], user: SimulatedUser | None) -> AsyncGenerator[str]:
    """What the user says after each answer."""
    for text in turns:
        yield text
    if user is None:
        return
    talk.ended = "max_turns"
    for _ in range(user.max_turns):
        made_up = await talk.made_up(user)
        if not made_up or user.stop in made_up:
            talk.ended = "stop"
            return
        yield made_up


@dataclass(slots=True)
class _Talk:
    """A conversation as it goes on."""

    handler: Handler
    call: Call
    messages: list[Message]
    ended: Ended = "script"
    answers: int = 0
    records: list[CallRecord] = field(default_factory=list)
    user_records: list[CallRecord] = field(default_factory=list)

    async def answer(self) -> Response:
        """The model's answer to the conversation so far, which it is added to."""
        call = self.call
        if self.answers:
            call = self._again(replace(call.request, messages=tuple(self.messages)), call.labels)
        self.answers += 1
        response = await self._collected(self.handler, call, self.records)
        self.messages += said(Answer.of(response))
        return response

    async def made_up(self, user: SimulatedUser) -> str:
        """What the simulated user says next."""
        labels = {**self.call.labels, "role": "simulated_user"}
        call = self._again(user.request(self.messages), labels)
        try:
            response = await self._collected(user.handler, call, self.user_records)
        except GuardrailsError as error:
            raise SimulatedUserFailed(
                f"the simulated user's call failed ({error.kind}): {error.message}", hint=error.hint
            ) from None
        return Answer.of(response).text.strip()

    def result(self, response: Response | None, ended: Ended, error: Exception | None = None) -> Conversation:
        turns, records = tuple(self.messages), tuple(self.records)
        return Conversation(response, turns, records, tuple(self.user_records), ended, error)

    def _again(self, request: Request, labels: Mapping[str, str]) -> Call:
        first = self.call
        return Call(
            request,
            clock=first.clock,
            deadline=first.deadline,
            priority=first.priority,
            tenant=first.tenant,
            conversation=first.conversation or first.id,
            labels=labels,
        )

    @staticmethod
    async def _collected(handler: Handler, call: Call, records: list[CallRecord]) -> Response:
        try:
            return await collect(handler, call)
        finally:
            if call.journal.record is not None:
                records.append(call.journal.record)


def said(answer: Answer) -> list[Message]:
    """An answer as the conversation keeps it: its text and tool calls, and a result for each of these."""
    text = answer.text or answer.refusal or ("" if answer.tool_calls else NO_ANSWER)
    parts = (*((Text(text),) if text else ()), *answer.tool_calls)
    results = [ToolResult(use.id, (Text(NOT_CONNECTED),), is_error=True) for use in answer.tool_calls]
    return [Message("assistant", parts), *(Message("tool", (result,)) for result in results)]


# --- records -----------------------------------------------------------------------------------------------

_ADDED = ("e2e_ms", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_JOINED = ("attempts", "flow")


def merged(records: Sequence[CallRecord]) -> dict[str, Any] | None:
    """One record of several calls, as plain values; None for none.

    Tokens, `e2e_ms`, costs and findings are added up; an unknown cost makes the sum unknown, and what is
    known of it is in `wasted_usd`, as it is of a call's attempts. A direction was scanned if it was in every
    call. All other fields, among them `ttft_ms` and `tpot_ms`, are the last call's; `calls` is how many
    there were.
    """
    if not records:
        return None
    each = [record.as_dict() for record in records]
    whole = {**each[-1], "calls": len(each)}
    whole |= {name: sum(one[name] for one in each) for name in _ADDED}
    whole |= {name: [item for one in each for item in one[name]] for name in _JOINED}
    costs, wasted = [record.cost_usd for record in records], [record.wasted_usd for record in records]
    if None in costs:
        wasted += [cost for cost in costs if cost is not None]
    whole["cost_usd"], whole["wasted_usd"] = _plain(_total(costs)), _plain(total(wasted))
    whole["scanned"] = [word for word in each[-1]["scanned"] if all(word in one["scanned"] for one in each)]
    whole["not_scanned"] = list(dict.fromkeys(word for one in each for word in one["not_scanned"]))
    whole["findings"] = _findings(records)
    whole["cached"] = any(one["cached"] for one in each)
    whole["cold"] = any(one["cold"] for one in each)
    return whole


def _findings(records: Iterable[CallRecord]) -> list[dict[str, Any]]:
    counts = Counter[tuple[str, str, str, bool]]()
    for record in records:
        for one in record.findings:
            counts[one.direction, one.kind, one.action, one.shadow] += one.count
    return [
        {"direction": direction, "kind": kind, "action": action, "count": count, "shadow": shadow}
        for (direction, kind, action, shadow), count in sorted(counts.items())
    ]


def _total(costs: Iterable[Decimal | None]) -> Decimal | None:
    known = []
    for cost in costs:
        if cost is None:
            return None
        known.append(cost)
    return total(known)


def _with_attempts(records: Iterable[CallRecord]) -> Iterator[Decimal | None]:
    """What the calls cost; an attempt that broke off may have been billed, nobody knows what."""
    for record in records:
        yield from (record.cost_usd, record.wasted_usd)
        yield from (None for attempt in record.attempts if attempt.cost_usd is None)


def _plain(cost: Decimal | None) -> str | None:
    return None if cost is None else str(cost)
