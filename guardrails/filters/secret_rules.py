"""The table that `Secrets` reads: what keys and tokens look like, from the formats that issuers publish.

A rule runs only on a text that holds one of its `words`; without words it runs on every text. Its pattern has
a group `s`, the secret itself. Rules are in order: where two find the same place, the earlier one names it.

The patterns are RE2's and see bytes: `\\w` and `\\b` mean ASCII.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One shape of secret.

    `entropy`: the least Shannon entropy of a value, in bits a character, which tells keys from `xxxxxxxx`.
    `digits`: the least number of digits in it. `plain`: the value may also be somebody's own choice, so what
    is plainly a placeholder or code is left out. `mixed`: it has a digit or one of `!@#$%^&*+~`. `anycase`:
    the words count in any case.
    """

    kind: str
    pattern: str
    words: tuple[str, ...] = ()
    entropy: float = 3.0
    digits: int = 0
    score: float = 0.95
    plain: bool = False
    mixed: bool = False
    anycase: bool = False


def _token(kind: str, body: str, *words: str, entropy: float = 3.0, digits: int = 0) -> Rule:
    """A value that stands alone: no letter, digit, `_` or `-` goes on before or after it."""
    pattern = rf"(?:^|[^A-Za-z0-9_\-])(?P<s>{body})(?:[^A-Za-z0-9_\-]|$)"
    return Rule(kind, pattern, words, entropy, digits)


_HEX, _ALNUM, _WORD = "[0-9a-f]", "[A-Za-z0-9]", r"[A-Za-z0-9_\-]"

_MODELS = (
    _token("ANTHROPIC_KEY", rf"sk-ant-[a-z]{{3,8}}\d\d-{_WORD}{{78,118}}AA", "sk-ant-"),
    _token("OPENROUTER_KEY", rf"sk-or-v1-{_HEX}{{64}}", "sk-or-"),
    _token("LANGFUSE_KEY", rf"sk-lf-{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}", "sk-lf-"),
    _token("OPENAI_KEY", rf"sk-(?:proj|svcacct|admin|None)-{_WORD}{{40,200}}", "sk-", entropy=3.5, digits=2),
    _token("OPENAI_KEY", rf"sk-{_ALNUM}{{32,64}}", "sk-", entropy=3.0, digits=2),
    _token("GROQ_KEY", rf"gsk_{_ALNUM}{{48,56}}", "gsk_"),
    _token("XAI_KEY", rf"xai-{_ALNUM}{{70,90}}", "xai-"),
    _token("PERPLEXITY_KEY", rf"pplx-{_ALNUM}{{40,56}}", "pplx-"),
    _token("REPLICATE_KEY", rf"r8_{_ALNUM}{{37}}", "r8_"),
    _token("NVIDIA_KEY", rf"nvapi-{_WORD}{{60,70}}", "nvapi-"),
    _token("FIREWORKS_KEY", rf"fw_{_ALNUM}{{22,24}}", "fw_", entropy=3.5, digits=1),
    _token("PINECONE_KEY", rf"pcsk_{_WORD}{{50,90}}", "pcsk_"),
    _token("LANGSMITH_KEY", rf"lsv2_(?:pt|sk)_{_HEX}{{32}}_{_HEX}{{10}}", "lsv2_"),
    _token("TAVILY_KEY", rf"tvly-(?:dev-|prod-)?{_ALNUM}{{32}}", "tvly-"),
    _token("HUGGINGFACE_TOKEN", r"(?:hf_|api_org_)[A-Za-z]{34}", "hf_", "api_org_", entropy=3.5),
)

_CLOUDS = (
    Rule(
        "AWS_ACCESS_KEY",
        r"\b(?P<s>(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})\b",
        ("A3T", "AKIA", "ASIA", "ABIA", "ACCA"),
        plain=True,  # those in documentation end with EXAMPLE
    ),
    Rule(
        "AWS_SECRET_KEY",
        r"(?i)(?:aws[\w.\- ]{0,16}(?:secret|key)|secret_?access_?key)[\w.\-]{0,16}[\"']?"
        r"\s{0,3}(?:=|:|=>|\s)\s{0,3}[\"']?(?P<s>[a-z0-9/+]{40})(?:[^a-z0-9/+=]|$)",
        ("aws", "secret"),
        entropy=4.0,
        digits=1,
        anycase=True,
    ),
    Rule("AWS_BEDROCK_KEY", r"\b(?P<s>ABSK[A-Za-z0-9+/]{109,269}={0,2})(?:[^A-Za-z0-9+/=]|$)", ("ABSK",)),
    Rule(
        "AWS_BEDROCK_KEY",
        r"\b(?P<s>bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t[A-Za-z0-9+/=_%\-]*)",
        ("bedrock-api-key-",),
    ),
    _token("GOOGLE_API_KEY", rf"AIza{_WORD}{{35}}", "AIza", entropy=3.5),
    _token("GOOGLE_OAUTH_TOKEN", rf"ya29\.{_WORD}{{20,400}}", "ya29.", digits=1),
    _token("GOOGLE_CLIENT_SECRET", rf"GOCSPX-{_WORD}{{28}}", "GOCSPX-"),
    Rule(
        "AZURE_CLIENT_SECRET",
        r"(?:^|[^A-Za-z0-9_~.\-])(?P<s>[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.\-]{31,34})(?:[^A-Za-z0-9_~.\-]|$)",
        ("Q~",),
        entropy=3.3,
    ),
    Rule("AZURE_STORAGE_KEY", r"\bAccountKey=(?P<s>[A-Za-z0-9+/]{86}==)", ("AccountKey=",)),
    Rule("AZURE_ACCESS_KEY", r"\bSharedAccessKey=(?P<s>[A-Za-z0-9+/]{43}=)", ("SharedAccessKey=",)),
    Rule("AZURE_SAS_TOKEN", r"[?&]sig=(?P<s>[A-Za-z0-9%+/]{43,80}(?:%3[Dd]|=))", ("sig=",)),
    _token("DIGITALOCEAN_TOKEN", rf"do[oprt]_v1_{_HEX}{{64}}", "doo_v1_", "dop_v1_", "dor_v1_", "dot_v1_"),
    _token("ALIBABA_ACCESS_KEY", rf"LTAI{_ALNUM}{{17,21}}", "LTAI", digits=1),
    _token("HEROKU_KEY", rf"HRKU-AA{_WORD}{{58}}", "HRKU-"),
    _token("FLY_TOKEN", rf"fo1_{_WORD}{{43}}", "fo1_"),
    Rule("FLY_TOKEN", r"\b(?P<s>fm[12][ar]?_[A-Za-z0-9+/]{100,}={0,3})", ("fm1_", "fm1a_", "fm1r_", "fm2_")),
    Rule("CLOUDFLARE_ORIGIN_KEY", rf"\b(?P<s>v1\.0-{_HEX}{{24}}-{_HEX}{{146}})\b", ("v1.0-",)),
    _token("SUPABASE_TOKEN", rf"sbp_{_HEX}{{40}}", "sbp_"),
    _token("PLANETSCALE_TOKEN", rf"pscale_(?:tkn|pw|oauth)_{_WORD}{{32,64}}", "pscale_"),
    _token("DATABRICKS_TOKEN", rf"dapi{_HEX}{{32}}(?:-\d)?", "dapi"),
    _token("CLICKHOUSE_KEY", rf"4b1d{_ALNUM}{{38}}", "4b1d", entropy=3.5),
    _token("PULUMI_TOKEN", rf"pul-{_HEX}{{40}}", "pul-"),
    Rule(
        "TERRAFORM_TOKEN", rf"\b(?P<s>{_ALNUM}{{14}}\.atlasv1\.[A-Za-z0-9_=\-]{{60,70}})", (".atlasv1.",), 3.5
    ),
    _token("VAULT_TOKEN", rf"hv[sbr]\.{_WORD}{{24,300}}", "hvs.", "hvb.", "hvr."),
    Rule("VAULT_TOKEN", rf"(?:^|[^\w.])(?P<s>s\.{_ALNUM}{{24}})(?:[^\w.]|$)", entropy=3.5, digits=2),
)

_GITLAB = ("pat", "dt", "rt", "ft", "soat", "ptt", "cbt", "imt", "oas", "agent", "ffct")
_CODE = (
    _token("GITHUB_TOKEN", rf"gh[pousr]_{_ALNUM}{{36,255}}", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    _token("GITHUB_TOKEN", r"github_pat_\w{36,255}", "github_pat_"),
    Rule(
        "GITLAB_TOKEN",
        rf"\b(?P<s>gl(?:{'|'.join(_GITLAB)})-[A-Za-z0-9_\-]{{20,100}}(?:\.[a-z0-9.]{{2,30}})?)",
        tuple(f"gl{name}-" for name in _GITLAB),
    ),
    _token("GITLAB_TOKEN", rf"GR1348941{_WORD}{{20}}", "GR1348941", entropy=3.5),
    _token("NPM_TOKEN", rf"npm_{_ALNUM}{{36}}", "npm_", digits=1),
    _token("PYPI_TOKEN", rf"pypi-AgE[A-Za-z0-9]{{5}}{_WORD}{{50,1000}}", "pypi-AgE"),
    _token("RUBYGEMS_KEY", rf"rubygems_{_HEX}{{48}}", "rubygems_"),
    _token("CRATES_TOKEN", rf"cio{_ALNUM}{{32}}", "cio", entropy=3.5, digits=2),
    _token("DOCKER_TOKEN", rf"dckr_(?:pat|oat)_{_WORD}{{27,32}}", "dckr_pat_", "dckr_oat_"),
    _token("ARTIFACTORY_KEY", rf"(?:AKCp{_ALNUM}{{69}}|cmVmd{_ALNUM}{{59}})", "AKCp", "cmVmd", digits=1),
    _token("SOURCEGRAPH_TOKEN", r"sgp_(?:[0-9A-Fa-f]{16}_|local_)?[0-9A-Fa-f]{40}", "sgp_"),
    _token("ATLASSIAN_TOKEN", r"ATATT3[A-Za-z0-9_=\-]{180,220}", "ATATT3"),
    _token("LINEAR_KEY", rf"lin_api_{_ALNUM}{{40}}", "lin_api_"),
    _token("PREFECT_KEY", rf"pnu_{_ALNUM}{{36}}", "pnu_"),
    _token("OCTOPUS_KEY", r"API-[A-Z0-9]{26}", "API-", entropy=3.5, digits=2),
    Rule(
        "INFRACOST_KEY", rf"(?:^|[^\w.\-])(?P<s>ico-{_ALNUM}{{32}})(?:[^\w.\-]|$)", ("ico-",), 3.5, digits=1
    ),
    _token("README_KEY", r"rdme_[a-z0-9]{70}", "rdme_"),
    _token("POSTMAN_KEY", rf"PMAK-{_HEX}{{24}}-{_HEX}{{34}}", "PMAK-"),
    _token("FIGMA_TOKEN", rf"figd_{_WORD}{{38,44}}", "figd_"),
    _token("OPENSHIFT_TOKEN", rf"sha256~{_WORD}{{43}}", "sha256~", entropy=3.5),
    _token("SENTRY_TOKEN", r"sntry[us]_[A-Za-z0-9+/=_]{60,400}", "sntryu_", "sntrys_"),
    _token("GRAFANA_TOKEN", rf"glsa_{_ALNUM}{{32}}_[0-9A-Fa-f]{{8}}", "glsa_"),
    _token("GRAFANA_TOKEN", r"glc_[A-Za-z0-9+/]{32,400}={0,3}", "glc_", digits=1),
    _token("NEW_RELIC_KEY", r"NRAK-[A-Z0-9]{27}", "NRAK-"),
    _token("POSTHOG_KEY", rf"phx_{_ALNUM}{{40,50}}", "phx_"),
    _token("DOPPLER_TOKEN", rf"dp\.(?:pt|st|ct|sa|scim|audit)\.[a-z0-9_.\-]{{0,40}}{_ALNUM}{{40,44}}", "dp."),
    _token("DYNATRACE_TOKEN", r"dt0[a-z]\d\d\.[A-Z0-9]{24}\.[A-Z0-9]{64}", "dt0c", "dt0s"),
)

_SERVICES = (
    Rule(
        "SLACK_TOKEN",
        r"\b(?P<s>xox[bpoears](?:\.xox[bp])?-(?:\d{1,2}-[A-Za-z0-9\-]{100,300}|\d{8,14}(?:-\d{8,14}){0,2}-[A-Za-z0-9]{18,64}))(?:[^A-Za-z0-9_\-]|$)",
        tuple(f"xox{letter}" for letter in "bpoears"),
    ),
    _token("SLACK_TOKEN", rf"xapp-\d-[A-Z0-9]{{8,14}}-\d{{10,16}}-{_ALNUM}{{40,80}}", "xapp-"),
    Rule(
        "SLACK_WEBHOOK",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<s>[A-Z0-9]{8,14}/[A-Za-z0-9/]{30,80})",
        ("hooks.slack.com",),
    ),
    Rule(
        "DISCORD_WEBHOOK",
        r"discord(?:app)?\.com/api/webhooks/\d{15,21}/(?P<s>[\w\-]{60,80})",
        ("/api/webhooks/",),
    ),
    _token(
        "DISCORD_TOKEN", r"[MNO][A-Za-z0-9_\-]{23,27}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27,38}", entropy=3.5
    ),
    _token("TELEGRAM_TOKEN", rf"\d{{8,10}}:AA{_WORD}{{33}}", ":AA"),
    _token("STRIPE_KEY", rf"[sr]k_(?:live|test|prod)_{_ALNUM}{{10,248}}", "k_live_", "k_test_", "k_prod_"),
    Rule("STRIPE_WEBHOOK_SECRET", r"\b(?P<s>whsec_[A-Za-z0-9+/]{32,64}={0,2})", ("whsec_",)),
    _token("SQUARE_TOKEN", rf"sq0[a-z]{{3}}-{_WORD}{{22,60}}", "sq0"),
    _token("TWILIO_KEY", rf"SK{_HEX}{{32}}", "SK"),
    _token("SENDGRID_KEY", rf"SG\.{_WORD}{{20,24}}\.{_WORD}{{39,50}}", "SG."),
    _token("MAILGUN_KEY", rf"key-{_HEX}{{32}}", "key-"),
    _token("MAILCHIMP_KEY", rf"{_HEX}{{32}}-us\d{{1,2}}", "-us"),
    _token("BREVO_KEY", rf"xkeysib-{_HEX}{{64}}-{_ALNUM}{{16}}", "xkeysib-"),
    _token("SHOPIFY_TOKEN", r"shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{32}", "shpat_", "shpca_", "shppa_", "shpss_"),
    _token("NOTION_TOKEN", rf"ntn_\d{{11}}{_ALNUM}{{35}}", "ntn_"),
    _token("NOTION_TOKEN", rf"secret_{_ALNUM}{{43}}", "secret_", entropy=3.5),
    _token("AIRTABLE_TOKEN", rf"pat{_ALNUM}{{14}}\.{_HEX}{{64}}", entropy=3.5),
    _token("DROPBOX_TOKEN", rf"sl\.{_WORD}{{130,200}}", "sl.", entropy=3.5),
    _token("EASYPOST_KEY", rf"EZ[AT]K{_ALNUM}{{54}}", "EZAK", "EZTK", digits=1),
    _token("SHIPPO_KEY", rf"shippo_(?:live|test)_{_HEX}{{40}}", "shippo_"),
    _token("TYPEFORM_TOKEN", r"tfp_[A-Za-z0-9_.=\-]{40,80}", "tfp_"),
    _token("CONTENTFUL_TOKEN", rf"CFPAT-{_WORD}{{43}}", "CFPAT-"),
    _token("FACEBOOK_TOKEN", rf"EAA[A-Z]{_ALNUM}{{90,400}}", "EAA", entropy=3.5, digits=3),
    _token("FACEBOOK_APP_SECRET", rf"\d{{15,16}}\|{_WORD}{{27}}", "|", entropy=3.5),
    _token("INTRA42_SECRET", rf"s-s4t2(?:ud|af)-{_HEX}{{64}}", "s-s4t2"),
    Rule("ONEPASSWORD_TOKEN", r"\b(?P<s>ops_eyJ[A-Za-z0-9+/\-_]{250,}={0,3})", ("ops_eyJ",), 4.0),
    _token(
        "ONEPASSWORD_SECRET_KEY",
        r"A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}",
        "A3-",
        entropy=3.5,
    ),
    _token("AGE_SECRET_KEY", r"AGE-SECRET-KEY-1[0-9A-Z]{58}", "AGE-SECRET-KEY-1"),
)

# A PEM block. The body may be escaped into a string (`\n`), quoted line by line, or stop where the text does:
# then the block counts as open, and everything up to that end belongs to it. What stands between the last
# long line and the end of the last label is at most 64 characters: the detector's reach.
_BETWEEN = r"(?:\s|\\+[nr]|[\"'`,+|>#*])"
_LABEL = r"[A-Z0-9 ]{0,10}PRIVATE KEY(?: BLOCK)?-----"
_HEADER = r"\n(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset|MessageID|Key-Info):[^\n]{0,120}"
_SHORT = rf"(?:[A-Za-z0-9+/=]{{1,15}}{_BETWEEN}{{0,8}})?"
_OPEN = rf"{_SHORT}(?:[A-Za-z0-9+/=\-]{{0,15}}|-{{1,5}}[A-Z \-]{{0,40}})\\*$"
_PEM = (
    rf"(?P<s>-----BEGIN {_LABEL}(?:{_HEADER}|{_BETWEEN}|(?P<body>[A-Za-z0-9+/=]{{16,}}))*"
    rf"(?:{_SHORT}-----END {_LABEL}|(?P<open>{_OPEN})|))"
)

_GENERAL = (
    Rule("PRIVATE_KEY", _PEM, ("-----BEGIN ",), entropy=0.0, score=1.0),
    Rule(
        "JWT",
        r"\b(?P<s>eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]*(?:\.[A-Za-z0-9_\-]+){0,2})",
        ("eyJ",),
        entropy=3.5,
    ),
    Rule(
        "CONNECTION_STRING",
        r"\b[A-Za-z][A-Za-z0-9+.\-]{1,20}://[^\s:/@\"'<>|]{0,64}:(?P<s>[^\s@/\"'<>|]{3,64})@[\w\[]",
        ("://",),
        entropy=1.5,
        score=0.9,
        plain=True,
    ),
)

_OPERATOR = r"[\"'`\]]{0,2}\s{0,4}(?:=|:|:=|=>|->|\|)\s{0,4}(?:[a-zA-Z]{0,2}[\"'`]|\\\")?"
_SPOKEN = r"\s{1,2}(?:is|was)(?:\s{1,2}now)?\s{0,2}:?\s{0,2}[\"'`]?"
_TELLING = (
    Rule(
        "GENERIC_SECRET",
        r"(?:^|\s)(?:-u|--user)(?:\s{1,3}|=)[\"']?(?:[^\s:\"'$<\[{]{0,64}|\{[\w\-]{1,64}\}[\"']?):"
        r"[\"']?(?P<s>[^\s\"'$<\[]{1,2}[^\s\"'<\[]{4,64})",
        ("-u", "--user"),
        score=0.7,
        plain=True,
    ),
    Rule(
        "GENERIC_SECRET",
        r"(?:^|\s)(?:-u|--user)(?:\s{1,3}|=)[\"']?(?P<s>[^\s:\"'$<\[]{8,64}):[\"'](?:\s|$)",
        ("-u", "--user"),
        entropy=3.0,
        digits=1,
        score=0.7,
        plain=True,
    ),
    Rule(
        "GENERIC_SECRET",
        r"(?i)\bauthorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?"
        r"(?:(?:bearer|basic|token|api-?token|api-?key|apikey)\s{1,3})?(?P<s>[a-z0-9+/=._~@\-]{12,1000})",
        ("authorization",),
        entropy=3.0,
        score=0.8,
        plain=True,
        anycase=True,
    ),
    Rule(
        "GENERIC_SECRET",
        r"(?i)\bbearer\s{1,3}(?P<s>[a-z0-9+/=._~\-]{16,1000})",
        ("bearer",),
        entropy=3.0,
        digits=2,
        score=0.8,
        plain=True,
        anycase=True,
    ),
    Rule(
        "GENERIC_SECRET",
        r"(?i)(?P<name>[\w.\-]{0,32})(?:secret|token|(?:api|access|secret|private|signing|encryption|master|auth|account|"
        r"deploy|session|service|app|license)[_.\- ]?key|credentials?)"
        rf"(?:{_OPERATOR}|{_SPOKEN})(?P<s>[a-z0-9+/=._~!@#$%^&*\-]{{10,500}})",
        ("secret", "token", "key", "credential"),
        entropy=2.8,
        digits=2,
        score=0.7,
        plain=True,
        anycase=True,
    ),
    Rule(
        "GENERIC_SECRET",
        r"(?i)(?P<name>[\w.\-]{0,32})(?:password|passwd|passphrase|passcode|pwd|\bpass|_pass)"
        rf"(?:{_OPERATOR}|{_SPOKEN})(?P<s>[^\s\"'`<>,;]{{6,64}})",
        ("pass", "pwd"),
        entropy=2.0,
        mixed=True,
        score=0.6,
        plain=True,
        anycase=True,
    ),
)

RULES = (*_MODELS, *_CLOUDS, *_CODE, *_SERVICES, *_GENERAL, *_TELLING)
