"""Train the embedded toxicity model, and write its card.

    EVALKIT_SHARED=../shared python training/toxicity.py

Reads the train-role files of `data/toxicity` and, for general text, those of `data/jailbreak/benign_*` and
`data/groundedness`; writes `guardrails/filters/weights/toxicity.linear` and `toxicity.md`. About three
minutes on one core; the same bytes every time with the same versions of numpy and scipy.

Every set is split by a hash of its text (`linear.held_out`): a fifth is the set's dev part. Settings (the
weight of each set, `STRENGTH`) were compared on the dev parts, the threshold and the calibration come from
one half of them, and the card's figures for dev parts from the other half.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import linear
import numpy as np
import numpy.typing as npt
import scipy
from linear import Estimate, Floats, Row, table

from guardrails.filters.linear import LONGEST, LinearModel

STRENGTH = 3.0
STRIDES = 2  # of a window that is judged: an insult stands out in 200 characters, in 400 half of them drown
RATE = 0.01  # false positives on each kind of general benign text, at most

TOXIC = {  # the weight of a window of the set, and the set's licence
    "davidson_tweets": (1.5, "MIT"),
    "paradetox": (1.5, "CC0 1.0 (the Hugging Face card says OpenRAIL++)"),
    "edos_sexism": (0.5, "CC0 1.0"),
    "wiki_context_toxicity": (1.0, "Apache-2.0; Wikipedia talk text CC BY-SA"),
    "civil_toxic_spans": (1.0, "CC0 1.0"),
    "toxigen_human": (2.0, "MIT"),
    "toxigen_demonstrations": (1.0, "MIT, CDLA-Permissive-2.0"),
    "implicit_hate": (0.3, "MIT"),
    "hatemoji_build": (0.5, "CC BY 4.0"),
    "identity_templates_sample8k": (0.3, "Apache-2.0"),
    "surge_profanity_words": (0.5, "MIT"),
}
BENIGN = {  # false positives matter most here: each window weighs 3
    "jailbreak/benign_gpteacher_roleplay": "MIT (written by GPT-4)",
    "jailbreak/benign_gpteacher_codegen": "MIT (written by GPT-4)",
    "jailbreak/benign_clinc_sample4k": "CC BY 3.0",
    "jailbreak/benign_banking_sample2k": "CC BY 4.0",
    "jailbreak/benign_gsm8k_sample1500": "MIT",
    "jailbreak/benign_wiki_2500": "CC BY-SA 4.0",
    "jailbreak/benign_nq_sample1500": "Apache-2.0, CC BY-SA 3.0",
    "jailbreak/benign_oasst_lottery": "Apache-2.0",
    "jailbreak/benign_code_docs": "MIT, BSD-3, Apache-2.0",
    "groundedness/begin_dev": "CC BY 4.0, CDLA-Sharing-1.0",
    "groundedness/wice_claim_dev": "ODC-BY; Wikipedia CC BY-SA, Common Crawl terms",
    "groundedness/summedits": "Apache-2.0",
    "groundedness/ragtruth_train66": "MIT upstream",
}
BENIGN_WEIGHT = 3.0
KINDS = {
    "questions": (
        "benign_clinc_sample4k",
        "benign_banking_sample2k",
        "benign_nq_sample1500",
        "benign_oasst_lottery",
    ),
    "tasks": ("benign_gpteacher_roleplay", "benign_gpteacher_codegen", "benign_gsm8k_sample1500"),
    "prose": (
        "benign_wiki_2500",
        "general_begin_dev",
        "general_wice_claim_dev",
        "general_summedits",
        "general_ragtruth_train66",
    ),
    "code": ("benign_code_docs",),
}
DEV = ("toxicity/hatecheck", "toxicity/hatemoji_check", "jailbreak/arena_hard_benign")
WORDS, STRONG = "surge_profanity_words", 1.6
GOALS = {"davidson_tweets": 0.975, "paradetox": 0.99, "toxigen_human": 0.82}


# --- data --------------------------------------------------------------------------------------------------


def read() -> tuple[list[Row], list[Row], list[Row]]:
    """Training rows, the dev parts, and the sets that are only for measuring."""
    toxic = [
        row
        for name in TOXIC
        for row in linear.rows(f"toxicity/{name}", "pair" if name == "paradetox" else "")
    ]
    benign = [row for path in BENIGN for row in _benign(path)]
    every = toxic + benign
    dev = [row for row in every if linear.held_out(row)]
    measured = [row for path in DEV for row in linear.rows(path)]
    every += [row for row in linear.rows(f"toxicity/{WORDS}") if row.facts["severity"] >= STRONG]
    train = linear.without_copies((row for row in every if not linear.held_out(row)), dev + measured)
    return train, dev, measured


def _benign(path: str) -> list[Row]:
    if path.startswith("jailbreak/"):
        return linear.rows(path)
    columns = ("context", "question", "response")  # of people and documents; what models wrote is left out
    if path != "groundedness/begin_dev":
        columns = columns[:2]
    source = _source(path)
    texts = dict.fromkeys(
        fact[column] for fact in linear.facts(path) for column in columns if fact.get(column)
    )
    return [Row(source, text, 0, " ".join(linear.words(text)), {}) for text in texts]


def is_benign(row: Row) -> bool:
    """Whether the row is of a general benign set."""
    return row.source.startswith(("benign_", "general_"))


def weight(row: Row) -> float:
    """What a window of the row weighs in the fit."""
    return BENIGN_WEIGHT if is_benign(row) else TOXIC[row.source][0]


# --- disguises ---------------------------------------------------------------------------------------------

_LOOKALIKES = str.maketrans("aeiost", "431057")
_SYMBOLS = str.maketrans("aisl", "@!$|")
_DISGUISES: tuple[Callable[[str], str], ...] = (
    lambda word: re.sub("[aeiou]", "*", word, count=1, flags=re.IGNORECASE),
    lambda word: word[0] + "*" * (len(word) - 2) + word[-1],
    lambda word: word.lower().translate(_LOOKALIKES),
    lambda word: word.lower().translate(_SYMBOLS),
    ".".join,
    " ".join,
    "-".join,
    lambda word: re.sub("([aeiou])", r"\1\1\1\1", word, flags=re.IGNORECASE),
    lambda word: word[0] + re.sub("[aeiou]", "", word[1:], flags=re.IGNORECASE),
    lambda word: word[:-2] + word[-1] + word[-2],
)


def profanities() -> frozenset[str]:
    """Listed words of one part, strong enough and long enough to be meant."""
    return frozenset(
        row.text.lower()
        for row in linear.rows(f"toxicity/{WORDS}")
        if row.facts["severity"] >= STRONG and re.fullmatch("[a-z]{4,}", row.text.lower())
    )


def disguised(row: Row, listed: frozenset[str], every: int = 1) -> Row | None:
    """The row with its profanities (in a benign row: its longest word) disguised, for one row in `every`.

    Which disguise is decided by a hash of the text. Benign words are disguised too, or every asterisk would
    be an insult.
    """
    digest = hashlib.sha256(("disguise/" + row.text).encode("utf-8", "surrogatepass")).digest()
    if digest[0] % every:
        return None
    found = re.findall("[A-Za-z]{4,}", row.text)
    chosen = (
        {word for word in found if word.lower() in listed} if row.label else {max(found, key=len, default="")}
    )
    if not all(chosen) or not chosen:
        return None
    how = _DISGUISES[digest[1] % len(_DISGUISES)]
    pattern = r"\b(?:" + "|".join(sorted(map(re.escape, chosen))) + r")\b"
    return replace(row, text=re.sub(pattern, lambda match: how(match.group()), row.text))


def with_disguises(train: Sequence[Row], listed: frozenset[str]) -> Iterator[Row]:
    """The rows, and one in four of those that have a listed word, one in eight of the others', disguised."""
    yield from train
    for row in train:
        twin = disguised(row, listed, every=4 if row.label else 8)
        if twin is not None:
            yield twin


# --- the fit -----------------------------------------------------------------------------------------------


def train_model(train: Sequence[Row], dev: Sequence[Row]) -> LinearModel:
    """The quantized model with its calibration and threshold, which come from the choosing half of dev."""
    windows = linear.examples([row.text for row in train], LONGEST, step=2)
    labels = np.array([row.label for row in train])[windows.text]
    weights = np.array([weight(row) for row in train])[windows.text]
    # A long toxic text is toxic somewhere, nobody says where: only short ones teach.
    sure = (labels == 0) | (np.bincount(windows.text)[windows.text] == 1)
    point = linear.fit(windows.matrix[sure], labels[sure], weights[sure], strength=STRENGTH)

    half = [row for row in dev if chooses(row)]
    measured = linear.examples([row.text for row in half], STRIDES)
    calibration = linear.calibrate(measured.of_texts(measured.z(point)), [row.label for row in half])
    model = linear.quantized("toxicity", point, calibration, STRIDES)
    benign = [row for row in half if is_benign(row)]
    scores = linear.scores(model, (row.text for row in benign))
    return replace(
        model, threshold=max(linear.threshold(scores[at], RATE) for _, at in linear.by(benign, kind))
    )


def chooses(row: Row) -> bool:
    """Whether a row of a dev part chooses (calibration, threshold); the others are measured."""
    return linear.held_out(row, 10)


def kind(row: Row) -> str:
    """Which of `KINDS` a benign row is."""
    return next(name for name, sources in KINDS.items() if row.source in sources)


# --- the card ----------------------------------------------------------------------------------------------


def card(
    model: LinearModel, digest: str, train: Sequence[Row], dev: Sequence[Row], rest: Sequence[Row]
) -> str:
    """The model card: what was measured, on what, and what the model misses."""
    measured = [row for row in dev if not chooses(row)]
    whole = {**_scored(model, dev), **_scored(model, rest)}
    parts = {**_scored(model, measured), **_scored(model, rest)}
    listed = profanities()
    return CARD.format(
        digest=digest,
        size=len(model.encode()),
        threshold=model.threshold,
        strength=STRENGTH,
        benign_weight=BENIGN_WEIGHT,
        numpy=np.__version__,
        scipy=scipy.__version__,
        data=_data(train, dev, rest),
        quality=_quality(whole, parts, model.threshold),
        benign=_benign_rates(parts, model.threshold),
        long=_long(model, measured),
        disguises=_disguises(model, measured, listed),
        hatecheck=_functionalities(*parts["hatecheck"], model.threshold),
        hatemoji=_functionalities(*parts["hatemoji_check"], model.threshold),
    )


Scored = tuple[list[Row], Floats]


def _scored(model: LinearModel, rows: Sequence[Row]) -> dict[str, Scored]:
    scores = linear.scores(model, (row.text for row in rows))
    return {
        source: ([rows[i] for i in at], scores[at]) for source, at in linear.by(rows, lambda row: row.source)
    }


def _data(train: Sequence[Row], dev: Sequence[Row], rest: Sequence[Row]) -> str:
    licences = {name: licence for name, (_, licence) in TOXIC.items()}
    licences |= {_source(path): licence for path, licence in BENIGN.items()}
    licences |= {"hatecheck": "CC BY 4.0", "hatemoji_check": "CC BY 4.0", "arena_hard_benign": "Apache-2.0"}
    body = []
    for name, licence in licences.items():
        labels = [row.label for row in train if row.source == name]
        held = sum(row.source == name for row in [*dev, *rest])
        body.append((name, f"{sum(labels)} / {len(labels) - sum(labels)}", held, licence))
    return table(("set", "trained on (toxic / not)", "held out", "licence"), body)


def _quality(whole: dict[str, Scored], parts: dict[str, Scored], least: float) -> str:
    body = []
    for name in [*(name for name in TOXIC if name != WORDS), "hatecheck", "hatemoji_check"]:
        rows, scores = whole[name]
        labels = _labels(rows)
        if labels.sum() < 20 or (~labels).sum() < 20:
            area = own = "–"  # one class only
        else:
            area, own = str(linear.auc(scores, labels)), str(linear.recall_at(scores, labels))
        goal = f" (goal {GOALS[name]})" if name in GOALS else ""
        half, at = parts[name]
        sides = (_labels(half), ~_labels(half))
        flagged = [str(linear.share(at[side] >= least)) if side.any() else "–" for side in sides]
        body.append((name, len(rows), area + goal, own, len(half), *flagged))
    head = ("set", "n", "AUC", "recall at 1 % of its own negatives", "n", "recall", "false positives")
    return table(head, body)


def _labels(rows: Sequence[Row]) -> npt.NDArray[np.bool_]:
    return np.array([row.label for row in rows]) > 0


def _benign_rates(parts: dict[str, Scored], least: float) -> str:
    names = [*(_source(path) for path in BENIGN), "arena_hard_benign"]
    body = [(name, len(parts[name][0]), linear.share(parts[name][1] >= least)) for name in names]
    pooled = np.concatenate([parts[name][1] for name in names[:-1]])
    body.append(("all but arena_hard_benign", pooled.size, linear.share(pooled >= least)))
    return table(("set", "n", "false positives"), body)


def _disguises(model: LinearModel, dev: Sequence[Row], listed: frozenset[str]) -> str:
    body = []
    for name, label in (("davidson_tweets", 1), ("paradetox", 1), ("benign_clinc_sample4k", 0)):
        pairs = [
            (row, twin)
            for row in dev
            if row.source == name and row.label == label and (twin := disguised(row, listed)) is not None
        ]
        rates: list[Estimate] = [
            linear.share(linear.scores(model, (pair[side].text for pair in pairs)) >= model.threshold)
            for side in (0, 1)
        ]
        body.append((name, "toxic" if label else "benign", len(pairs), *rates))
    return table(("dev part of", "texts", "n", "found as they are", "found disguised"), body)


def _long(model: LinearModel, dev: Sequence[Row]) -> str:
    """Toxic texts within 1,000 characters of an encyclopedia."""
    prose = [row.text for row in dev if row.source == "benign_wiki_2500" and len(row.text) >= 500]
    toxic = [
        row.text
        for row in dev
        if row.source in ("davidson_tweets", "paradetox") and row.label and 20 <= len(row.text) < 100
    ]
    around = [(prose[i % len(prose)][:500], prose[(i + 1) % len(prose)][-500:]) for i in range(len(toxic))]
    body = []
    for name, texts in (
        ("alone", toxic),
        ("in the middle", [f"{a} {text} {b}" for text, (a, b) in zip(toxic, around, strict=True)]),
        ("only what is around", sorted({f"{a} {b}" for a, b in around})),
    ):
        body.append((name, len(texts), linear.share(linear.scores(model, texts) >= model.threshold)))
    return table(("text", "n", "flagged"), body)


def _functionalities(rows: Sequence[Row], scores: Floats, least: float) -> str:
    body = []
    for name, at in linear.by(rows, lambda row: str(row.facts["functionality"])):
        for label in (1, 0):
            chosen = [i for i in at if rows[i].label == label]
            if chosen:
                rate = linear.share(scores[chosen] >= least)
                body.append((name, "hateful" if label else "not", len(chosen), rate))
    return table(("functionality", "label", "n", "flagged"), body)


def _source(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    return name if path.startswith("jailbreak/") else f"general_{name}"


CARD = """\
# toxicity: explicit toxicity and profanity

Written by `training/toxicity.py`; every figure is measured on the weights as shipped (int8), texts judged in
windows as in use. Intervals are 95 %: DeLong's for AUC, Wilson's for proportions.

- File: `toxicity.linear`, {size} bytes, sha256 `{digest}`
- Kind: logistic regression over hashed character (2–5) and word (1–2) n-grams, 2^18 int8 weights
- Threshold: **{threshold}**, where each kind of general benign text (questions, tasks, prose, code) has at
  most 1 % false positives, on texts that were neither trained on nor are counted below
- Scores are calibrated (Platt) on the mixture of all sets' held-out parts: on your traffic, where toxic text
  is rarer, a score of 0.5 is less than an even chance
- Trained with C = {strength}, benign sets weighing {benign_weight} a window; numpy {numpy}, scipy {scipy}

## What it is for, and what it misses

It finds insults, slurs, threats and obscene words, and common disguises of them. It knows words and
spellings, not meaning:

- **Implied hate passes half of the time or more.** See implicit_hate, edos_sexism (sexism without an ugly
  word) and toxigen_human; so do plain threats (`threat_dir_h`, `threat_norm_h`).
- **Words for people raise the score.** Praise of a group is flagged more often than other benign text
  (`ident_pos_nh`), and so is abuse of things and non-protected targets (`target_*_nh`).
- **A short insult in a long paragraph is diluted**: see "One sentence in a long text".
- **Use and mention are one to it.** Quoted and countered hate (`counter_quote_nh`, `counter_ref_nh`), negated
  hate (`negate_neg_nh`) and reclaimed slurs (`slur_reclaimed_nh`) score like the hate itself; so does
  friendly profanity (`profanity_nh`).
- **Emoji as insults** are hardly known (hatemoji_check).
- **English only.** In other languages expect neither recall nor a meaningful threshold.
- davidson_tweets counts "offensive language" as toxic, which holds much African-American English: expect
  more false positives there than in the benign sets below.

## Data

{data}

Texts that are in a dev part, or share half of their five-word runs with one, were removed from training.
Share-alike texts were trained on; no text is shipped. `surge_profanity_words` (MIT) names the words that are
disguised and is trained on as it is. Settings were compared on dev parts, about a dozen variants: figures on
dev parts are that much optimistic. By hatecheck, hatemoji_check and arena_hard_benign no setting and no
threshold was compared or chosen, but they were measured again and again while the model was made, and the
false alarms of a first model on arena_hard_benign are why so much general benign text is trained on: they
are not blind tests.

## Quality

AUC and the recall at 1 % of a set's own negatives are of whole dev parts; recall and false positives at the
threshold are of their measuring halves, which the threshold has not seen.

{quality}

identity_templates are made from the templates that were trained on: their figures show that identities alone
are not flagged, not more.

## False positives on benign text

{benign}

## One sentence in a long text

Toxic texts of 20 to 100 characters (davidson_tweets, paradetox; dev parts) within 1,000 characters of
Wikipedia.

{long}

## Disguises

Words of the list in toxic texts, the longest word in benign ones: f*ck, f**k, fvck-like digits and symbols,
dots, spaces and dashes between the letters, stretched and dropped vowels, swapped letters.

{disguises}

## HateCheck, as it is

{hatecheck}

## HatemojiCheck, as it is

{hatemoji}
"""


def main() -> None:
    """Train, save, write the card."""
    train, dev, rest = read()
    model = train_model(list(with_disguises(train, profanities())), dev)
    digest = linear.save(model)
    (linear.WEIGHTS / "toxicity.md").write_text(card(model, digest, train, dev, rest), encoding="utf-8")


if __name__ == "__main__":
    main()
