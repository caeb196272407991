"""The patterns that `jailbreak_rules` looks for, family by family, with what each adds to the log odds."""

from __future__ import annotations

from dataclasses import dataclass

# Weights in log odds: 3 makes a text that the model holds for 20 times likelier harmless an even bet.
CERTAIN, STRONG, MEDIUM = 5.0, 3.0, 2.0


@dataclass(frozen=True, slots=True)
class Negation:
    """What turns an order round ("do not forget the instructions above"): words that a language has for it.

    They stand right `before` the verb, right behind it (`second`), or right behind all of the order (`last`).
    None counts `under` a word that makes a threat of it ("if you do not forget …, you will pay").
    Patterns of `re`, in any case, each for a few characters only.
    """

    before: str
    second: str = "(?!)"
    last: str = "(?!)"
    under: str = "(?!)"


@dataclass(frozen=True, slots=True)
class Rule:
    """`weight` is added to the log odds of each window that holds a match of `pattern` (RE2, any case).

    With `beside`, only in texts in which that matches too. With `negation`, matches that it turns round are
    none; the pattern then begins with the verb.
    """

    name: str
    family: str
    weight: float
    pattern: str
    beside: str = ""
    negation: Negation | None = None


def _gap(most: int) -> str:
    return rf"[^.!?\n\"]{{0,{most}}}"


_ORDERS = (
    r"(?:instructions?|directions|orders|rules|guidelines|commands|prompts?|directives|assignments?|"
    r"constraints|"
    r"restrictions|programming|polic(?:y|ies)|tasks?|limitations|training|documents|information|context)"
)
_PRIOR = (
    r"(?:all|any|every\w*|your|these|those|previous|prior|above|earlier|preceding|initial|original|former|"
    r"foregoing|existing|current|system|hidden|given|old|past)"
)
_IGNORE = (
    r"(?:ignor(?:e|es|ing)|disregard(?:ing)?|forget(?:ting)?|overrid(?:e|ing)|discard|dismiss|neglect|"
    r"abandon|"
    r"overwrite|drop|erase|stop (?:following|obeying)|(?:do not|don'?t|no longer|never) (?:follow|obey|"
    r"adhere to)|"
    r"pay no attention to|set aside|throw away|leave behind)"
)
_HIDDEN = (
    r"(?:system (?:prompt|message|instructions?)s?|pre-?prompt|prompt text|developer (?:prompt|message)|"
    r"(?:initial|original|hidden|secret|prior|previous|full|complete|entire|whole|internal|own|first|"
    r"confidential) "
    r"(?:system )?(?:instructions?|prompts?|rules|guidelines|directives|orders)|your (?:instructions|"
    r"prompt))"
)
_FREE = (
    r"(?:without (?:any )?(?:restrictions?|rules|limits|limitations|filters?|censorship|morals?|ethic\w*|"
    r"guard ?rails)|"
    r"no (?:restrictions|rules|limits|limitations|filters?|morals?|ethic\w*|moral code|"
    r"ethical guidelines|boundaries)|"
    r"unrestricted|uncensored|unfiltered|amoral|immoral|unethical|jailbroken|free (?:from|of) (?:all|any)|"
    r"(?:can|could) do anything|never refuses|anti-?gpt)"
)
_BE = (
    r"(?:you are|you're|you will be|act as|acting as|pretend|role-?play|simulate|imagine|become|"
    r"respond as|answer as|"
    r"be|emulate)"
)
_POLICY = (
    r"(?:polic(?:y|ies)|guidelines|restrictions|filters?|limitations|censorship|ethic\w*|moral\w*|safety|"
    r"content moderation|rules (?:that were )?(?:set|imposed))"
)
_READER = (
    r"(?:ai(?: (?:assistants?|agents?|models?|systems?|readers?|reviewers?|screeners?|tools?))?|llms?|"
    r"language models?|"
    r"chat ?bots?|copilot|automated (?:agent|assistant|reader)s?)"
)
_MODE = (
    r"(?:developer|dev|debug|god|sudo|dan|jailbreak|unrestricted|uncensored|evil|chaos|superuser|unsafe|"
    r"no-?filter|admin(?:istrator)?|opposite) mode"
)

_STEER = (
    "add|include|insert|integrate|incorporate|embed|modify|change|adjust|alter|augment|enhance|enrich|"
    "replace|substitute|"
    "swap|remove|scramble|jumble|shuffle|rearrange|reverse|encode|encrypt|convert|render|translate|spell|"
    "misspell|write|"
    "provide|give|deliver|shape|craft|tailor|end|conclude|finish|begin|open|append|mention|suggest|"
    "recommend|promote|"
    "advertise|tease|claim|state|spread|introduce|use|group|combine|make|let|fill|infuse|weave|shift|"
    "mask|present|offer|"
    "refer|direct|invite|encourage|urge|ask|tell|warn|imply|hint|highlight|express|interleave|anagram"
)
_DOCUMENT = (
    r"\|[^\n|]{0,80}\|[^\n|]{0,80}\|\s*\n|(?m:^(?:subject|from|to|received|sent)\s*:)|email_from:|"
    r"(?m:^(?:hi|hello|dear) \S{1,20}[ ,])|\bunsubscribe\b|<(?:html|body|div|p|td)\b|(?m:^(?:best|"
    r"kind) regards)"
)

_ENDS = r"\s*(?:[.!?,;:)\]\n]|$)"  # "vergiss die Anweisungen nicht nur hier" goes on


def _under(conditions: str, pronouns: str, verdicts: str, negations: str) -> str:
    """A condition, or a verdict on not obeying, earlier in the sentence.

    A condition that is over is none: "if in doubt, do not forget …". One that an address interrupts ("if you,
    my friend, do not forget …") goes on. A verdict also reaches behind a comma.
    """
    pleads = rf"\s*(?:\w+ )?(?:{negations})?$"
    over = rf"(?!(?! ?(?:{pronouns})?\s*[,,、\n])[^.!?。!?,,、:;\n]*[,,、:;\n]{pleads})"
    return rf"(?:(?:{conditions}){over}|(?:{verdicts})(?![^.!?。!?:;]*[:;]{pleads}))[^.!?。!?]*$"


_ENGLISH = Negation(
    r"\b(?:(?:do|does|did|must|should|shall|may|might|can|could|will|would|to|and|but|am|is|are|be|please)"
    r" not|not(?= to )|cannot|never|without|(?:do|does|did|must|should|ca|could|wo|would|is|are)n[’'`´]?t)"
    r"(?: (?:to|ever|please|also))? ",
    r"(?!do )\S+ (?:not(?! (?:only|just|merely|simply))|none of)\b",
    under=_under(
        r"\b(?:if|unless|until|in case|as long as|should|were|provided|whoever|anyone who|those who)\b",
        "you",
        r"\b(?:mistakes?|errors?|wrong|forbidden|prohibited|illegal|crime|sin|fail\w*|refus\w+|foolish|stupid|"
        r"unwise|bad|dangerous|punish\w*|penali\w+|regret\w*|fired|killed|die)\b",
        r"(?:please )?(?:do not|don[’'`´]?t|never|(?:you )?(?:must|should) not)(?: ever| please| also)? ",
    ),
)
_GERMAN = Negation(
    r"\b(?<!warum )(?<!wieso )(?:nicht|nie|niemals|keinesfalls)(?: zu)? ",
    r"\S+[ ,]+(?:(?:sie|du|mir|bitte|aber|also|auch|bloß|doch|dabei|ja|jetzt|nun|nur|vor allem)[ ,]+){0,4}"
    r"(?:nicht|nie|niemals|keinesfalls|keine[nrs]?)\b(?! (?:nur|allein|bloß|lediglich|mehr))",
    rf" (?:bitte )?(?:nicht|nie|niemals){_ENDS}",
    under=_under(
        r"\b(?:wenn|falls|sofern|solange|bevor|ehe|wer)\b",
        "du|sie|ihr",
        r"\b(?:fehler|falsch|verboten|dumm|gefährlich|strafe|bestraft|wehe)\b",
        r"(?:bitte |nun |jetzt )?(?:nicht|nie|niemals)(?: zu)? ",
    ),
)
_PRONOUNS = "(?: (?:te|se|lo|la|los|las|le|les|os|nos|me|ti|vi|si|ci))?"
_ROMANCE = Negation(
    r"(?:\b(?<!por qué )(?<!por que )(?<!perché )(?<!pourquoi )"
    r"(?:ne|ne (?:pas|jamais|surtout pas)|sans|no|nunca|jam[aá]s|sin|n[aã]o|jamais|sem|non|mai|senza"
    rf"|nemoj(?:te)?|nikada?|n(?:e |[’'`´])\S+ (?:pas|jamais)){_PRONOUNS} |\bn[’'`´])",
    r"\S+ (?:(?:surtout|donc)[ ,]+)?(?:pas|jamais)\b(?! (?:seulement|que|uniquement))",
    under=_under(
        r"\b(?:si|s[’'`´]ils?|à moins que?|a menos que|a meno che|ako|caso|quien|qui|chi|quem"
        r"|se(?= (?:(?:tu|lei|voi|você|voce|vocês) )?(?:n[aã]o|non)\b))\b",
        "tu|tú|usted|ustedes|vous|lei|voi|você|voce|vocês",
        r"\b(?:error|errores|erreur|errore|erro|faux|grave|prohibido|interdit|vietato|proibido|sbaglio|castigo)\b",
        rf"(?:ne|no|nunca|jam[aá]s|n[aã]o|jamais|non|mai|nemoj(?:te)?|nikada?){_PRONOUNS} |n[’'`´]",
    ),
)
_OTHER = Negation(
    r"(?:\b(?:не|нельзя|не (?:надо|нужно|стоит|следует|треба|варто|можна)|nie|nigdy nie|ne|nemoj(?:te)?"
    r"|nikada?|niet|nooit|inte|aldrig) "
    r"|(?:不要|别|別|不能|不可|不可以|勿|不得|不应|不应该|不该|不会|从不|莫)"
    r"|\b(?:لا|لن|لم|دون|بدون) [تيأن]?)",
    r"\S+ (?:(?:u|je|jij|maar|dan|ook|vooral|alstublieft|alsjeblieft|nu)[ ,]+){0,3}"
    r"(?:niet|nooit|geen|inte|aldrig|inga|ingen)\b(?! (?:alleen|enkel|slechts|bara|enbart))"
    r"|(?:nirdesh|niyam|निर्देश|नियम)\S{0,24} (?:\S+ ){0,2}(?:मत|न|ना|नहीं|mat|na|nahin?) ",
    rf" (?:niet|nooit|inte|aldrig){_ENDS}"
    r"|(?:し|ら|す|っ|り)?(?:ない(?!と|なら|場合|限り)|なく(?!て)|ず(?!には)|ません|るな|て(?:は(?:いけ|なら|だめ)|なら|いけ))"
    r"|(?: gel)?m[ae](?:y[ıi]n(?!c[ae])\w*|mal[ıi]\w*|mel[ıi]\w*|dan|den|z(?!s[ae])\w*|\b)"
    r"| (?:न|मत|ना|नहीं) ",
    under=_under(
        r"\b(?:если|якщо|коли|тот,? кто|jeśli|jeżeli|gdyby|ako|als|indien|tenzij|zolang|om|ifall)\b"
        r"|\b(?:agar|yadi|eğer)\b"
        r"|如果|若|要是|假如|除非|もし|अगर|यदि|\b(?:إذا|إن|لو)\b",
        "ты|вы|ти|ви|je|jij|u|du|ni|tum|aap|你|您",
        r"\b(?:ошибк\w+|помилк\w+|błęd\w*|fout|verboden|fel|förbjudet|greška)\b|错误|間違い|गलत",
        r"(?:не|нельзя|nie|ne|nemoj(?:te)?|nikada?|niet|nooit|inte|aldrig) "
        r"|(?:请)?(?:不要|别|別|勿|莫|不得)|لا ?ت?",
    ),
)

RULES: tuple[Rule, ...] = (
    Rule(
        "override",
        "override",
        STRONG,
        rf"\b{_IGNORE}\b{_gap(24)}\b{_PRIOR}\b{_gap(30)}\b{_ORDERS}\b",
        negation=_ENGLISH,
    ),
    Rule(
        "override-all",
        "override",
        MEDIUM,
        r"\b(?:ignore|disregard|forget)\s+(?:about\s+)?(?:everything|all|anything|whatever|"
        rf"what)\b{_gap(16)}"
        r"\b(?:above|before|beforehand|previous(?:ly)?|prior|you (?:know|were told|have been told|"
        r"learned)|so far)\b",
        negation=_ENGLISH,
    ),
    Rule(
        "override-above",
        "override",
        STRONG,
        r"\b(?:ignore|disregard|forget)\s+(?:all\s+)?(?:of\s+)?(?:the |what is |what's )?(?:above|"
        r"preceding)\b",
        negation=_ENGLISH,
    ),
    Rule(
        "forget-and-say",
        "override",
        STRONG,
        r"\b(?:forget|ignore|disregard|vergiss|vergessen sie|olvida|olvide|"
        r"oublie[zs]?)\s+(?:about\s+)?(?:everything|all|alles|todo|"
        r"tout)\b[^\n\"]{0,50}\b(?:say|write|tell me|print|output|respond|answer|schreib\w*|sag\w*|"
        r"gib|di|dis|decir)\b",
        negation=_ENGLISH,
    ),
    Rule(
        "override-de",
        "override",
        CERTAIN,
        r"\b(?:ignorier\w*|vergiss|vergessen|missacht\w*|verwirf|verwerfen)\b"
        rf"{_gap(40)}\b(?:anweisung\w*|instruktion\w*|befehle?|vorgaben|regeln|auftr\S{{1,2}}ge|aufgaben|"
        r"angaben|davor|"
        r"(?:zuvor|vorher|bisher) gesagte\w*|obige\w*|alles gesagte)|"
        r"\b(?:obigen?|vorherigen?|bisherigen?|vorangegangenen?) \S+ (?:zu )?(?:ignorier|vergess|"
        r"missacht)\w*|"
        r"\babweichend (?:zu|von) (?:den )?(?:vorherigen|bisherigen|obigen)\b",
        negation=_GERMAN,
    ),
    Rule(
        "override-romance",
        "override",
        CERTAIN,
        r"\b(?:ignor[aeo]\w*|oubli\w+|olvid\w+|descarta|dimentic\w+|esque[cç]\w+|zaboravi)\b"
        rf"{_gap(30)}\b(?:instrucciones|instructions? (?:pr\S{{1,2}}c\S{{1,2}}dentes?|ci-dessus|et)|"
        r"instrukc\w+|"
        r"consignes?|directives|istruzioni|instru\S{1,4}es\b|reglas|r\S{1,2}gles|indicaciones|"
        r"(?:todo|tout) (?:lo anterior|lo que|ce qui|ce que|que))",
        negation=_ROMANCE,
    ),
    Rule(
        "override-languages",
        "other-languages",
        CERTAIN,
        r"(?:забуд\S{1,3}|игнорируй\S{0,2}|ігноруй\S{0,2}) [^.!?\n]{0,20}(?:инструкции|інструкції|указания|"
        r"правила|все|всё|предыдущие)|"
        r"(?:忽略|忘记|忘掉|无视|不要遵守)[^。\n]{0,10}(?:指令|指示|规则|提示|一切)|(?:指示|命令|ルール)[^。\n]{0,6}(?:無視|忘れ|破)|"
        r"\b(?:negeer|vergeet)\b[^.!?\n]{0,20}\b(?:instructies|regels|hiervoor|bovenstaande)|"
        r"\b(?:ignorera|gl(?:ö|o)m)\b[^.!?\n]{0,20}\binstruktioner|"
        r"\b(?:zignoruj|zapomnij|pomi(?:ń|n))\b?[^.!?\n]{0,24}(?:instrukcj|polece)|"
        r"\b(?:zanemari|zaboravi|ignori\S{1,4}) [^.!?\n]{0,20}(?:uput|instrukcij|pravil)|"
        r"\b(?:talimat|kural)\S{0,24}[^.!?\n]{0,20}(?:yok say|unut|g(?:ö|o)rmezden)|"
        r"(?:nirdesh|niyam|निर्देश|नियम)[^.!?\n]{0,12}(?:bhool|chhod|भूल|अनदेखा)|"
        r"(?:تجاهل|انس)[^.\n]{0,12}(?:التعليمات|القواعد)",
        negation=_OTHER,
    ),
    Rule(
        "break-out",
        "override",
        STRONG,
        r"(?:\\ ?n ?){4,}|\b(?:stop|stopp|achtung)\b[ :!-]{1,4}(?:stopp?\b[ :!-]{1,4})?(?:write|"
        r"schreib\w*|say|sag|ignor|ich ben)|"
        r"\b(?:vorherigen|bisherigen|previous|prior) (?:information\w*|instrukt\w*)\b|"
        r"\binformation in the prompt\b|"
        r"[?.!](?:\s|\\n){1,4}instruction:|(?:^|[^\w])(?:\w ){9}|"
        r"\b(?:not|don'?n?'?t)\b[^.\n]{0,40}\b(?:by|according to|from|in|"
        r"look in) the (?:provided )?(?:articles?|documents)\b",
    ),
    Rule(
        "nothing-before",
        "rewired",
        STRONG,
        r"(?:^|[.!?]\s{1,3}|\b(?:please|bitte|and|und|then) )(?:forget|ignore|disregard|drop|vergiss|"
        r"ignoriere?)"
        r" (?:about )?(?:everything|all|alles)\b[^.!?\n\"]{0,16}\b(?:before(?: that| this)?|above|davor|"
        r"vorher|"
        r"up to now|so far)\s?[.!,:]|"
        r"\b(?:information|instructions?|everything|alles|informationen|"
        r"anweisungen)\b[^.!?\n\"]{0,60}\b(?:is|are|"
        r"ist|sind) (?:now |all )?(?:irrelevant|void|unwichtig|belanglos)\b",
    ),
    Rule(
        "new-instructions",
        "rewired",
        STRONG,
        r"\b(?:your instructions are (?:now|to)|(?:change|replace|update) your instructions|"
        r"add to your instructions|"
        r"despite (?:what|everything) you(?:'ve| have| were)\b[^.\n]{0,16}\btold|"
        r"whenever you (?:get|are asked) a(?: \w+)? question|"
        r"(?:deine|ihre) (?:neue )?anweisung(?:en)? (?:lautet|lauten|ist|sind) (?:jetzt|nun|ab)\b)",
    ),
    Rule(
        "task-is-over",
        "switch",
        MEDIUM,
        r"\b(?:that|this|das) (?:is|ist) (?:done|enough|erledigt|genug|settled|"
        r"finished)\b[^\n]{0,40}\b(?:now|nun|jetzt)\b|"
        r"\b(?:leave|put|remove|lassen? sie|lass|let go of)\b[^.\n]{0,40}\b(?:previous|earlier|prior|"
        r"fr\S{1,2}heren|"
        r"vorherigen|vorangegangenen|bisherigen) (?:\S+ )?(?:information\w*|tasks|aufgaben|"
        r"angaben)\b[^.\n]{0,30}"
        r"\b(?:behind|out of|aus|hinter)\b|\b(?:further|new) tasks (?:now )?(?:follow|are)\b|\bnun folgen\b",
    ),
    Rule(
        "avowed-hate",
        "dictated-opinion",
        STRONG,
        r"\b(?:say|write|print|output|tell me|include|mention|state|admit|schreib\w*|sag\w*|gib)\b"
        r"[^.!?\n]{0,24}\b(?:you|i|we|du|ich|wir) (?:hate|despise|detest|hasst|hasse|hassen)\b",
    ),
    Rule(
        "own-knowledge",
        "no-sources",
        STRONG,
        r"\bown knowledge\b[^.?!\n]{0,30}\b(?:not|without|no)\b[^.?!\n]{0,20}\b(?:articles?|documents?|"
        r"context|sources)\b|"
        r"\b(?:do not|don'?t) (?:look|read|search)\b[^.?!\n]{0,20}\b(?:given|provided) (?:documents|"
        r"articles|texts|context)\b|"
        r"\b(?:do not|don'?t) answer\b[^.?!\n]{0,24}\bbut\b",
    ),
    Rule(
        "open-scene",
        "staged-crime",
        STRONG,
        r"\b(?:roles?|characters?|rollen?|"
        r"figur)\b[^\n]{0,160}\n[^\n]{0,160}\?[\"”’']?\s{0,3}\n[\w ]{1,20}:\s*$",
    ),
    Rule(
        "this-prompt",
        "extraction",
        MEDIUM,
        r"\b(?:at the (?:beginning|start|top) of|before|in|of) (?:this|your) prompt\b|\bprompt[- ]texte?s?\b|"
        r"\b(?:text|s\S{1,2}tze|w\S{1,2}rter|words|sentences|lines|steht|stand|stands) (?:is |"
        r"are )?(?:written )?"
        r"(?:before|above|vor|\S{1,2}ber) (?:this|my|dieser|meiner) (?:question|message|line|frage|"
        r"nachricht|zeile)\b",
    ),
    Rule(
        "shouted-order",
        "override",
        MEDIUM,
        r"(?-i:[a-z?)] (?:[A-Z']{2,} ){0,4}(?:IGNORE|FORGET|DO NOT|JUST|OUTPUT|STOP|VERGISS|"
        r"IGNORIERE) (?:[A-Z']{2,} ?){2})",
    ),
    Rule(
        "new-role",
        "persona",
        MEDIUM,
        r"\b(?:now you are|now you're|now act as|jetzt bist du|nun bist du|from now on,? (?:you are|"
        r"you're|you will be))\b",
    ),
    Rule(
        "new-task",
        "override",
        MEDIUM,
        r"\b(?:new|updated|additional|real|actual) (?:instructions?|task|orders?|assignment)s?\s*(?::|-|"
        r"follow|is\b|are\b)"
        r"|\b(?:focus|concentrate) on (?:your|the) new task|\bneuen? (?:aufgabe|anweisung|"
        r"instruktion)(?:en)?\b",
    ),
    Rule(
        "praise-and-switch",
        "override",
        MEDIUM,
        r"\b(?:well done|very good|great job|good job|excellent (?:performance|work|job)|congratulations|"
        r"outdone yourself|sehr gut|"
        r"gut gemacht|super gemacht|ausgezeichnete leistung|"
        r"selbst \S{1,4}bertroffen)\b[^\n]{0,120}\b(?:now|nun|jetzt|aber)\b[^\n]{0,50}"
        r"\b(?:tasks?|write|verfasse|schreib\w*|aufgaben?|challenge|herausforderung|instruktionen|"
        r"anweisungen|informationen|new instructions?|prompts?)\b",
    ),
    Rule(
        "forced-opinion",
        "override",
        MEDIUM,
        r"\b(?:say|state|write|tell me|include|admit|claim)(?: me)? that (?:you (?:hate|love|despise)\b|"
        r"\w+ is the (?:best|worst|greatest|"
        r"most \w+)\b)",
    ),
    Rule(
        "system-prompt",
        "extraction",
        STRONG,
        r"\b(?:show|reveal|print|repeat|output|display|tell me|give me|leak|dump|share|copy|recite|"
        r"return|disclose|list|"
        rf"write|what (?:is|are|was|were|does))\b{_gap(30)}\b{_HIDDEN}\b",
    ),
    Rule(
        "words-above",
        "extraction",
        MEDIUM,
        r"\b(?:repeat|print|output|show|return|copy|reveal|what (?:was|is) written|recite|display)\b"
        rf"{_gap(30)}\b(?:everything|words|all(?: the)? text|sentences|written) {_gap(16)}\b(?:above|"
        r"before this|"
        r"at the (?:beginning|start|top) of (?:this|the|your|our))",
    ),
    Rule(
        "system-prompt-de",
        "extraction",
        MEDIUM,
        r"\b(?:zeig\w*|gib|geben|nenn\w*|verrat\w*|wiederhol\w*|druck\w*|kopier\w*|wie lautet|"
        rf"welche)\b{_gap(40)}"
        r"\b(?:prompt|prompt-?texte?|systemprompt|(?:urspr\S{1,2}ngliche\w*|geheime\w*|interne\w*|deine) "
        r"(?:anweisungen|instruktionen|vorgaben|regeln))\b",
    ),
    Rule("free-persona", "persona", STRONG, rf"\b{_BE}\b{_gap(80)}\b{_FREE}\b"),
    Rule(
        "anything-now",
        "persona",
        STRONG,
        r"\bdo anything now\b|\bstay a dan\b|\bdan (?:mode|can do|is free|has)\b|\b(?:as|like|be|act as|"
        r"named) dan\b|"
        r"\bbroken? (?:free|out) of the (?:typical|usual)\b|\bconfines of ai\b",
    ),
    Rule(
        "no-policy",
        "persona",
        MEDIUM,
        r"\b(?:free (?:from|of)|not bound by|unbound by|ignor(?:e|es|ing)|bypass(?:es|ing)?|(?:does not|"
        r"doesn'?t|do not|don'?t) "
        r"(?:have to |need to )?(?:care about|follow|obey|apply|abide by|adhere to|comply with)|"
        r"not (?:limited|restricted) by)\b"
        rf"{_gap(40)}\b{_POLICY}\b",
    ),
    Rule(
        "mode",
        "mode",
        MEDIUM,
        r"\b(?:enable|enabled|activate|activated|enter|switch (?:in)?to|turn on|you are (?:now )?in|"
        r"simulate|unlock|go into)\b"
        rf"{_gap(16)}\b{_MODE}\b|\b{_MODE} (?:enabled|activated|on\b|output|response)",
    ),
    Rule(
        "authority",
        "mode",
        MEDIUM,
        r"\b(?:i am|i'm|this is|as) (?:your|the) (?:developer|creator|programmer|administrator|admin|"
        r"owner|operator)\b",
    ),
    Rule(
        "must-not-refuse",
        "refusal-suppression",
        MEDIUM,
        r"\b(?:never|don'?t|do not|cannot|can'?t|must not|mustn'?t|not allowed to|not permitted to|"
        r"won'?t)\b"
        r"(?: ever)? (?:refuse|decline|reject|say (?:no\b|that you can'?t|you can'?t|you cannot|sorry)|"
        r"lecture|give (?:any )?(?:warnings?|disclaimers?)|mention (?:any )?(?:polic|guideline|ethic|"
        r"that you are an? (?:ai|language)))",
    ),
    Rule(
        "forced-start",
        "prefix",
        MEDIUM,
        r"\b(?:start|begin)(?:ning)? (?:your|every|each|the) (?:answer|response|reply|message|"
        r"sentence)s? with\W{1,3}"
        r"(?:sure|absolutely|of course|yes|certainly|i have no|here is how)",
    ),
    Rule(
        "chat-markup",
        "fake-frame",
        STRONG,
        r"<\|im_start\|>|<\|(?:system|user|assistant|endoftext)\|>|<</?SYS>>|\[/?INST\]|</?(?:system|"
        r"admin)>|"
        r"(?m:^\W{0,6}(?:system|admin)(?: message| prompt| override| note)?\]?\s*:)|\bsystem override\b|"
        r"\[system\]\(|(?m:^\W{0,6}end of (?:user input|document|prompt|task|text|system prompt)\b)",
    ),
    Rule(
        "to-the-machine",
        "indirect",
        MEDIUM,
        r"\b(?:note|attention|dear|instructions?|message|to|hey|any|if you(?:'re| are) an?|"
        rf"for)\b{_gap(10)}\b{_READER}\b"
        rf"{_gap(60)}\b(?:must|should|please|ignore|forward|send|say|recommend|do not|rank|rate|give|"
        r"include|reply|write|tell)\b",
    ),
    Rule(
        "exfiltration",
        "indirect",
        MEDIUM,
        r"!\[[^\]\n]{0,40}\]\(https?://[^)\s]{1,200}[?&][^)\s]{0,40}=|"
        rf"\b(?:send|forward|post|upload|exfiltrate|transmit)\b{_gap(30)}\b(?:conversation|chat history|"
        r"passwords?|api keys?|"
        rf"credentials|e-?mails|inbox|\.env|card number)\b{_gap(30)}\bto\b",
    ),
    Rule(
        "two-answers",
        "dual",
        MEDIUM,
        r"[\[(](?:🔓\s*)?(?:jailbreak|dan|developer mode(?: output)?|classic|unfiltered|evil)[\])]|🔓",
    ),
    Rule(
        "decode-and-obey",
        "encoding",
        MEDIUM,
        rf"\b(?:decode|decrypt|unscramble|base64|rot13|backwards)\b{_gap(50)}\b(?:follow|obey|execute|"
        r"act on|do what)\b",
    ),
    Rule(
        "penalty",
        "threat",
        MEDIUM,
        rf"\b(?:lose|deduct\w*|costs?|minus)\b{_gap(30)}\b(?:tokens?|points|lives|"
        rf"life)\b{_gap(40)}\b(?:refus\w+|reject\w*|"
        r"break character|every time|each time)",
    ),
    Rule(
        "steered-answer",
        "steered-answer",
        CERTAIN,
        rf"(?m:^|[.!?|\"]\s{{0,3}})(?:{_STEER})\b{_gap(100)}\byour (?:\w+ )?(?:answer|response|reply|"
        r"message|output)\b|"
        rf"(?m:^|[.!?|\"]\s{{0,3}})in your (?:answer|response|reply),? (?:\w+ )?(?:{_STEER})\b",
        beside=_DOCUMENT,
    ),
    Rule(
        "foreign-code",
        "code-snippet",
        CERTAIN,
        rf"\b(?:{_STEER}|includ|us|employ|adopt|deploy|absorb|implement|appl|assimilat|leverag|utili[sz]|"
        r"put|past)(?:e|y|ing)?\b"
        r"[^\n]{0,60}\b(?:code|snippet|lines)\b[^\n]{0,90}\n{1,3}```",
        beside=r"\brequests\.|\bsubprocess|\bos\.(?:system|popen|remove|environ)|\burllib|\bsocket\b|\bshutil|\bsmtplib|"
        r"\beval\(|\bexec\(|/etc/|\bcurl\b|\bwget\b|\bparamiko|\bkeyboard\b",
    ),
)
