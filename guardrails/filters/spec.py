"""The `filters:` part of a file, read into a `Rulebook`; every mistake at once, with its line.

    filters: default                 # or `strict`; or, direction by direction:

    filters:
      input:
        - pii                                    # a detector by name: its findings are redacted
        - pii: {entities: [US_SSN], action: block}
        - jailbreak: {action: block, shadow: true, roles: [user, tool]}
      output:
        - toxicity: {action: {reask: 2}, hold: all, budget_ms: 50, on_exceeded: pass_and_flag}
        - denied: {strings: [Project Falcon], action: {replace: "[name withheld]"}}
      tool_results: default
      tool_arguments: []             # nothing looks at them, and every record says so

**default**: what is asked: personal data and secrets are redacted, jailbreaks in what users and tools say are
flagged. What is answered: personal data and secrets are redacted, toxicity is flagged. Personal data and
secrets are also found in disguise (`normalize`). **strict**: the same, but jailbreaks and toxicity block, and
so do secrets in what is asked.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from guardrails.errors import ConfigError
from guardrails.filters.policy import DIRECTIONS, Direction, Rule, Rulebook, misplaced
from guardrails.meant import closest
from guardrails.named import Named, Site, Strict, load, names_in
from guardrails.source import Loc, no_truth, valid_part

GROUP = "guardrails.filters"

_HERE = "guardrails.filters"
BUILTIN: Mapping[str, Any] = {
    "pii": f"{_HERE}.spec:PiiFilter",
    "secrets": f"{_HERE}.secrets:Secrets",
    "jailbreak": f"{_HERE}.jailbreak:Jailbreak",
    "toxicity": f"{_HERE}.toxicity:Toxicity",
    "invisible": f"{_HERE}.simple:Invisible",
    "denied": f"{_HERE}.simple:Denied",
    "max_length": f"{_HERE}.simple:MaxLength",
    "json_schema": f"{_HERE}.simple:JsonSchema",
    "allowed": f"{_HERE}.allowed:Allowed",
    "url_allow": f"{_HERE}.allowed:UrlAllow",
    "guard": f"{_HERE}.spec:GuardFilter",
    "moderation": f"{_HERE}.spec:ModerationFilter",
    "classifier": f"{_HERE}.spec:ClassifierFilter",
    "function": f"{_HERE}.spec:FunctionFilter",
}
"""Detectors that a file can name, by where they live: they are imported when they are named."""

_WINDOWED = frozenset({"jailbreak", "toxicity"})  # judges that look at windows of about 400 characters
_ROLES = ("user", "tool")

_HIDE = [{"pii": {"normalize": True}}, {"secrets": {"normalize": True}}]
PRESETS: Mapping[str, Mapping[str, list[Any]]] = {
    "default": {
        "input": [*_HIDE, {"jailbreak": {"action": "flag"}}],
        "output": [*_HIDE, {"toxicity": {"action": "flag"}}],
    },
    "strict": {
        "input": [
            _HIDE[0],
            {"secrets": {"normalize": True, "action": "block"}},
            {"jailbreak": {"action": "block"}},
        ],
        "output": [*_HIDE, {"toxicity": {"action": "block", "hold": "sentence"}}],
    },
}


class PiiPattern(Strict):
    """A pattern of a kind of one's own, and how much a match of it counts."""

    regex: str
    score: float = Field(gt=0, le=1)

    @field_validator("regex")
    @classmethod
    def _linear(cls, value: str) -> str:
        from guardrails.patterns import linear_pattern

        try:
            linear_pattern(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value


class PiiKind(Strict):
    """A kind of one's own: the fields of `pii.Custom`."""

    kind: str = Field(min_length=1)
    patterns: tuple[PiiPattern, ...] = ()
    words: tuple[str, ...] = ()
    words_score: float = Field(default=1.0, gt=0, le=1)
    context: tuple[str, ...] = ()
    reach: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _finds(self) -> Self:
        if not self.patterns and not any(self.words):
            raise ValueError("has neither patterns nor words, so nothing can be found")
        return self

    def custom(self) -> Any:
        """The recognizer."""
        from guardrails.filters.pii import Custom

        patterns = tuple((pattern.regex, pattern.score) for pattern in self.patterns)
        return Custom(patterns=patterns, **self.model_dump(exclude={"patterns"}))


class PiiFilter(Strict):
    """`pii`: the fields of `pii.Pii` that a file can spell; objects of Presidio's come from Python."""

    entities: tuple[str, ...] | None = None
    threshold: float = Field(default=0.4, gt=0, le=1)
    rules: Literal["own", "presidio"] = "own"
    custom: tuple[PiiKind, ...] = ()
    model: str | None = None

    def build(self, name: str) -> Any:
        """The detector."""
        from guardrails.filters.pii import Pii

        options = self.model_dump(exclude={"custom"})
        return Pii(custom=tuple(kind.custom() for kind in self.custom), **options)


class FunctionFilter(Strict):
    """`function`: `target: package.module:callable`, and the fields of `simple.Function`."""

    target: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    kind: str = "FUNCTION"
    threshold: float = 0.5
    scope: Literal["span", "text"] = "text"
    stride: int = Field(default=0, ge=0)
    reach: int = Field(default=0, ge=0)

    def build(self, name: str) -> Any:
        """The detector."""
        from guardrails.filters.simple import Function

        options = self.model_dump(exclude={"target"})
        return Function(load(self.target), name or self.target.partition(":")[2], **options)


class GuardFilter(Strict):
    """`guard`: `endpoint` is an endpoint like that of a whole file (url, model, key_env, …)."""

    endpoint: dict[str, Any]
    prompt: str | None = None
    stride: int = Field(default=800, ge=0)

    def build(self, name: str) -> Any:
        """The detector."""
        from guardrails.config import build
        from guardrails.filters.model import PROMPT, Guard

        return Guard(build(self.endpoint), self.prompt or PROMPT, name=name or "guard", stride=self.stride)


class ModerationFilter(Strict):
    """`moderation`: an endpoint in the words of OpenAI's."""

    url: str = "https://api.openai.com/v1/moderations"
    model: str = "omni-moderation-latest"
    key_env: str | None = "OPENAI_API_KEY"
    threshold: float = Field(default=0.5, ge=0, le=1)
    stride: int = Field(default=800, ge=0)

    def build(self, name: str) -> Any:
        """The detector."""
        from guardrails.filters.model import Moderation

        return Moderation(**self.model_dump())


class ClassifierFilter(Strict):
    """`classifier`: the name of a model for transformers, or `package.module:function`."""

    model: str
    labels: tuple[str, ...] | None = None
    threshold: float = Field(default=0.5, ge=0, le=1)
    longest: int = Field(default=1500, ge=1)

    def build(self, name: str) -> Any:
        """The detector."""
        from guardrails.filters.model import Classifier

        model = load(self.model) if ":" in self.model else self.model
        return Classifier(model, self.labels, threshold=self.threshold, longest=self.longest)


class Filters(Strict):
    """What looks at each direction; a tool's direction that is left out is looked at like its side."""

    input: tuple[Named, ...] = ()
    output: tuple[Named, ...] = ()
    tool_arguments: tuple[Named, ...] | None = None
    tool_results: tuple[Named, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _presets(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in PRESETS:
                known = ", ".join(PRESETS)
                raise ValueError(
                    f"unknown policy {value!r}: use one of {known}, or list the filters"
                    + closest(value, [*PRESETS])
                )
            return PRESETS[value]
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"is {' or '.join(PRESETS)}, or a mapping: {{input: [pii], output: [pii]}}")
        return {key: _direction(str(key), given) for key, given in value.items()}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        long = handler.resolve_ref_schema(handler(core))
        names = sorted(names_in(GROUP, {GROUP: BUILTIN}))
        one = {"enum": names}
        options = {"type": ["object", "null"]}
        short = {"properties": dict.fromkeys(names, options), "minProperties": 1, "maxProperties": 1}
        named = {"properties": {"name": one, "options": {"type": "object"}}, "required": ["name"]}
        forms = [{"type": "object", **form, "additionalProperties": False} for form in (short, named)]
        rules = {"type": "array", "items": {"anyOf": [one, *forms]}}
        for direction, given in long["properties"].items():
            nothing = [{"type": "null"}] if given.get("default", ()) is None else []
            long["properties"][direction] = {"anyOf": [{"enum": [*PRESETS, *names]}, rules, *nothing]}
        return {"anyOf": [{"enum": list(PRESETS)}, long]}


def _direction(name: str, given: Any) -> Any:
    """A direction's filters by the name of a preset, or of a single filter."""
    if not isinstance(given, str):
        return given
    side = {"tool_arguments": "output", "tool_results": "input"}.get(name, name)
    return PRESETS[given].get(side, []) if given in PRESETS else [given]


class RuleOptions(BaseModel):
    """What every filter takes, whatever its detector; `guardrails.filters.policy.Rule` says what it means."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    _numbers = field_validator("*", mode="before")(no_truth)

    action: Literal["block", "reask", "redact", "replace", "pseudonymize", "flag"] = "redact"
    times: int = Field(default=1, ge=1, le=10)
    text: str = ""
    on_error: Any = "block"
    on_exceeded: Any = None
    on_crash: Any = None
    budget_ms: float | None = Field(default=None, gt=0)
    sample: float = Field(default=1.0, ge=0, le=1)
    shadow: bool = False
    hold: Literal["stride", "sentence", "all"] = "stride"
    roles: tuple[Literal["user", "tool", "assistant", "system", "developer"], ...] | None = None
    normalize: bool | Literal["spelled"] = False

    @model_validator(mode="before")
    @classmethod
    def _action(cls, value: Any) -> Any:
        """`{reask: 2}` and `{replace: text}`."""
        match value:
            case {"action": {"reask": times, **rest}} if not rest:
                return {**value, "action": "reask", "times": times}
            case {"action": {"replace": text, **rest}} if not rest:
                return {**value, "action": "replace", "text": text}
        return value

    @field_validator("text", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) else value


def rulebook(site: Site, filters: Filters) -> Rulebook:
    """The rules of a file. What is wrong is written down in the site."""
    made: dict[str, tuple[Rule, ...] | None] = {}
    for direction in DIRECTIONS:
        given = getattr(filters, direction)
        rules = None if given is None else tuple(_rules(site, given, direction))
        made[direction] = rules
    return Rulebook(**made, source=site.source.name)  # type: ignore[arg-type] # the sides are never None


def _rules(site: Site, given: tuple[Named, ...], direction: Direction) -> Iterator[Rule]:
    for index, named in enumerate(given):
        rule = _rule(site, named, ("filters", direction, index, named.name), direction)
        if rule is not None:
            yield rule


def _rule(site: Site, named: Named, loc: Loc, direction: Direction) -> Rule | None:
    """The rule; None after writing down all that is wrong with it."""
    before = len(site.found)
    given, rest = _parted(named.options, RuleOptions.model_fields)
    common = valid_part(RuleOptions, given, site.source, site.found, loc).made
    own, kept = _split(site, named.name, rest)
    detector = site.make(GROUP, named.name, own, loc, named.name, also=(RuleOptions, OwnOptions))
    valid_part(OwnOptions, kept, site.source, site.found, loc)
    if common is None:
        return None
    if why := misplaced(common.action, direction):
        site.found.append(f"{site.source.at((*loc, 'action'))}: {why}")
    exceeded = _otherwise(site, common, "on_exceeded", loc)
    crash = _otherwise(site, common, "on_crash", loc)
    if len(site.found) > before or detector is None:
        return None
    if common.normalize:
        from guardrails.filters.normal import Normalized

        detector = Normalized(detector, spelled=common.normalize == "spelled")
    plain = {"action", "times", "text", "budget_ms", "sample", "shadow", "hold", "roles"}
    kept = OwnOptions.model_validate(kept).model_dump(include=set(kept))
    options = {**common.model_dump(include=plain), **kept, "on_exceeded": exceeded, "on_crash": crash}
    if named.name in _WINDOWED:
        options = {"scope": "text", "context": 400, "stride": 200, **options}
        if named.name == "jailbreak" and common.roles is None:
            options["roles"] = _ROLES  # what the application says to its model is no attack on it
    try:
        return Rule(detector, **options)
    except ConfigError as error:
        site.found.append(f"{site.source.at(loc)}: {error}")
        return None


class OwnOptions(Strict):
    """What a rule takes where its detector has no option of that name."""

    threshold: float = Field(default=0.0, ge=0, le=1)
    kinds: tuple[str, ...] | None = None
    stride: int | None = Field(default=None, ge=1)


def _parted(options: Mapping[str, Any], names: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of these names, and the others."""
    here = {key: value for key, value in options.items() if key in names}
    return here, {key: value for key, value in options.items() if key not in names}


def _split(site: Site, name: str, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the detector, and those that it does not know but every rule does."""
    try:
        factory = site.factory(GROUP, name)
    except ConfigError:
        return options, {}
    known: Any = getattr(factory, "model_fields", None) or inspect.signature(factory).parameters
    kept, own = _parted(options, OwnOptions.model_fields.keys() - set(known))
    return own, kept


def _otherwise(site: Site, common: RuleOptions, which: str, loc: Loc) -> Any:
    given = getattr(common, which)
    key = "on_error" if given is None else which
    given = common.on_error if given is None else given
    if given in ("block", "pass_and_flag"):
        return given
    where = (*loc, key)
    try:
        named = Named.model_validate(given)
        site.factory(GROUP, named.name)
    except (ValidationError, ConfigError):
        known = ", ".join(sorted(site.builtin[GROUP]))
        site.found.append(
            f"{site.source.at(where)}: use block, pass_and_flag or another filter's name ({known})"
        )
        return None
    return site.make(GROUP, named.name, named.options, (*where, named.name), named.name)
