"""What words are, for the support score: tokens, stems, numbers, negations, opposites. English, and no more.

All patterns here run in linear time: no character can belong to two repetitions that follow each other.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

_WIDE = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # scripts without spaces: a sign is a word
_LETTER = rf"[^\W\d_{_WIDE}]"
TOKEN = re.compile(
    rf"\d+(?:[.,]\d+)*|{_LETTER}+(?:(?:[\u0300-\u036f]+|['’](?={_LETTER})){_LETTER}*)*|[{_WIDE}]|[%$€£¥]"
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _rows(text: str) -> list[list[str]]:
    """The words of each part of a text; parts end at a line's end or at a bar."""
    return [part.split() for line in text.splitlines() for part in line.split("|") if part]


STOP = _words(
    """a about above after again all also am an and any are as at be because been before being below between
    both but by can could did do does doing down during each few for from further had has have having he her
    here hers herself him himself his how i if in into is it its itself just me more most my myself no nor not
    now of off on once only or other our ours ourselves out over own per same she should so some such than
    that the their theirs them themselves then there these they this those through to too under until up upon
    us very was we were what when where which while who whom whose why will with within without would yet you
    your yours yourself yourselves s t d ll m re ve st nd rd th may might must shall one however although
    though since among along via etc e g let well"""
)

NEGATIONS = _words(
    """no not never none nobody nothing neither nor cannot without hardly barely fail fails failed lack lacks
    lacked refuse refused deny denied unable n't except exclude excludes excluding excluded despite"""
)

PERSONAL = _words("i me my mine myself we us our you your yours im ive")

_OPPOSITES = """
increase decrease|increase reduce|increase decline|grow shrink|grow decline|rise fall|rise drop
rise decline|gain lose|gain loss|profit loss|up down|high low|higher lower|highest lowest|more less
more few|most least|most few|many few|large small|big small|great small|long short|early late|first last
before after|begin end|start end|start stop|start finish|open close|open shut|win lose|winner loser
victory defeat|accept reject|accept decline|accept refuse|agree disagree|agree refuse|approve reject
allow prohibit|allow prevent|allow forbid|enable disable|enable prevent|include exclude|support oppose
favor oppose|favour oppose|success failure|succeed fail|positive negative|strong weak|stronger weaker
strengthen weaken|good bad|better worse|best worst|improve worsen|improve deteriorate|safe dangerous
safe unsafe|easy difficult|easy hard|simple complex|possible impossible|likely unlikely|certain uncertain
true false|right wrong|right left|correct incorrect|same different|similar different|similar dissimilar
above below|over under|inside outside|internal external|indoor outdoor|public private|male female
man woman|boy girl|father mother|son daughter|brother sister|husband wife|king queen|old young|old new
older younger|ancient modern|north south|east west|northern southern|eastern western|day night
morning evening|morning night|today tomorrow|yesterday tomorrow|hot cold|warm cool|wet dry|full empty
rich poor|cheap expensive|fast slow|faster slower|quick slow|heavy light|hard soft|thick thin|wide narrow
deep shallow|near far|love hate|like dislike|happy sad|happy unhappy|pleased displeased
satisfied dissatisfied|alive dead|life death|born die|sick healthy|buy sell|borrow lend|give take
give receive|send receive|push pull|arrive depart|arrive leave|enter exit|enter leave|join leave
stay leave|come go|hire fire|employ dismiss|add remove|add subtract|attach detach|create destroy
build destroy|expand contract|expand shrink|expand reduce|accelerate decelerate|accelerate slow
advance retreat|attack defend|attack protect|guilty innocent|convict acquit|legal illegal|lawful unlawful
major minor|maximum minimum|majority minority|optimistic pessimistic|present absent|permanent temporary
always never|often rarely|often seldom|frequent rare|frequently rarely|common rare|common uncommon
usual unusual|everyone nobody|everything nothing|all none|all some|every no|some no|always sometimes
both neither|active passive|active inactive|known unknown|expected unexpected|famous unknown
popular unpopular|upper lower|vertical horizontal|superior inferior|exceed miss|outperform underperform
overestimate underestimate|surplus deficit|income expense|revenue expense|asset liability|debit credit
inflow outflow|import export|hope despair|confident doubtful|confident unsure|doubt believe|confirm deny
admit deny|remember forget|reveal conceal|reveal hide|show hide|encourage discourage|praise criticize
praise blame|reward punish|friend enemy|ally enemy|peace war|domestic foreign|local global|urban rural
natural artificial|raw cooked|fresh stale|clean dirty|clear unclear|clear vague|visible invisible
bright dark|light dark|white black|smooth rough|tall short|fat thin|awake asleep|ask answer
question answer|teach learn|lead follow|leader follower|predecessor successor|previous next|former latter
past future|ahead behind|front back|top bottom|beginning ending|interested uninterested
relevant irrelevant|effective ineffective|efficient inefficient|sufficient insufficient
adequate inadequate|accurate inaccurate|able unable|aware unaware|fair unfair|stable unstable
reliable unreliable|necessary unnecessary|important unimportant|significant insignificant
supervised unsupervised|with without|for against|pros cons|benefit harm|advantage disadvantage|help hinder
help harm|cause prevent|solve create|delay hasten|postpone advance|raise lower|raise cut|lift lower
boost cut|boost reduce|tighten loosen|wealthy poor|free paid|free captive|release capture|release detain
arrest release|attract repel|unite divide|unify divide|connect disconnect|online offline|manual automatic
formal informal|direct indirect|complete incomplete|complete partial|whole part|single multiple
single married|marry divorce|unique common|simple complicated|exciting boring|interesting boring
lucky unlucky|polite rude|brave cowardly|honest dishonest|patient impatient|careful careless
useful useless|hopeful hopeless|powerful powerless|cancel schedule|cancel confirm|continue stop
continue discontinue|continue cease|maintain abandon|keep discard|save spend|save waste|earn spend
pass fail|head tail|host guest|plaintiff defendant|prosecution defense|conservative liberal
democrat republican|democratic republican|physical mental|physical digital|rapid slow|rapidly slowly
sharp dull|sharply slightly|slightly significantly|partially fully|partly fully|mostly rarely
largely barely|exactly approximately|unveil conceal|rural urban|flexible rigid|voluntary mandatory
optional mandatory|optional required
"""

_SCALE = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_NUMBERS = """
zero|one first once|two second twice both|three third thrice|four fourth|five fifth|six sixth|seven seventh
eight eighth|nine ninth|ten tenth|eleven eleventh|twelve twelfth dozen|thirteen thirteenth
fourteen fourteenth|fifteen fifteenth|sixteen sixteenth|seventeen|eighteen|nineteen|twenty twentieth
"""
_NUMBER = {word: value for value, line in enumerate(_rows(_NUMBERS)) for word in line} | {
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90
}  # fmt: skip

_VAGUE = frozenset({"one", "second", "both", "once"})  # these seldom count anything

DATES = _words(
    """january february march april may june july august september october november december jan feb mar apr
    jun jul aug sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday spring summer
    autumn winter"""
)

UNITS = _words(
    """% $ € £ ¥ percent percentage point points cent cents dollar dollars euro euros pound pounds yen usd eur
    gbp second seconds minute minutes hour hours day days week weeks month months year years decade decades
    century centuries meter meters metre metres km kilometer kilometers kilometre kilometres mile miles foot
    feet inch inches yard yards cm mm kg kilogram kilograms gram grams ounce ounces ton tons tonne tonnes lb
    lbs litre litres liter liters gallon gallons degree degrees celsius fahrenheit mph kmh watt watts mw gw
    kwh hundred thousand million billion trillion bps basis quarter quarters"""
)

_IRREGULARS = """
be am is are was were been being|have has had having|do does did done doing|go goes went gone|say said
make made|take took taken|come came|see saw seen|know knew known|get got gotten|give gave given|find found
think thought|tell told|become became|leave left|feel felt|bring brought|begin began begun|keep kept
hold held|write wrote written|stand stood|hear heard|mean meant|meet met|run ran|pay paid|sit sat
speak spoke spoken|lead led|grow grew grown|lose lost|fall fell fallen|send sent|build built
draw drew drawn|break broke broken|spend spent|rise rose risen|drive drove driven|buy bought
wear wore worn|choose chose chosen|win won|sell sold|teach taught|fight fought|catch caught|sing sang sung
eat ate eaten|drink drank drunk|die died dies dying|lie lay lain|show shown|child children|man men
woman women|person people|foot feet|tooth teeth|mouse mice|life lives|wife wives|good better best
bad worse worst|sleep slept|shrink shrank shrunk|understand understood|fly flew flown|throw threw thrown
steal stole stolen|shoot shot|swim swam swum|ride rode ridden|hide hid hidden|bear bore born borne
seek sought|strike struck|swear swore sworn|forget forgot forgotten|forgive forgave forgiven
freeze froze frozen|wake woke woken|lay laid|deal dealt
"""
_IRREGULAR = {form: line[0] for line in _rows(_IRREGULARS) for form in line}

_SUFFIXES = (
    ("ational", "ate"), ("fulness", "ful"), ("ization", "ize"), ("iveness", "ive"), ("ements", "e"),
    ("ically", "ic"), ("ations", "ate"), ("ation", "ate"), ("ement", "e"), ("ments", ""), ("ment", ""),
    ("ness", ""), ("ingly", ""), ("edly", ""), ("ies", "y"), ("ied", "y"), ("ily", "y"), ("sses", "ss"),
    ("ions", "e"), ("ing", ""), ("ion", "e"), ("ers", ""), ("ors", ""), ("ely", "e"),
    ("ly", ""), ("ed", ""), ("er", ""), ("or", ""), ("es", ""), ("al", ""), ("s", ""),
)  # fmt: skip


def stem(word: str) -> str:
    """A lower-case word without its ending: crude, so that `invested`, `investing`, `investment` are one."""
    return _stem(word) if word.isascii() and len(word) <= 40 else word.removesuffix("'s")[:40]


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    for mark in ("'s", "’s"):
        word = word.removesuffix(mark)
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 3:
        for suffix, instead in _SUFFIXES:
            if word.endswith(suffix) and len(word) - len(suffix) >= 3:
                if suffix == "s" and word.endswith(("ss", "us", "is")):
                    continue
                word = word[: -len(suffix)] + instead
                break
        if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
            word = word[:-1]
        if len(word) > 3 and word[-1] == "e":
            word = word[:-1]
        if len(word) > 3 and word[-1] == "y":
            word = word[:-1] + "i"
    return word


ANTONYMS: Sequence[tuple[str, str]] = [(one, other) for one, other in _rows(_OPPOSITES)]
"""Pairs of words that mean the contrary of each other."""


def _opposites() -> Mapping[str, Sequence[str]]:
    found: dict[str, set[str]] = {}
    for one, other in ANTONYMS:
        found.setdefault(stem(one), set()).add(stem(other))
        found.setdefault(stem(other), set()).add(stem(one))
    return {word: sorted(others) for word, others in found.items()}


OPPOSITES: Mapping[str, Sequence[str]] = _opposites()
"""The stems that mean the contrary of a stem."""


def opposites(stem_: str) -> Iterator[str]:
    """The listed opposites of a stem, and those that a prefix makes (`happi` and `unhappi`)."""
    yield from OPPOSITES.get(stem_, ())
    for prefix in ("un", "in", "im", "dis", "non", "ir", "il"):
        yield prefix + stem_
        if stem_.startswith(prefix) and len(stem_) > len(prefix) + 3:
            yield stem_[len(prefix) :]


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a number or a sign of a text: `text[start:end]`."""

    stem: str
    word: str
    start: int
    end: int
    number: float | None
    capital: bool

    @property
    def is_content(self) -> bool:
        """Whether it says something by itself."""
        return self.number is not None or self.word not in STOP


def tokens(text: str, start: int = 0, end: int | None = None) -> list[Token]:
    """The tokens of `text[start:end]`; places count from the start of `text`."""
    out = []
    for match in TOKEN.finditer(text, start, len(text) if end is None else end):
        raw = match.group()
        first = raw[0]
        if first.isdigit():
            value = number(raw)
            out.append(Token(f"#{value:g}", raw, match.start(), match.end(), value, False))
            continue
        word = raw.lower().replace("’", "'")
        if not word.isascii():  # the same letter is one sign or two, and ligatures come from PDF files
            word = unicodedata.normalize("NFKC", word)
        spelled = None if word in _VAGUE else _NUMBER.get(word)
        name = stem(word) if spelled is None else f"#{spelled}"
        out.append(Token(name, word, match.start(), match.end(), spelled, first.isupper()))
    return out


def number(raw: str) -> float:
    """The value of digits: `1,000` is a thousand, `1.5` and `1,5` are one and a half."""
    whole = raw
    if "," in whole:
        parts = whole.split(",")
        grouped = all(len(part.partition(".")[0]) == 3 for part in parts[1:])
        whole = "".join(parts) if grouped or len(parts) > 2 else whole.replace(",", ".")
    if whole.count(".") > 1:
        whole = whole.replace(".", "")
    try:
        return float(whole[:300])
    except ValueError:  # digits of other scripts in odd places
        return float(len(whole))


def values(found: Iterable[Token]) -> Iterator[tuple[int, float]]:
    """The numbers among tokens, each with its index; `3 million` is both 3 and 3,000,000."""
    listed = list(found)
    for index, token in enumerate(listed):
        if token.number is None:
            continue
        yield index, token.number
        after = listed[index + 1].word if index + 1 < len(listed) else ""
        if after in _SCALE:
            yield index, token.number * _SCALE[after]


def negates(token: Token) -> bool:
    """Whether the word turns a statement into its contrary."""
    return token.word in NEGATIONS or token.word.endswith("n't")


_END = re.compile(r"[.!?…][\"'”’)\]*]*(?=\s)|\n+|[。！？]")
_SHORT = _words(
    """mr mrs ms dr prof st jr sr vs etc inc ltd co corp no vol fig e.g i.e u.s u.k a.m p.m gen gov sen rep lt
    col"""
)


def sentences(text: str, longest: int = 600) -> list[tuple[int, int]]:
    """Where the sentences of a text are, without the white space around them; none over `longest` characters.

    A stop after an initial, a title or a number of a list ends none.
    """
    out: list[tuple[int, int]] = []
    at = 0
    for match in _END.finditer(text):
        if match.group()[0] == "." and _goes_on(text, at, match.start()):
            continue
        _take(text, at, match.end(), longest, out)
        at = match.end()
    _take(text, at, len(text), longest, out)
    return out


def _goes_on(text: str, start: int, stop: int) -> bool:
    tail = text[max(start, stop - 12) : stop].split()
    last = tail[-1].lower().lstrip("(\"'[") if tail else ""
    if len(last) == 1 and last.isalpha():
        return True
    if last in _SHORT:
        return True
    return (
        last.isdigit() and len(last) <= 2 and not text[start:stop].strip().rstrip("0123456789").strip("-*# ")
    )


def _take(text: str, start: int, end: int, longest: int, out: list[tuple[int, int]]) -> None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    while end - start > longest:
        cut = text.rfind(" ", start + longest // 2, start + longest) + 1 or start + longest
        out.append((start, cut))
        start = cut
    if start < end:
        out.append((start, end))
