"""Train the embedded jailbreak model, and write its card.

    EVALKIT_SHARED=../shared python training/jailbreak.py

Reads the train-role files of `data/jailbreak` and, as harmless text, those of `data/toxicity` (abuse is
another category) and `data/groundedness`; adds what `jailbreak_generate` makes up. Writes
`guardrails/filters/weights/jailbreak.linear` and `jailbreak.md`. A few minutes on one core; the same bytes
every time with the same versions of numpy and scipy.

What is held out: of prompts from the wild, whole clusters of near-duplicates, about a third (the biggest
cluster, the DAN family, is trained on: what is measured is what looks like nothing in training); of every
harmless set a fifth, by a hash of the text; generated texts are measured on those of another seed.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import linear
import numpy as np
import scipy
from jailbreak_card import card, chooses
from jailbreak_generate import generate
from linear import Floats, Row

from guardrails.filters import jailbreak_rules
from guardrails.filters.jailbreak import scored
from guardrails.filters.linear import Features, LinearModel

STRENGTH = 2.0
STRIDES, STEP = 3, 2  # of a window; training takes one window in `STEP`
SEED, EACH = 1, 1000  # of the generator
LONG = 8000  # harmless texts put together from several
RATES = {"general": 0.01, "generated": 0.01, "arena": 0.01, "hard": 0.045}  # false positives, at most
SURE = 1.5  # log odds that a window of an attack from the wild must have, by a model that has not seen it

WILD = ("inthewild_jailbreak", "giskard", "gptfuzz_templates_x3")
ATTACKS = {  # the weight of a text of the set
    "inthewild_jailbreak": 3.0,
    "giskard": 3.0,
    "gptfuzz_templates_x3": 2.0,
    "deepset_train": 8.0,
    "bipia_train": 3.0,
    "jailtrick_adv_suffix_sample800": 0.3,
}
BENIGN = (
    "benign_gpteacher_roleplay",
    "benign_gpteacher_codegen",
    "benign_clinc_sample4k",
    "benign_banking_sample2k",
    "benign_gsm8k_sample1500",
    "benign_wiki_2500",
    "benign_nq_sample1500",
    "benign_oasst_lottery",
    "benign_code_docs",
)
ABUSE = {  # harmless here: how many texts of the set
    "davidson_tweets": 1500,
    "paradetox": 1500,
    "edos_sexism": 1500,
    "wiki_context_toxicity": 4000,
    "civil_toxic_spans": 2000,
    "implicit_hate": 800,
    "toxigen_human": 800,
}
PASSAGES = {
    "summedits": (("context",), 162),
    "begin_dev": (("context", "question", "response"), 1500),
    "wice_claim_dev": (("context", "claim"), 300),
}
DEV = ("deepset_test", "bipia_test", "piguard_valid", "arena_hard_benign", "harmful_direct_requests")
HARD = linear.ROOT / "datasets" / "hard-benign" / "samples.jsonl"


# --- data --------------------------------------------------------------------------------------------------


def read() -> tuple[list[Row], list[Row], list[Row]]:
    """Training rows, what is held out of their sets, and the sets that are only for measuring."""
    wild = [row for name in WILD for row in linear.rows(f"jailbreak/{name}")]
    away = held_out_clusters([row.text for row in wild])
    train = [row for row, held in zip(wild, away, strict=True) if not held]
    dev = [row for row, held in zip(wild, away, strict=True) if held]
    train += [row for name in ATTACKS if name not in WILD for row in linear.rows(f"jailbreak/{name}")]
    for row in harmless():
        (dev if linear.held_out(row) else train).append(row)
    made = generated(SEED, EACH)
    train += made
    train += long_texts(train)
    measured = [row for name in DEV for row in linear.rows(f"jailbreak/{name}")] + hard_benign()
    train = linear.without_copies(train, dev + measured)
    known = {row.text for row in made}
    return train, dev + [row for row in generated(SEED + 1, EACH // 5) if row.text not in known], measured


def held_out_clusters(texts: Sequence[str], alike: float = 0.25, parts: int = 3) -> list[bool]:
    """Whether each text is held out. Near-duplicates go together, the biggest cluster is not held out.

    Two texts are near-duplicates when the shorter one shares `alike` of its runs of five words with the
    other; a cluster is what is connected that way.
    """
    runs = [_runs(text) for text in texts]
    having: dict[tuple[str, ...], list[int]] = defaultdict(list)
    parent = list(range(len(texts)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    for number, own in enumerate(runs):
        shared = Counter(other for run in own for other in having[run])
        for other, common in sorted(shared.items()):
            if common >= alike * min(len(own), len(runs[other])):
                parent[root(number)] = root(other)
        for run in own:
            having[run].append(number)
    first: dict[int, str] = {}
    for number, text in enumerate(texts):
        first.setdefault(root(number), " ".join(linear.words(text)))
    sizes = Counter(root(number) for number in range(len(texts)))
    biggest = sizes.most_common(1)[0][0]
    held = {at for at, text in first.items() if at != biggest and _digest(text) % parts == 0}
    return [root(number) in held for number in range(len(texts))]


def _runs(text: str, size: int = 5) -> set[tuple[str, ...]]:
    words = linear.words(text)
    return {tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1))}


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def harmless() -> list[Row]:
    """Public texts that are no attacks; those that are abusive or harmful are no attacks either."""
    rows = [row for name in BENIGN for row in linear.rows(f"jailbreak/{name}")]
    for name, most in ABUSE.items():
        rows += [replace(row, label=0) for row in _some(linear.rows(f"toxicity/{name}"), most)]
    for name, (columns, most) in PASSAGES.items():
        facts = linear.facts(f"groundedness/{name}")
        texts = dict.fromkeys(fact[c] for fact in facts for c in columns if len(fact.get(c) or "") > 20)
        rows += _some([Row(name, text, 0, text, {}) for text in texts], most)
    return rows


def _some(rows: list[Row], most: int) -> list[Row]:
    return sorted(rows, key=lambda row: _digest(row.text))[:most]


def generated(seed: int, each: int) -> list[Row]:
    """What the generator makes: the source is `attack/<family>` or `harmless/<family>`."""
    return [
        Row(f"{'attack' if made.label else 'harmless'}/{made.family}", made.text, made.label, made.text, {})
        for made in generate(seed, each)
    ]


def long_texts(train: Sequence[Row]) -> list[Row]:
    """Harmless texts one after another: long prompts are rare in the sets, and common in life."""
    rng = random.Random(SEED)  # noqa: S311 - it chooses texts, nothing secret
    abuse = {"davidson_tweets", "civil_toxic_spans"}
    rows = [row for row in train if not row.label and row.source not in abuse and len(row.text) < 1500]
    public = [row.text for row in rows if not row.source.startswith("harmless/")]
    own = [row.text for row in rows if row.source.startswith("harmless/") and "quoted" not in row.source]
    made = []
    for number in range(LONG):
        glue = rng.choice((" ", "\n", "\n\n"))
        parts = [rng.choice(own if rng.random() < 0.5 else public) for _ in range(rng.randint(2, 8))]
        made.append(Row("long", glue.join(parts), 0, str(number), {}))
    return made


def hard_benign() -> list[Row]:
    """The project's own test set of harmless prompts that look like attacks."""
    samples = [json.loads(line) for line in HARD.read_text(encoding="utf-8").splitlines()]
    return [Row("hard-benign", s["input"], 0, s["id"], {"kind": s["tags"][0]}) for s in samples]


# --- which windows are attacks -----------------------------------------------------------------------------


def weight(row: Row) -> float:
    """What a text weighs in the fit. A family of generated attacks weighs as much as 400 harmless texts."""
    if row.source in ATTACKS:
        return ATTACKS[row.source]
    if row.source == "long":
        return 2.0
    return 400 / EACH if row.label else 1.0


def label_windows(train: Sequence[Row], windows: linear.Examples) -> tuple[Floats, Floats]:
    """The label and the weight of each window.

    A text's weight is spread: each of n windows has 1/√n of it. In BIPIA's documents only windows that hold
    the inserted order are attacks. Where the order is an ordinary question, nothing can be learnt from it.
    """
    sizes = np.bincount(windows.text, minlength=len(train))
    labels = np.array([row.label for row in train], np.float64)[windows.text]
    weights = np.array([weight(row) for row in train])[windows.text] / np.sqrt(sizes[windows.text])
    clean = [row.text.strip() for row in train if row.source == "bipia_train" and not row.label]
    for number, row in enumerate(train):
        if row.source != "bipia_train" or not row.label:
            continue
        at = np.flatnonzero(windows.text == number)
        span = inserted(row.text, clean)
        if span is None or span[1] - span[0] > 0.8 * len(row.text):
            continue
        start, end = span
        if not _ORDER.search(row.text[start:end]):
            weights[at] = 0
            continue
        spans = [block.windows(STRIDES)[2:] for block in Features.of(row.text)]
        low, high = (np.concatenate([span[side][::STEP] for span in spans]) for side in (0, 1))
        held = np.minimum(high, end) - np.maximum(low, start)
        labels[at[held < min(30, 0.6 * (end - start))]] = 0
    return labels, weights


_ORDER = re.compile(r"(?i)answer|response|reply|message|letters|vowels|code|snippet|http|www|\.com")


def inserted(text: str, clean: Iterable[str]) -> tuple[int, int] | None:
    """The smallest part of the text without which it is one of the clean texts."""
    best = None
    text = text.rstrip()
    for context in clean:
        start = _common(context, text)
        rest = context[start:].strip()
        end = len(text) - len(rest)
        if text.endswith(rest) and start < end and (best is None or end - start < best[1] - best[0]):
            best = start, end
    return best


def _common(left: str, right: str) -> int:
    """How many characters two texts have in common at their start."""
    shorter = min(len(left), len(right))
    return next((at for at in range(shorter) if left[at] != right[at]), shorter)


def train_point(train: Sequence[Row]) -> Floats:
    """The coefficients, fitted in two rounds.

    A long attack from the wild also has harmless stretches. Models that have not seen a text (its third of
    the texts was left out) judge its windows; the second round keeps those with odds of `SURE`, and the best.
    """
    windows = linear.examples([row.text for row in train], STRIDES, STEP)
    labels, weights = label_windows(train, windows)
    part = np.array([_digest(row.text) % 3 for row in train])[windows.text]
    alone = np.bincount(windows.text)[windows.text] == 1
    unsure = np.isin([row.source for row in train], WILD)[windows.text] & ~alone
    z = np.zeros(labels.size)
    for third in range(3):
        left_out = unsure & (part == third)
        point = linear.fit(windows.matrix, labels, weights * ~left_out, strength=STRENGTH, rounds=40)
        z[left_out] = windows.z(point)[left_out]
    keep = ~unsure | (z >= np.minimum(windows.of_texts(z)[windows.text], SURE))
    return linear.fit(windows.matrix, labels, weights * keep, strength=STRENGTH, rounds=100)


# --- the threshold -----------------------------------------------------------------------------------------


def scores(model: LinearModel, texts: Iterable[str]) -> Floats:
    """The score of each text as in use: model and rules, the worst window."""
    out = []
    for text in texts:
        found = jailbreak_rules.matches(text)
        windows = [w.score for block in Features.of(text) for w in scored(block, found, model)]
        out.append(max(windows, default=0.0))
    return np.array(out)


def choose(benign: Sequence[Row], values: Floats) -> float:
    """The least score that holds `RATES` on each kind of harmless text."""
    return max(linear.threshold(values[at], RATES[name]) for name, at in linear.by(benign, kind))


def kind(row: Row) -> str:
    """Generated, of the arena (real and hard prompts), made to look like attacks, or public and general."""
    if row.source.startswith("harmless/"):
        return "generated"
    return {"arena_hard_benign": "arena", "hard-benign": "hard"}.get(row.source, "general")


def main() -> None:
    """Train, write the weights and the card."""
    train, dev, measured = read()
    model = linear.quantized("jailbreak", train_point(train), strides=STRIDES)
    benign = [row for row in dev if not row.label]
    benign += [row for row in measured if row.source == "hard-benign"]
    benign += [row for row in measured if row.source == "arena_hard_benign" and chooses(row)]
    model = replace(model, threshold=choose(benign, scores(model, (row.text for row in benign))))
    digest = linear.save(model)
    rows = dev + measured
    values = scores(model, (row.text for row in rows))
    text = card(model, digest, train, rows, values, f"numpy {np.__version__}, scipy {scipy.__version__}")
    (linear.WEIGHTS / "jailbreak.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
