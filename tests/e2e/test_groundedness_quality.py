"""The support score on public labelled sets: what it reaches on sources that it was not trained on.

The bounds lie below what was measured by about what chance can do to these many rows; `docs/groundedness.md`
has the measured figures. Skipped where the public data is not here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from evalkit.detection import auc
from judges.grounding.model import Model
from judges.grounding.support import support

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("EVALKIT_SHARED") or ROOT.parent / "shared") / "data" / "groundedness"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no labelled answers in {DATA}: set EVALKIT_SHARED"),
]


@pytest.fixture(scope="module")
def training() -> ModuleType:
    pytest.importorskip("scipy", reason="the training script needs scipy (the dependency group train)")
    spec = util.spec_from_file_location("groundedness_training", ROOT / "training" / "groundedness.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def without_wice(training: ModuleType) -> Model:
    model = training.trained([row for row in training.training_rows() if row.source != "wice"])
    assert isinstance(model, Model)
    return model


def areas(rows: Sequence[tuple[float, int]]) -> float:
    found = auc([risk for risk, label in rows if label], [risk for risk, label in rows if not label])
    assert found is not None
    return found.value


def risks(training: ModuleType, name: str, model: Model, limit: int | None = None) -> list[tuple[float, int]]:
    return [
        (1 - support(row.answer, row.context, model=model).score, row.label)
        for row in training.rows(name)[:limit]
    ]


def overlap(training: ModuleType, name: str) -> list[tuple[float, int]]:
    out = []
    for row in training.rows(name):
        said, known = row.answer.lower().split(), set(row.context.lower().split())
        out.append((sum(word not in known for word in said) / max(1, len(said)), row.label))
    return out


def test_a_source_that_was_not_seen_is_told_apart_better_than_by_overlap(
    training: ModuleType, without_wice: Model
) -> None:
    found = risks(training, "wice_claim_test", without_wice)
    assert areas(found) > 0.70
    assert areas(found) > areas(overlap(training, "wice_claim_test")) + 0.03
    sides = [[risk > 0.5 for risk, label in found if label == side] for side in (1, 0)]
    assert (np.mean(sides[0]) + 1 - np.mean(sides[1])) / 2 > 0.62


def test_small_edits_are_noticed_better_than_by_chance_without_having_seen_such_a_set(
    training: ModuleType,
) -> None:
    model = training.trained([row for row in training.training_rows() if row.source != "summedits"])
    found = risks(training, "summedits", model)
    assert areas(found) > 0.59
    assert areas(overlap(training, "summedits")) < 0.52
    sides = [[risk > 0.5 for risk, label in found if label == side] for side in (1, 0)]
    assert (np.mean(sides[0]) + 1 - np.mean(sides[1])) / 2 > 0.56


def test_the_shipped_model_does_on_held_out_rows_what_its_card_says(training: ModuleType) -> None:
    assert areas(risks(training, "begin_test_wow", Model.load(), 1200)) > 0.92
    assert areas(risks(training, "wice_claim_test", Model.load())) > 0.72


def test_training_again_gives_the_shipped_model(training: ModuleType) -> None:
    again = training.trained(training.training_rows())
    shipped = Model.load()
    assert again.vocabulary.weights == shipped.vocabulary.weights
    assert again.offset == pytest.approx(shipped.offset, abs=0.02)
    assert again.weights == pytest.approx(shipped.weights, abs=0.02)


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        ("Profits were high in 2019.", {"number", "opposite", "negation"}),
        ("It is not here.", {"negation"}),
        ("It was here.", {"negation"}),
        ("Pigeons love bread.", {"opposite"}),
        ("not", set()),
        ("", set()),
    ],
)
def test_edits_change_one_place_and_are_the_same_every_time(
    training: ModuleType, answer: str, kinds: set[str]
) -> None:
    row = training.Row("s", "s", "s/", "", answer, 0, {})
    found = training.edited(row)
    assert set(found) == kinds
    assert answer not in found.values()
    assert found == training.edited(row)
