"""What goes into a call and what comes out of it, in no vendor's words.

A `Request` holds the surfaces that filters and limits need (text, tools, sampling); whatever else a vendor's
body carries stays in `extra` and passes untouched. An answer is a stream of three kinds of event: `Delta`
(text is ours), `Finish` (how it ended, what it cost) and `Opaque` (not ours, passes through); a fourth,
`Reset`, comes only where restarts were asked for. A `Call` is one request on its way, with the journal that
its record is folded from.

No repr here shows prompt or answer: a log line with a `Call` in it leaks nothing.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Self

from guardrails.clock import SYSTEM, Clock
from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from guardrails.record import CallRecord

Json = Mapping[str, Any]

Priority = Literal["interactive", "standard", "bulk"]
TokenSource = Literal["usage", "tokenizer", "estimate"]


# --- what is asked -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of plain text. `extra`: vendor fields beside it, such as cache control."""

    text: str = field(repr=False)
    extra: Json = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Image:
    """An image by URL (`https:` or `data:`)."""

    url: str = field(repr=False)
    extra: Json = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What the model thought in an earlier turn. `extra` may hold the vendor's signature of it."""

    text: str = field(repr=False)
    extra: Json = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The model's wish to call a tool. `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str = field(repr=False)
    extra: Json = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered to the `ToolUse` with this id."""

    id: str
    parts: tuple[Text | Image | OpaquePart, ...] = field(repr=False)
    is_error: bool = False
    extra: Json = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        _keep_parts(self, "ToolResult")


@dataclass(frozen=True, slots=True)
class OpaquePart:
    """A part that we have no word for, in its vendor's words: it passes untouched or not at all."""

    raw: Json = field(repr=False)


Part = Text | Image | Reasoning | ToolUse | ToolResult | OpaquePart
_PARTS = frozenset({Text, Image, Reasoning, ToolUse, ToolResult, OpaquePart})


def _keep_parts(owner: Message | ToolResult, name: str) -> None:
    """Take a text, or a list of parts, for a tuple of them, and refuse what is none.

    A text has characters for elements: no filter and no dialect knows one, so the prompt would be empty.
    """
    parts: Any = owner.parts
    if parts.__class__ is not tuple:
        parts = (Text(parts),) if isinstance(parts, str) else tuple(parts) if _is_list(parts) else (parts,)
        object.__setattr__(owner, "parts", parts)
    for part in parts:
        if part.__class__ not in _PARTS and not isinstance(part, Part):
            raise ConfigError(
                f"a {name} holds parts such as Text, not {_a(part)}",
                hint='write Message("user", "Hello"), or a list of parts such as [Text("Hello")]',
            )


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, Mapping | bytes)


def _a(value: Any) -> str:
    """What a value is, without what it says: it may be the prompt."""
    return f"a {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `role` is `system`, `developer`, `user`, `assistant` or `tool`; a text is taken as one part.

    `form` is a dialect's note on how the turn was spelled (a bare string or a list of parts, say), so that it
    can be spelled the same way again. Another dialect ignores it.
    """

    role: str
    parts: tuple[Part, ...] = field(repr=False)
    extra: Json = field(default_factory=dict, repr=False, hash=False)
    form: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        _keep_parts(self, "Message")

    @classmethod
    def of(cls, role: str, text: str) -> Self:
        """A turn of plain text."""
        return cls(role, (Text(text),))

    @property
    def text(self) -> str:
        """The text parts, joined by nothing."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may call. `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: Json | None = None
    extra: Json = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw the answer. None leaves the choice to the endpoint."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a model.

    `extra` holds the fields of a vendor's body that have no word here; `dialect` says which vendor's they are
    (empty when the request was made in Python). Sent in that dialect they pass untouched; any other dialect
    refuses a request whose `extra` it cannot say. `form` is that dialect's own note on spelling, like
    `Message.form`. `tool_choice` is `auto`, `none`, `required` or `tool:NAME`.
    """

    messages: tuple[Message, ...] = field(repr=False)
    model: str = ""
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    sampling: Sampling = Sampling()
    stream: bool = True
    extra: Json = field(default_factory=dict, repr=False, hash=False)
    dialect: str = ""
    form: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        messages: Any = self.messages
        if messages.__class__ is not tuple:
            messages = (
                tuple(messages) if _is_list(messages) and not isinstance(messages, str) else (messages,)
            )
            object.__setattr__(self, "messages", messages)
        for message in messages:
            if message.__class__ is not Message and not isinstance(message, Message):
                raise ConfigError(f"a Request holds messages, not {_a(message)}", hint=_ASK)

    @classmethod
    def of(
        cls,
        prompt: str | Request | Sequence[Message] | Sequence[Json],
        *,
        system: str | None = None,
        **sampling: Any,
    ) -> Request:
        """A request from a user's text; `sampling` are fields of `Sampling`. A `Request` passes as it is.

        A list of messages may be ours, or OpenAI's (`{"role": "user", "content": "Hello"}`). Raises
        `ConfigError` for one with words that no filter would look at.
        """
        if isinstance(prompt, Request):
            return prompt
        head = (Message.of("system", system),) if system is not None else ()
        if isinstance(prompt, str):
            return cls((*head, Message.of("user", prompt)), sampling=Sampling(**sampling))
        turns, spoken = _turns(prompt)
        return cls((*head, *turns), sampling=Sampling(**sampling), dialect=spoken)


_ASK = (
    'write Request.of("Hello"), Request((Message("user", "Hello"),)), or Request.of([{"role": "user", '
    '"content": "Hello"}])'
)


def _turns(prompt: Any) -> tuple[tuple[Message, ...], str]:
    """Messages that somebody gave as a list, and the dialect that they are in."""
    turns = list(prompt) if _is_list(prompt) else []
    if turns and all(isinstance(turn, Message) for turn in turns):
        return tuple(turns), ""
    spoken = all(isinstance(turn, Mapping) and isinstance(turn.get("role"), str) for turn in turns)
    if not turns or not spoken:
        raise ConfigError(f"a prompt is a text or a list of messages, not {_a(prompt)}", hint=_ASK)
    from guardrails.dialects import dialect
    from guardrails.turns import check_turns

    openai = dialect("openai_chat")
    read = openai.decode_request({"messages": [dict(turn) for turn in turns]}).messages
    check_turns(read)
    return read, openai.name


# --- what comes back ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint counted them.

    `cached_tokens` and `cache_write_tokens` are parts of `input_tokens`; `reasoning_tokens` is a part of
    `output_tokens`. `cost` is in USD, when the endpoint reports it.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The vendor's chunk that events were read from, so that it can be written again as it was.

    `parts` is how many events the chunk became. Compared by identity: it marks a place in a stream.
    """

    raw: Json = field(repr=False)
    dialect: str
    parts: int = 1


@dataclass(frozen=True, slots=True)
class ToolHead:
    """The start of a tool call in a stream: its arguments follow on the same channel."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of text. `choice` numbers the answers when n > 1.

    `channel` is `text`, `reasoning`, `refusal` or `tool:0`, `tool:1`, … (the JSON text of a tool call's
    arguments; the first event of a call carries its `tool` head). `logprobs` is in the vendor's words.
    """

    text: str = field(repr=False)
    channel: str = "text"
    choice: int = 0
    logprobs: Any = field(default=None, repr=False)
    tool: ToolHead | None = None
    origin: Origin | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Opaque:
    """A vendor's event that is not ours to read. `structural`: another dialect may leave it out."""

    raw: Any = field(repr=False)
    dialect: str = ""
    structural: bool = True
    origin: Origin | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Finish:
    """An answer's end, its usage, or both (vendors send them together or apart).

    `reason` is `stop`, `length`, `tool_calls`, `content_filter` or a vendor's own word; None when this event
    only reports `usage`, which covers all choices.
    """

    reason: str | None
    usage: Usage | None = None
    choice: int = 0
    origin: Origin | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reset:
    """What came before is void, on every channel of every choice: the answer starts again after this.

    Only a route that was told to restart says so (`FirstOf(restart=True)`), when an endpoint broke in
    mid-answer. `cause` is that error's kind. No vendor's stream has a word for it; a whole answer needs none.
    """

    cause: str = ""
    origin: Origin | None = field(default=None, compare=False, repr=False)


Event = Delta | Opaque | Finish | Reset


def standing(events: Iterable[Event]) -> list[Event]:
    """The events that count: those after the last `Reset`."""
    kept: list[Event] = []
    for event in events:
        if isinstance(event, Reset):
            kept.clear()
        else:
            kept.append(event)
    return kept


@dataclass(frozen=True, slots=True)
class Choice:
    """One collected answer."""

    text: str = field(default="", repr=False)
    reasoning: str = field(default="", repr=False)
    refusal: str = field(default="", repr=False)
    tool_calls: tuple[ToolUse, ...] = ()
    finish_reason: str | None = None
    logprobs: tuple[Any, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """A collected stream. `text` is that of the first choice."""

    choices: tuple[Choice, ...]
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The visible text of the first choice."""
        return self.choices[0].text if self.choices else ""


def fold_response(events: Iterable[Event]) -> Response:
    """Collect events into a `Response`; choices in order of their number, tool calls in order of theirs.

    What a `Reset` made void is left out.
    """
    texts: dict[int, dict[str, list[str]]] = {}
    heads: dict[tuple[int, str], ToolHead] = {}
    reasons: dict[int, str] = {}
    logprobs: dict[int, list[Any]] = {}
    usage: Usage | None = None
    for event in standing(events):
        if isinstance(event, Delta):
            texts.setdefault(event.choice, {}).setdefault(event.channel, []).append(event.text)
            if event.tool is not None:
                heads[event.choice, event.channel] = event.tool
            if event.logprobs is not None:
                logprobs.setdefault(event.choice, []).append(event.logprobs)
        elif isinstance(event, Finish):
            usage = event.usage or usage
            if event.reason is not None:
                reasons[event.choice] = event.reason
    choices = []
    for number in sorted(texts.keys() | reasons.keys()):
        channels = {name: "".join(pieces) for name, pieces in texts.get(number, {}).items()}
        tools = sorted((name for name in channels if name.startswith("tool:")), key=lambda c: int(c[5:]))
        empty = ToolHead("", "")
        named = ((heads.get((number, name), empty), channels[name]) for name in tools)
        calls = (ToolUse(head.id, head.name, arguments) for head, arguments in named)
        choices.append(
            Choice(
                text=channels.get("text", ""),
                reasoning=channels.get("reasoning", ""),
                refusal=channels.get("refusal", ""),
                tool_calls=tuple(calls),
                finish_reason=reasons.get(number),
                logprobs=tuple(logprobs.get(number, ())),
            )
        )
    return Response(tuple(choices), usage)


# --- one request on its way --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    """A moment that is not an event: `what` is one of the words that `guardrails.record` knows.

    `detail` is a number, a short word or a finding's kind – never text that somebody wrote.
    """

    what: str
    detail: Any = None


Log = list[tuple[float, Note | Event]]


class Attempt:
    """The log of one try at one endpoint, in the order of the clock."""

    __slots__ = ("endpoint", "log", "model")

    def __init__(self, endpoint: str, model: str) -> None:
        self.endpoint = endpoint
        self.model = model
        self.log: Log = []

    def note(self, now: float, what: str, detail: Any = None) -> None:
        """Write down a moment."""
        self.log.append((now, Note(what, detail)))


class Journal:
    """All that happened to a call: its own log, and one log per attempt. Append-only.

    `record` is what they fold into, once the call is over. `memo` is what layers found out about the call
    and would otherwise work out again, by a key of their own; it goes with the call. A key that holds the
    `id()` of something keeps that thing in its value, since a freed one's may come back as another's.
    """

    __slots__ = ("attempts", "log", "memo", "record")

    def __init__(self) -> None:
        self.memo: dict[Any, Any] = {}
        self.log: Log = []
        self.attempts: list[Attempt] = []
        self.record: CallRecord | None = None

    def note(self, now: float, what: str, detail: Any = None) -> None:
        """Write down a moment."""
        self.log.append((now, Note(what, detail)))

    def attempt(self, endpoint: str, model: str) -> Attempt:
        """Open the log of a new attempt."""
        attempt = Attempt(endpoint, model)
        self.attempts.append(attempt)
        return attempt


# Names, not secrets: asking the system for each would take ten times as long. A forked process has others.
_IDS = random.Random()  # noqa: S311 - see above
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_IDS.seed)


def _new_id() -> str:
    return f"{_IDS.getrandbits(128):032x}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through the stack.

    `arrived` is the intended arrival on `clock`: an open-loop load test sets it to the scheduled time, so
    that waiting in our own process counts. `deadline` is on the same clock. Layers that change the request
    pass on `call.with_request(...)`, which shares the journal.
    """

    request: Request
    clock: Clock = SYSTEM
    arrived: float = -1.0
    deadline: float | None = None
    priority: Priority = "interactive"
    tenant: str = ""
    conversation: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    id: str = field(default_factory=_new_id)
    journal: Journal = field(default_factory=Journal, repr=False)

    def __post_init__(self) -> None:
        if self.arrived < 0:
            object.__setattr__(self, "arrived", self.clock.now())

    def with_request(self, request: Request) -> Call:
        """The same call, asking something else."""
        return self._with(request, self.deadline)

    def with_deadline(self, deadline: float) -> Call:
        """The same call, with this much time."""
        return self._with(self.request, deadline)

    def _with(self, request: Request, deadline: float | None) -> Call:
        # What `dataclasses.replace` does, which every call would wait six times as long for.
        call = _Draft(
            request,
            self.clock,
            self.arrived,
            deadline,
            self.priority,
            self.tenant,
            self.conversation,
            self.labels,
            self.id,
            self.journal,
        )
        call.__class__ = Call
        return call


if TYPE_CHECKING:
    _Draft = Call
else:
    # Setting the fields of a frozen dataclass takes long: see `guardrails.record`, which does the same.
    _Draft = make_dataclass("_Draft", [spec.name for spec in fields(Call)], slots=True)
