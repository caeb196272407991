"""Judges by name, as a suite file writes them: `exact`, `{numeric: {tolerance: 0.01}}`, or `{rouge: rouge1}`.

A judge is a frozen dataclass: its fields are the options. What it may declare besides: `shorthand`, the
option that stands for all of them where a file writes `name: value`; `targets`, the options that name a
function in a file, and `files`, those that name a Markdown file, whose paths count from the suite's folder;
and `asks`, which says that it asks a model: it gets that in its field `asked`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardrails.errors import ConfigError
from judges.judge import Judge

if TYPE_CHECKING:
    from guardrails.handler import Handler
    from judges.llm.model import Model

JUDGES: Mapping[str, str] = {
    "exact": "judges.text:Exact",
    "contains": "judges.text:Contains",
    "regex": "judges.text:Regex",
    "numeric": "judges.numeric:Numeric",
    "choice": "judges.text:Choice",
    "json_schema": "judges.schema:JsonSchema",
    "fields": "judges.fields:Fields",
    "tool_calls": "judges.tools:ToolCalls",
    "code": "judges.code:Code",
    "f1": "judges.overlap:F1",
    "bleu": "judges.overlap:Bleu",
    "chrf": "judges.overlap:Chrf",
    "rouge": "judges.overlap:Rouge",
    "similar": "judges.similar:Similar",
    "refusal": "judges.refusal:Refusal",
    "findings": "judges.signals:Findings",
    "perplexity": "judges.signals:Perplexity",
    "latency": "judges.signals:Latency",
    "cost": "judges.signals:Cost",
    "rubric": "judges.llm.rated:Rubric",
    "reference": "judges.llm.rated:Reference",
    "g_eval": "judges.llm.rated:GEval",
    "checklist": "judges.llm.checklist:Checklist",
    "pairwise": "judges.llm.pairwise:Pairwise",
    "panel": "judges.llm.panel:Panel",
    "faithfulness": "judges.claims:Faithfulness",
    "relevancy": "judges.claims:Relevancy",
    "context_precision": "judges.claims:ContextPrecision",
    "context_recall": "judges.claims:ContextRecall",
    "groundedness": "judges.grounding.judge:Grounded",
    "citations": "judges.citations:Citations",
    "python": "judges.custom:Python",
    "all": "judges.combine:AllOf",
    "any": "judges.combine:AnyOf",
    "not": "judges.combine:NotOf",
}
"""Where each judge lives: it is imported when it is named."""

COMBINED = frozenset({"all", "any", "not", "panel"})

HARMLESS = frozenset(
    {
        *("exact", "contains", "regex", "numeric", "choice", "json_schema", "fields", "tool_calls"),
        *("f1", "bleu", "chrf", "rouge", "refusal", "findings", "perplexity", "latency", "cost", "code"),
        *("groundedness", "citations"),
        *COMBINED,
    }
)
"""Judges that call nobody and run no code but shut in: a sample may name these, no others."""

BARE = frozenset({"code", "groundedness"})
"""Judges that a sample may name without options only: one of `code`'s is to run without a sandbox, and one of
`groundedness`' names a function."""


def judge(
    spec: str | Mapping[str, Any] | Callable[..., Any],
    *,
    folder: str | Path | None = None,
    trusted: bool = True,
    models: Mapping[str, Handler | Model] | None = None,
) -> Judge:
    """Make a judge from its name, from a mapping of its name to its options, or from a function of yours.

    `folder` is where relative paths to files count from. With `trusted` off, as for what a golden set says of
    itself, only `HARMLESS` judges are made. `models` are those that judges may ask, by the names that their
    option `model` has for them; a list of names there makes a panel of one judge each. Raises `ConfigError`
    for a name or an option that is not known, or a value that an option cannot take.
    """
    name, given = _split(without_functions(spec))
    if name not in JUDGES:
        raise ConfigError(
            f"there is no judge {_short(name)}",
            hint=f"{_meant(name, JUDGES)}the judges are {', '.join(sorted(JUDGES))}",
        )
    if not trusted and (name not in HARMLESS or (name in BARE and given)):
        how = " with options" if name in HARMLESS else ""
        raise ConfigError(
            f"the judge {name!r}{how} runs code or calls somebody, so a sample cannot ask for it",
            hint="name it under the suite's own `scorers`",
        )
    kind = kind_of(name)
    options = _options(name, kind, given)
    asks = getattr(kind, "asks", False)
    if asks and isinstance(options.get("model"), list | tuple):
        return _panel(name, options, folder, trusted, models)
    known = [field.name for field in fields(kind) if field.init and not (asks and field.name == "asked")]
    if unknown := sorted(str(option) for option in options if option not in known):
        raise ConfigError(
            f"the judge {name!r} has no option {_short(unknown[0])}",
            hint=f"{_meant(unknown[0], known)}its options are {', '.join(known)}",
        )
    if name in COMBINED:
        parts = options.get("of", ())
        listed = parts if isinstance(parts, list | tuple) else (parts,)
        options["of"] = tuple(judge(part, folder=folder, trusted=trusted, models=models) for part in listed)
    if asks:
        options["asked"] = _asked(name, options.get("model"), models or {})
    return _made(name, kind, _located(kind, options, folder))


def _asked(name: str, wanted: Any, given: Mapping[str, Handler | Model]) -> Model:
    """The model that a judge asks: the one it names, or the only one."""
    from judges.llm.model import models

    if wanted is not None and not isinstance(wanted, str):
        raise ConfigError(
            f"the judge {name!r}: `model` is the name of one of the suite's `judges`, or a list"
        )
    if not given:
        called = wanted or "NAME"
        raise ConfigError(
            f"the judge {name!r} asks a model, and the suite names none",
            hint=f"give the suite `judges: {{{called[:40]}: {{url: …, model: …}}}}`",
        )
    if not wanted and len(given) > 1:
        raise ConfigError(
            f"the judge {name!r} does not say which model it asks",
            hint=f"write `model: …`, one of {', '.join(sorted(given))}",
        )
    chosen = wanted or next(iter(given))
    if chosen not in given:
        raise ConfigError(
            f"the judge {name!r} asks {_short(chosen)}, which is none of the suite's `judges`",
            hint=f"there are {', '.join(sorted(given))}",
        )
    return models({chosen: given[chosen]})[chosen]


def _panel(
    name: str,
    options: Mapping[Any, Any],
    folder: str | Path | None,
    trusted: bool,
    models: Mapping[str, Handler | Model] | None,
) -> Judge:
    """The same judge by each of several models."""
    names = list(dict.fromkeys(options["model"]))
    options = dict(options)
    aggregate = options.pop("aggregate", "mean")
    parts = [{name: {**options, "model": each, "name": f"{name}:{each}"}} for each in names]
    panel = {"of": parts, "name": options.get("name") or name, "aggregate": aggregate}
    return judge({"panel": panel}, folder=folder, trusted=trusted, models=models)


def kind_of(name: str) -> Any:
    """The class of a judge."""
    module, _, attribute = JUDGES[name].partition(":")
    return getattr(import_module(module), attribute)


def _split(spec: Any) -> tuple[str, Any]:
    if isinstance(spec, str):
        return spec, None
    if isinstance(spec, Mapping) and len(spec) == 1:
        ((name, given),) = spec.items()
        if isinstance(name, str):
            return name, given
    raise _misspelled()


def _options(name: str, kind: Any, given: Any) -> dict[Any, Any]:
    shorthand = getattr(kind, "shorthand", None)
    if given is None:
        return {}
    # `not: {contains: …}` is the judge that it negates, and `not: {of: …}` its options.
    if isinstance(given, Mapping) and not (name in COMBINED and "of" not in given):
        return dict(given)
    if isinstance(given, Mapping) and not any(map(_meant_judge, given)):
        strange = ", ".join(_short(str(each)) for each in given)
        raise ConfigError(
            f"the judge {name!r} takes other judges, and {strange} is none",
            hint=f"write them as a list, `{name}: [exact, …]`, or with options: `{name}: {{of: [exact, …]}}`",
        )
    if shorthand is None:
        raise _misspelled()
    default = next(field.default for field in fields(kind) if field.name == shorthand)
    return {shorthand: [given] if isinstance(default, tuple) and isinstance(given, str) else given}


def _misspelled() -> ConfigError:
    return ConfigError(
        "a judge is written as its name, or as one name with its options",
        hint="for example `exact` or `{numeric: {tolerance: 0.01}}`",
    )


def _meant(name: str, known: Iterable[str]) -> str:
    """`did you mean …? `, where a name is nearly one of those that there are."""
    from guardrails.meant import near

    found = near(name, known)
    return "" if found is None else f"did you mean `{found}`? "


def _meant_judge(name: Any) -> bool:
    return isinstance(name, str) and bool(_meant(name, JUDGES))


def without_functions(spec: Any) -> Any:
    """A judge as a file would write it, where a function itself is given: `python` with the function's name.

    Raises `ConfigError` for a function that cannot be found by its name.
    """
    if callable(spec):
        return {"python": _called(spec)}
    if not isinstance(spec, Mapping):
        return spec
    return {
        name: _called(given) if name == "python" else _parts(given) if name in COMBINED else given
        for name, given in spec.items()
    }


def _called(given: Any) -> Any:
    from judges.custom import named

    if callable(given):
        return named(given)
    if isinstance(given, Mapping) and callable(target := given.get("target")):
        return {**given, **named(target)}
    return given


def _parts(given: Any) -> Any:
    if isinstance(given, list | tuple):
        return [without_functions(each) for each in given]
    if isinstance(given, Mapping) and "of" in given:
        return {**given, "of": _parts(given["of"])}
    return without_functions(given)


def _located(kind: Any, options: dict[Any, Any], folder: str | Path | None) -> dict[Any, Any]:
    targets, files = getattr(kind, "targets", ()), getattr(kind, "files", ())
    if folder is None or not (targets or files):
        return options
    from judges.custom import located

    here = Path(folder)
    paths = {key: options[key] for key in files if str(options.get(key)).endswith(".md")}
    options = options | {key: str(here / path) for key, path in paths.items()}
    moved = {key: located(options[key], here) for key in targets if isinstance(options.get(key), str)}
    return options | moved


def _made(name: str, kind: Any, options: Mapping[Any, Any]) -> Judge:
    from pydantic import TypeAdapter, ValidationError

    try:
        made: Judge = TypeAdapter(kind).validate_python(dict(options), strict=False)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(str(step) for step in each['loc'])}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        )
        raise ConfigError(f"the judge {name!r} cannot be made: {said}") from None
    except ConfigError as error:
        raise ConfigError(f"the judge {name!r} cannot be made: {error.message}", hint=error.hint) from None
    return made


def _short(text: str) -> str:
    return repr(text[:40])
