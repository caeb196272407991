"""`evalkit init` writes a suite that is right, and a schema that says so too."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from evalkit import config
from evalkit.cli import app
from evalkit.commands.init import schema
from evalkit.plan import Plan
from guardrails.errors import ConfigError
from guardrails.source import load_yaml

runner = CliRunner()


def test_what_it_writes_can_be_run_as_it_is(tmp_path: Path) -> None:
    done = runner.invoke(app, ["init", str(tmp_path / "new")])

    assert done.exit_code == 0, done.output
    suite = config.load(tmp_path / "new" / "suite.yaml")
    assert Plan.of(suite, folder=tmp_path / "new").size == 4
    jsonschema.validate(load_yaml(tmp_path / "new" / "suite.yaml").data, schema())


def test_it_overwrites_nothing_unless_told(tmp_path: Path) -> None:
    (tmp_path / "golden.jsonl").write_text("mine", encoding="utf-8")

    refused = runner.invoke(app, ["init", str(tmp_path)])

    assert isinstance(refused.exception, ConfigError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["golden.jsonl"]
    assert runner.invoke(app, ["init", str(tmp_path), "--force"]).exit_code == 0
    assert (tmp_path / "golden.jsonl").read_text(encoding="utf-8") != "mine"


@pytest.mark.parametrize(
    "wrong",
    [
        {"golden": "x", "endpoints": []},
        {"golden": "x"},
        {"golden": "x", "endpoints": [{"url": "http://a"}], "concurrency": 0},
        {"golden": "x", "endpoints": [{"url": "http://a"}], "temprature": 1},
        {"golden": {"pth": "x"}, "endpoints": [{"url": "http://a"}]},
    ],
)
def test_the_schema_knows_mistakes(wrong: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema())


@pytest.mark.parametrize(
    "right",
    [
        {"golden": "x", "endpoints": [{"url": "http://a"}], "gates": "pass_rate >= 1%"},
        {
            "golden": [{"path": "x", "where": {"any": ["t"]}}, "y"],
            "endpoints": [{"url": "http://a", "model": "m"}],
        },
        {
            "golden": "x",
            "endpoints": [{"url": "http://a"}],
            "prompts": [{"name": "a", "user": "{{ input }}"}],
        },
    ],
)
def test_the_schema_allows_the_short_forms(right: object) -> None:
    jsonschema.validate(right, schema())


def test_what_gates_are_held_against_has_a_line_of_its_own(tmp_path: Path) -> None:
    """The comment on such a gate points below itself."""
    assert runner.invoke(app, ["init", str(tmp_path)]).exit_code == 0
    head, _, below = (
        (tmp_path / "suite.yaml").read_text(encoding="utf-8").partition("with `baseline: RUN` below")
    )
    assert head
    assert "\n# baseline: " in below
