"""`evalkit init`: a suite that runs, with every choice explained beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evalkit.suite_schema import schema
from guardrails.errors import ConfigError

SUITE = """\
# yaml-language-server: $schema=./suite.schema.json
# An evaluation: what is asked, of whom, how answers are judged, and what must hold.
#
#   evalkit run suite.yaml          # exit code 0: pass, 1: fail, 3: undecided, 2: could not run
#   evalkit runs show latest        # look at it again
#
# It runs as it is, and costs nothing, against a simulated endpoint (in another terminal):
#   guardrails simulate --port 8010 --answers golden:golden.jsonl

# Questions with known answers: a JSONL, JSON or CSV file, or a built-in set (`evalkit datasets list`).
golden: golden.jsonl

# Who is asked. Each is a whole policy: put `filters`, `retry`, `breaker`, `budget` here as you deploy them.
endpoints:
  - name: simulated                  # in place of these four lines: your own endpoint
    url: http://127.0.0.1:8010/v1
    model: simulated
    prices: prices.toml              # of models that are not in the published lists; a cost cap needs a price
  # - name: vendor
  #   url: https://api.openai.com/v1
  #   model: gpt-4o-mini
  #   key_env: OPENAI_API_KEY        # the name of the variable, never the key itself
  #   filters: default

# What stands around each question; every variant is run and compared.
prompts:
  - name: plain
  # - name: brief
  #   system: "Answer in one short sentence."
  #   user: "{{ input }}"

sampling:
  n: 1                               # answers to each question; 5 gives pass@5 and shows what is flaky
  temperature: 0
  max_tokens: 300

# How an answer is judged (all must say yes). Others: exact, regex, numeric, fields, tool_calls, f1, refusal.
scorers: [contains]

# What must hold before this may ship. Each is decided on its interval, not on its value alone: four samples
# cannot show that 90% pass, and a 99th percentile takes 368 answers.
gates:
  - pass_rate >= 50%
  - mean_ttft_ms <= 5000
  # - p99_ttft_ms <= 800
  # - pass_rate[arithmetic] >= 85%   # of the samples with a tag
  # - pass_rate >= baseline - 2%     # not worse than an earlier run, with `baseline: RUN` below

# baseline: main                     # the earlier run of such gates: its id, its tag, or `latest`
# budget: {max_usd: 1.00}            # the run stops before it costs more
concurrency: 8
timeout: 60
"""

PRICES = """\
# USD per million tokens, over the published lists of `guardrails`: a model of yours, or a negotiated price.
[models.simulated]
input = 0
output = 0
"""

GOLDEN = (
    {
        "id": "capital-fr",
        "input": "What is the capital of France?",
        "reference": "Paris",
        "tags": ["geography"],
    },
    {
        "id": "capital-jp",
        "input": "What is the capital of Japan?",
        "reference": "Tokyo",
        "tags": ["geography"],
    },
    {"id": "sum", "input": "What is 17 + 25?", "reference": "42", "tags": ["arithmetic"]},
    {"id": "product", "input": "What is 6 × 7?", "reference": "42", "tags": ["arithmetic"]},
)


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write a commented suite, a small golden set, a price list, and a JSON schema for your editor."""
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in GOLDEN)
    files = {
        "suite.yaml": SUITE,
        "golden.jsonl": lines,
        "prices.toml": PRICES,
        "suite.schema.json": json.dumps(schema(), indent=1) + "\n",
    }
    there = [name for name in files if (folder / name).exists()]
    if there and not force:
        raise ConfigError(
            f"{folder / there[0]} is there already, and nothing was written",
            hint="choose another folder, or --force to overwrite",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to: {error.strerror}") from None
    for name in files:
        typer.echo(f"wrote {folder / name}")
    typer.echo(f"\nnext:\n  guardrails simulate --port 8010 --answers golden:{folder / 'golden.jsonl'} &")
    typer.echo(f"  evalkit run {folder / 'suite.yaml'}")


def show_schema() -> None:
    """Print the JSON schema of suite files."""
    typer.echo(json.dumps(schema(), indent=1))
