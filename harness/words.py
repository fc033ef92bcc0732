"""What pages are searched for: words that only programs, files and terminals say."""

import re

NOT_FOR_PEOPLE = {
    "a setting's name": re.compile(r"\b[a-z]+(_[a-z]+)*_(s|w|mwh|percent|permille|bytes)\b"),
    "a strategy's name in files": re.compile(r"\bspec\b"),
    "a value of a file": re.compile(r"\((file|none)\)|=as in"),
    "a validator's text": re.compile(r"Input should be|Value error|[Ss]tring should"),
    "epoch seconds": re.compile(r"\b1[5-9]\d{8}\b"),
    "a time for programs": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z|\d{4}-\d\d-\d\dT\d\d:\d\d"),
    "a command line": re.compile(r"\bcommonwatt [a-z]+ |(?<!\S)--[a-z]"),
}
"""What no page shows, but in examples of code."""

ENGINEERS = re.compile(
    r"\b(fresh|slots?|relay(s|ed)?|puts|compact|levels|witness(es)?|dead letters?|requested blocks|last event|tiers?"
    r"|ven|lapsed)\b",
    re.IGNORECASE,
)
"""Words that other people read only with their sentence beside them (macro ``term``)."""

_TERM = re.compile(r'<abbr class="term" tabindex="0" title="[^"]+">[^<]*</abbr>')
_MAIN = re.compile(r"<main.*?</main>", re.DOTALL)
_CODE = re.compile(r"<(pre|code|textarea|script)\b.*?</\1>|<[^>]*>", re.DOTALL)


def words_of(page: str) -> str:
    """Return the words of a page, without examples of code; also of a part of a page."""
    main = _MAIN.search(page)
    return " ".join(_CODE.sub(" ", main[0] if main else page).split())


def unexplained(page: str) -> list[str]:
    """Return an engineer's words on a page that stand there without their sentence, with what is around them."""
    text = words_of(_TERM.sub(" ", page))
    return [text[max(0, at.start() - 40) : at.end() + 20] for at in ENGINEERS.finditer(text)]


def faults_of_words(text: str) -> list[str]:
    """Return what is not for people, with what stands around it."""
    return [
        f"{what} on the page: …{text[max(0, at.start() - 40) : at.end() + 20]}…"
        for what, words in NOT_FOR_PEOPLE.items()
        for at in words.finditer(text)
    ]
