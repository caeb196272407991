"""The JSON schema of a suite's file, for editors: what the loader takes, as far as a schema can say it.

Made from the models that read the file. They say which fields there are; what their validators allow besides
(short forms, the options of an endpoint's type, names) is put in here. A schema cannot say everything: that
two endpoints have one name, or that a template is valid, only the loader finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

Json = dict[str, Any]

_POLICY: Json = {"$ref": "#/$defs/Policy"}
_TEXT: Json = {"type": "string", "minLength": 1}


def schema() -> Json:
    """The whole schema."""
    from evalkit.config import Suite
    from guardrails.config import Policy

    made = Suite.model_json_schema()
    policy = Policy.model_json_schema()
    made["$defs"] = {**policy.pop("$defs", {}), **made.get("$defs", {}), "Policy": policy}
    given, definitions = made["properties"], made["$defs"]
    for name in ("Policy", "RouteSpec"):
        _endpoint(definitions[name], definitions)
    _golden(definitions)
    given["endpoints"]["items"] = _POLICY
    given["user"] = {"anyOf": [_POLICY, {"type": "null"}]}
    given["judges"]["additionalProperties"] = _POLICY
    definitions["Scorer"], definitions["Gate"] = _scorer(), _gate()
    given["scorers"]["items"] = {"$ref": "#/$defs/Scorer"}
    given["gates"]["items"] = {"$ref": "#/$defs/Gate"}
    given["golden"]["minItems"] = 1
    for name in ("golden", "scorers", "gates", "prompts"):  # one may be written without its list
        given[name] = {"anyOf": [given[name], given[name]["items"]]}
    for each in _all(made):
        _as_loosely(each)
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "An evalkit suite"
    return made


# --- numbers and truth values ------------------------------------------------------------------------------

_NUMBERS = {
    "integer": r"^\s*[-+]?[0-9][0-9_]*(\.0*)?\s*$",
    "number": r"^\s*[-+]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$",
}
# YAML 1.1, which the loader reads, and YAML 1.2, which editors read, do not agree on what `yes` is.
_TRUTHS = ["yes", "no", "on", "off", "true", "false", 0, 1]


def _all(schema: Any) -> Iterator[Json]:
    """Every object in a schema, the innermost first."""
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _all(each)
    if isinstance(schema, dict):
        yield schema


def _as_loosely(each: Json) -> None:
    """Let in what pydantic reads too: a number that is written as a text, and words for truth values."""
    kind = each.get("type")
    if kind in ("integer", "number"):
        each["type"], each["pattern"] = [kind, "string"], _NUMBERS[kind]
    elif kind == "boolean":
        each["enum"] = [True, False, *_TRUTHS]
        del each["type"]
    elif isinstance(either := each.get("anyOf"), list) and any(_is_number(one) for one in either):
        # A sum of money may be a text: the number beside it allows those that are sums.
        each["anyOf"] = [one for one in either if one != {"type": "string"}]


def _is_number(schema: Json) -> bool:
    return isinstance(kinds := schema.get("type"), list) and "number" in kinds


# --- endpoints ---------------------------------------------------------------------------------------------


def _endpoint(own: Json, definitions: Json) -> None:
    """Add the options of each type of endpoint; routes and a cascade have none."""
    from guardrails.config import BUILTIN
    from guardrails.named import names_in

    group = "guardrails.endpoints"
    own["properties"]["type"] = {"default": "http", "enum": sorted(names_in(group, BUILTIN))}
    # A plug-in's options are its own, so that there everything is let in.
    rule: Json = {}
    for name, options in BUILTIN[group].items():
        asked = options.model_json_schema()
        definitions |= asked.pop("$defs", {})
        more = {"properties": asked["properties"], "required": asked.get("required", [])}
        chosen: Json = {"properties": {"type": {"const": name}}}
        if name != own["properties"]["type"]["default"]:
            chosen["required"] = ["type"]
        rule = {"if": chosen, "then": _only(own, more), "else": rule}
    if "routes" in own["properties"]:
        routes: Json = {"required": ["routes"], "properties": {"routes": {"minItems": 1}}}
        cascade: Json = {"required": ["cascade"], "properties": {"cascade": {"type": "object"}}}
        rule = {"if": {"anyOf": [routes, cascade]}, "then": _only(own, {}), "else": rule}
    own |= rule


def _only(own: Json, more: Json) -> Json:
    """An endpoint's own fields (which are described outside) and some more, but no others."""
    names: Json = dict.fromkeys(own["properties"], True)
    closed = {"properties": {**names, **more.get("properties", {})}, "additionalProperties": False}
    return {**closed, "required": more["required"]} if more.get("required") else closed


# --- golden sets -------------------------------------------------------------------------------------------


def _golden(definitions: Json) -> None:
    """Short forms of lists, and what belongs together in a golden set."""
    from evalkit.sets.row import FIELDS

    spec, where = (_object(definitions[name]) for name in ("GoldenSpec", "Where"))
    places = ("path", "hf", "builtin")
    spec["oneOf"] = [{"required": [place], "properties": {place: _TEXT}} for place in places]
    spec["dependentRequired"] = {"subset": ["hf"], "split": ["hf"], "revision": ["hf"], "format": ["path"]}
    names = sorted({*FIELDS, "doc_to_text", "doc_to_target", "doc_to_choice"})
    spec["properties"]["fields"]["propertyNames"] = {"anyOf": [{"enum": names}, {"pattern": r"^metadata\.."}]}
    listed = [(spec, "tags"), (where, "any"), (where, "all"), (where, "not")]
    for holder, name in listed:
        holder["properties"][name] = {"anyOf": [{"type": "string"}, holder["properties"][name]]}
    by = {"type": "string", "pattern": r"^(tag|metadata\..+)$"}
    definitions["Draw"]["properties"]["by"] = {"anyOf": [by, {"type": "null"}], "default": None}


def _object(definition: Json) -> Json:
    """The long form of what has short ones too."""
    made: Json = next(each for each in definition["anyOf"] if each.get("type") == "object")
    return made


# --- scorers and gates -------------------------------------------------------------------------------------


def _scorer() -> Json:
    from evalkit.config import NO_SCORER
    from judges.registry import COMBINED, JUDGES, kind_of

    options: Json = {}
    for name in sorted(JUDGES):
        kind = kind_of(name)
        asks = getattr(kind, "asks", False)
        known = {each.name for each in fields(kind) if each.init and not (asks and each.name == "asked")}
        # One judge by several models is a panel, and may say how their values become one.
        known |= {"aggregate"} if asks else set()
        # A combination's options may be another judge: `not: {contains: …}`.
        closed = {"properties": dict.fromkeys(sorted(known), True), "additionalProperties": False}
        options[name] = True if name in COMBINED else closed
    one: Json = {"type": "object", "minProperties": 1, "maxProperties": 1}
    return {
        "anyOf": [
            {"enum": [*sorted(JUDGES), NO_SCORER]},
            {**one, "properties": options, "additionalProperties": False},
        ]
    }


def _gate() -> Json:
    from evalkit import gate

    metric = _metric(gate.METRICS)
    line = rf"^\s*({metric})\s*(\[|(on|of)\s|>=|<=|≥|≤|>|<).*[0-9a-z\"%A-Z.]\s*$"
    of_mapping = {
        **dict.fromkeys(gate.FIELDS, _TEXT),
        "gate": {"type": "string", "pattern": rf"^\s*({metric})"},
        "margin": {"type": ["number", "string"]},
        "confidence": {"type": "number", "minimum": 0.5, "maximum": gate.SUREST},
    }
    mapping = {
        "type": "object",
        "properties": of_mapping,
        "required": ["gate"],
        "dependentRequired": {"margin": ["against"]},
        "additionalProperties": False,
    }
    return {"anyOf": [{"type": "string", "pattern": line}, mapping]}


def _metric(metrics: Mapping[str, Any]) -> str:
    """A pattern of the metrics' names, in what JSON schema and JavaScript both read."""
    names = "|".join(sorted(map(re.escape, metrics), key=len, reverse=True))
    quoted = r'"([^"\\]|\\.)*"[^\s\[\]"<>=≥≤]*'
    scorer = r'[A-Za-z_][^\s\[\]"<>=≥≤]*\.(pass_rate|mean_score)'
    return rf"{names}|pass[@^]0*[1-9][0-9]*|{scorer}|{quoted}"
