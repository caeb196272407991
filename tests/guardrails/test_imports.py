"""Importing the package costs next to nothing and reaches for nothing."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {
    "aiohttp",
    "hypothesis",
    "httpx",
    "jinja2",
    "numpy",
    "orjson",
    "phonenumbers",
    "presidio_analyzer",
    "pydantic",
    "re2",
    "requests",
    "rich",
    "spacy",
    "ssl",
    "tiktoken",
    "tldextract",
    "typer",
    "yaml",
}


def modules_after(statement: str) -> set[str]:
    program = (
        f"import sys, json; before = set(sys.modules); {statement}; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_guardrails_is_light() -> None:
    loaded = modules_after("import guardrails")
    # asyncio itself brings ssl; it is no sign of network use.
    assert loaded & (HEAVY - {"ssl"}) == set()
    ours = {name for name in loaded if name.split(".")[0] in ("guardrails", "judges", "evalkit")}
    assert ours == {
        "guardrails",
        "guardrails._owners",
        "guardrails.call",
        "guardrails.client",
        "guardrails.clock",
        "guardrails.errors",
        "guardrails.handler",
        "guardrails.record",
        "guardrails.recorder",
        "guardrails.telling",
        "guardrails.usage",
    }


def test_import_of_the_floors_above_is_light_too() -> None:
    assert modules_after("import judges, evalkit") & (HEAVY - {"ssl"}) == set()


def test_importing_opens_no_socket() -> None:
    program = (
        "import sys\n"
        "def hook(event, args):\n"
        "    if event.startswith('socket.'): raise SystemExit(f'network at import: {event}')\n"
        "sys.addaudithook(hook)\n"
        "import guardrails, judges, evalkit, guardrails.config, guardrails.testing\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_lazy_names_exist() -> None:
    program = "import guardrails; [getattr(guardrails, name) for name in guardrails.__all__]"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
