r"""Bring an answer into one notation and take it apart: text answers, lists and tuples, ``x =`` prefixes, chains.

Nothing here evaluates; every function is linear in the length of the text or nearly so.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_CHARACTERS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "∗": "*", "÷": r"\div ",
    "∕": "/", "⁄": "/", "√": r"\sqrt", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ",
    "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "", "\ufeff": "", "′": "'", "，": ",", "：": ":", "；": ";",
    "（": "(", "）": ")", "％": "%", "＝": "=",
    "…": r"\ldots ", **{chr(0x2460 + i): f"({i + 1})" for i in range(9)},
}  # fmt: skip
_TRANSLATE = str.maketrans(
    _CHARACTERS | {chr(0xFF10 + i): str(i) for i in range(10)} | {chr(c): None for c in range(9)}
)
_REWRITES = [
    (re.compile(r"\\\\(?=[A-Za-z])"), r"\\"),  # doubled backslashes of JSON-mangled text; see ``clean`` for matrices
    (
        re.compile(
            r"\\(?:left|right|middle)(?=\s*(?:\\?[()\[\]{}|./<>]|\\[lr](?:ceil|floor|vert|Vert|angle|brace|brack)))\s*\.?"
        ),
        "",
    ),
    (re.compile(r"\\[bB]igg?[lr]?(?=\W)"), ""),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:displaystyle|textstyle|limits)(?![A-Za-z])"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r",\\[!,;]\s*(?=\d{3}(?!\d))"), ","),
    (re.compile(r"(?<!\\)\\!"), ""),
    (re.compile(r"(?<=\d)\\[,;:](?=\d{3}(?!\d))"), ","),
    (re.compile(r"(?<!\\)\\[,;:> ]|\\q?quad|~|&nbsp;"), " "),  # not the second half of a row break
    (re.compile(r"(?<!\\)\\[()\[\]]"), " "),
    (re.compile(r"(?<!\\)\$"), ""),
    (re.compile(r"(?<![\w)}\]\s])\*\*|(?<=\s)\*\*(?![\s\d(-])|\*\*(?![\s\w({\\-])|`"), ""),  # bold, not a power
    (re.compile(r"\\leq?slant|\\leqq?|\\le(?=[a-z](?![A-Za-z]))|<="), r"\\le "),  # \lex: the space is lost
    (re.compile(r"\\geq?slant|\\geqq?|\\ge(?=[a-z](?![A-Za-z]))|>="), r"\\ge "),
    (re.compile(r"\\neq|\\ne(?=[a-fh-z](?![A-Za-z]))|!="), r"\\ne "),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}"), r"\\emptyset "),
    (re.compile(r"\\(?:dots|cdots|dotsc|dotsb)(?![A-Za-z])"), r"\\ldots "),
    (  # 0.1666...
        re.compile(r"(?<![\d.])(\d{0,40}\.\d{0,40}?)(\d\d?\d?|\d{6})\2+\s*(?:\.{3}|\\ldots)(?![\d.])"),
        r"\1\\overline{\2}",
    ),
    (re.compile(r"^\s*(?:\\text\s*\{\s*)?(?i:negative|minus)\s*\}?\s*(?=\d|\\frac)"), "-"),
    (re.compile(r"(?<=[\s(,+-])(?:inf|infty|infinity)(?=\s*[,)\]])"), r"\\infty "),
    (re.compile(r"(?<=\d)\s*\^\s*\{\s*(?:st|nd|rd|th)\s*\}"), " "),
    (re.compile(r"(?<=\d)\s*\^\s*\{\s*\\(?:text|mathrm)\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}"), " "),  # ordinals: 12th
    (re.compile(r"(?<=\d)\s*\^?\s*\\(?:text|mathrm|textsuperscript)\s*\{\s*(?:st|nd|rd|th)\s*\}"), " "),
    (re.compile(r"(?<=\d)(?:st|nd|rd|th)(?![A-Za-z])"), " "),
    (re.compile(r"\{([^{}]*)\\over(?![A-Za-z])([^{}]*)\}"), r"\\frac{\1}{\2}"),
    (re.compile(r"\s+"), " "),
]
_MAGNITUDES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "lakh": 5, "crore": 7}
_MAGNITUDE = re.compile(
    rf"(?<=[\d}}])(?P<space>[\s-]*)(?P<text>\\(?:text|mathrm|mbox|textbf|textrm)\s*\{{\s*)?"
    rf"(?P<word>{'|'.join(_MAGNITUDES)}|dozen)s?(?![A-Za-z])(?(text)(?P<rest>[^{{}}]*)\}})"
)
_SIMPLE = re.compile(r" *[-+]?\d{1,30}(?:\.\d{1,30})?\.? *")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*){0,40})\}")
_TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|rm|it|tt|normal|sf)?|math(?:rm|bf|it|sf)|mbox|operatorname|bf|rm)\s*\{([^{}]*)\}"
)
_AND = re.compile(
    r"\s*,?\s*(?:\\(?:text|mbox|textrm|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*,?\s*"
)
_SET_BUILDER = re.compile(r"\\\{\s*([A-Za-z])\s*(?:\\mid|\\vert|\||:)\s*([^{}]*)\\\}$")
_INTEGER_TAIL = re.compile(
    r"\s*(?:,|\(|;|\\text\s*\{[^{}]*\}|\bfor\b|\bwhere\b)\s*([a-zA-Z])\s*\\in(?![A-Za-z])\s*"
    r"\\mathbb\s*\{?\s*[ZN]\s*\}?(?:\s*[_^]\s*\{?[^{}]{1,6}\}?)?\s*\)?\s*$"
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ", "0123456789+-nx")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙ]+")
_WHOLLY_TEXT = re.compile(r"\\(?:text(?:bf|rm|it|tt|normal|sf)?|math(?:rm|bf|it|sf)|mbox|bold)\s*\{([^{}]*\d[^{}]*)\}")
_CONDITION = re.compile(r"\s*,?\s*\\(?:text|mbox)\s*\{\s*,?\s*(?:for|where|if|with|when|as)\b.*$", re.DOTALL)
_FOR_ALL = re.compile(
    r"\s*[,(]?\s*\\forall(?![A-Za-z])\s*\\?[A-Za-z]+(?:\s*,\s*\\?[A-Za-z])*"
    r"(?:\s*\\in(?![A-Za-z])\s*[^:;.=<>]{1,40}|\s*(?:[<>]|\\(?:ge|le|ne)(?![A-Za-z]))\s*-?\d{1,9})?\s*\)?\s*$"
)
_PLAIN_CONDITION = re.compile(
    r"(?<=[\w)}\]])\s*,?\s+(?:for\s+(?:all|any|some|every|each)|where|when|provided that|such that)\b[^\n]*$"
)
_PLAIN_CASE = re.compile(
    r"(?<=[\w)}\]])\s*,?\s+(?:if|for\s+(?:even|odd|positive|negative|\\?[A-Za-z](?![A-Za-z])))\b[^\n]*$"
)
_CASE_WORD = re.compile(r"(?<![A-Za-z\\])(if|when|whenever|for|otherwise|else)(?![A-Za-z])")
_CASE_END = re.compile(r"[,;]\s*(?:and(?![A-Za-z])|or(?![A-Za-z]))?|(?<![A-Za-z\\])and(?![A-Za-z])")
_LONGEST_CASES = 600
_NAME = (
    r"(?:[A-Za-z]|\\(?:theta|alpha|beta|lambda|mu|phi|text\{[A-Za-z ]{1,30}\}|mathrm\{[A-Za-z ]{1,30}\}))"
    r"(?:_(?:\w|\{[^{}=]{1,20}\}))?'?(?:\(\s*[A-Za-z](?:\s*,\s*[A-Za-z]){0,4}\s*\))?"
)
_ASSIGNED = re.compile(
    rf"\s*({_NAME}(?:\s*,\s*{_NAME}){{0,5}}|\(\s*{_NAME}(?:\s*,\s*{_NAME}){{1,5}}\s*\))\s*(?:=|\\in(?![A-Za-z]))\s*(.+)$",
    re.DOTALL,
)
_EQUALS = re.compile(r"(?<![\\<>!:=])=(?!=)")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' .-]*")


_COMMAND = re.compile(r"\\[A-Za-z]+")
_NO_WORDS = frozenset(
    ["sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "and", "mod", "max", "min", "frac"]
)


class Items(NamedTuple):
    """A list, tuple, set or interval taken apart at its top level."""

    open: str
    """``(``, ``[``, ``{`` or nothing."""
    close: str
    parts: tuple[str, ...]

    @property
    def ordered(self) -> bool:
        """Whether the order of the parts matters."""
        return self.open in ("(", "[")

    def distinct(self) -> Items:
        """Without literal repetitions."""
        return self._replace(parts=tuple({squeeze(part): part for part in self.parts}.values()))


class Assigned(NamedTuple):
    """``name = value`` taken apart; ``name`` is empty when there is none."""

    name: str
    value: str


@lru_cache(maxsize=4096)
def clean(text: str) -> str:
    """One notation for what is written in many; the meaning stays."""
    if _SIMPLE.fullmatch(text):
        return text.strip().rstrip(".")
    if not text.isascii():
        text = _RAISED.sub(lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}", text)
        text = _LOWERED.sub(lambda m: f"_{{{m[0].translate(_SUBSCRIPTS)}}}", text)
    text = text.translate(_TRANSLATE)
    is_matrix = "\\begin" in text
    if "\\\\begin" in text:  # JSON-mangled: row breaks are doubled as well
        text = text.replace("\\\\", "\\")
    for pattern, replacement in _REWRITES[1:] if is_matrix else _REWRITES:
        text = pattern.sub(replacement, text)
    text = text.strip()
    while len(text) > 1 and text[-1] in ".,;:\\":
        text = text[:-1].rstrip()
    text = _BOXED.sub(r"\1", text).strip() if "box" in text else text
    text = _WHOLLY_TEXT.sub(r"\1", text) if _WHOLLY_TEXT.fullmatch(text) else text
    text = text.rstrip(". ") if text.count(".") == 1 else text
    return _inequality(_MAGNITUDE.sub(_as_power, text))


def _as_power(match: re.Match[str]) -> str:
    """``5 million`` is a number, not five of a unit."""
    word, rest = match["word"], (match["rest"] or "").strip()
    factor = "12" if word == "dozen" else f"10^{{{_MAGNITUDES[word]}}}"
    return rf" \cdot {factor}" + (rf" \text{{ {rest}}}" if rest else "")


def _inequality(text: str) -> str:
    r"""``\{x \mid -2 \le x < 1\}`` as its inequality, if that is one in the set's own variable and nothing else."""
    match = _SET_BUILDER.fullmatch(text)
    if not match or not re.search(r"[<>]|\\[lg]e(?![A-Za-z])", match[2]) or "," in match[2] or "\\in" in match[2]:
        return text
    return match[2] if re.search(rf"(?<![A-Za-z\\]){match[1]}(?![A-Za-z])", match[2]) else text


def integer_name(text: str) -> str | None:
    r"""``k`` of ``\pi + 2k\pi, k \in \mathbb{Z}``."""
    match = _INTEGER_TAIL.search(text)
    return match[1] if match and match.start() > 0 else None


def without_integer_tail(text: str) -> str:
    """The text without its "for all integers k"."""
    match = _INTEGER_TAIL.search(text)
    return text[: match.start()].strip() if match and match.start() > 0 else text


def is_list(text: str) -> bool:
    """Whether several things seem to be named."""
    text = re.sub(r"_\s*\{[^{}]*\}", "", text)
    return "," in text or ";" in text or bool(_AND.search(text))


def split_condition(text: str) -> tuple[str, str]:
    """The text and the condition behind it ("for all n"); a function given case by case keeps its conditions."""
    if "\\begin" in text:  # its conditions are part of what is stated
        return text, ""
    match = _CONDITION.search(text) or _PLAIN_CONDITION.search(text) or _PLAIN_CASE.search(text)
    if match is None and "\\forall" in text and "\\exists" not in text:
        match = _FOR_ALL.search(text)
    if not match or match.start() == 0 or split_cases(text):
        return text, ""
    if match.re is _PLAIN_CASE and is_clearly_text(text[: match.start()]):  # a sentence
        return text, ""
    return text[: match.start()], match[0].replace("\\forall", "")


def split_cases(text: str) -> list[tuple[str, str]]:
    """(value, condition) of each part of "a if n is even, b if n is odd"; empty where that is not what it says."""
    if len(text) > _LONGEST_CASES or "\\begin" in text:
        return []
    text = unwrap(text)
    marks = list(_CASE_WORD.finditer(text))
    if len(marks) < 2:
        return []
    cases, value = [], text[: marks[0].start()]
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        between = text[mark.end() : following.start() if following else len(text)]
        condition, coming = between, ""
        if following:
            ends = list(_CASE_END.finditer(between))
            if not ends and mark[1] != "otherwise":
                return []
            condition, coming = (between[: ends[-1].start()], between[ends[-1].end() :]) if ends else ("", between)
        cases.append(
            (value.strip(" ,;:"), "otherwise" if mark[1] in ("otherwise", "else") else condition.strip(" ,;.:"))
        )
        value = coming
    return cases if all(value for value, _ in cases) and not value.strip() else []


@lru_cache(maxsize=1024)
def unwrap(text: str) -> str:
    r"""The text without ``\text{…}`` and the like around its parts."""
    return _TEXT_COMMAND.sub(r"\1", text)


@lru_cache(maxsize=4096)
def squeeze(text: str) -> str:
    """The text without spaces and text wrappers, for a comparison letter by letter."""
    return re.sub(r"\s", "", _TEXT_COMMAND.sub(r"\1", text))


@lru_cache(maxsize=1024)
def as_words(text: str) -> str | None:
    """The normalised text when the answer is words (or one letter of a choice), else None."""
    plain = _TEXT_COMMAND.sub(r"\1", text).strip().strip("().*\"' ")
    if not _WORDS.fullmatch(plain):
        return None
    return " ".join(plain.casefold().replace(".", "").split())


def may_fold_case(gold: str, answer: str) -> bool:
    """Whether capitals say nothing here: no letter in both cases, and they differ in names of constants at most."""
    ours, theirs = (set(re.findall("[A-Za-z]", _COMMAND.sub(" ", text))) for text in (gold, answer))
    if any(letter.swapcase() in letters for letters in (ours, theirs) for letter in letters):
        return False
    return all(letter.lower() in "ckn" for letter in ours if letter.swapcase() in theirs)


def is_clearly_text(text: str) -> bool:
    """Whether letters cannot be a product of variables: wrapped as text, or a word of four letters and more."""
    return "\\text" in text or "\\mbox" in text or any(len(w) >= 4 for w in re.findall(r"[A-Za-z]+", text))


@lru_cache(maxsize=1024)
def is_prose(text: str) -> bool:
    """Whether the text is a sentence, or has one around its mathematics: three words and more."""
    bare = _COMMAND.sub(" ", unwrap(text))
    return len([w for w in re.findall(r"[A-Za-z]{3,}", bare) if w.lower() not in _NO_WORDS]) >= 3


def folded(text: str) -> str:
    """Letters, digits and signs of a sentence, without case, spaces and punctuation."""
    return re.sub(r"[\s.,;:!'\"$]", "", unwrap(text)).casefold()


@lru_cache(maxsize=1024)
def split_items(text: str) -> Items | None:
    r"""Take a list apart at top-level commas, semicolons, "and", "or"; ``a \pm b`` counts as two parts."""
    text = re.sub(r"\\[{}]", lambda m: m[0][1], text)
    text = text.replace("\\lbrace", "{").replace("\\rbrace", "}").strip()
    opening, closing, inner = _outer_brackets(text)
    parts = _split_top(inner)
    if opening and len(parts) < 2 and opening != "{":
        return None
    parts = [p for part in parts for p in _plus_minus(part)]
    if len(parts) < 2 and opening != "{":
        return None
    return Items(opening, closing, tuple(parts)) if all(parts) and len(parts) <= 64 else None


def _outer_brackets(text: str) -> tuple[str, str, str]:
    if len(text) < 3 or text[0] not in "([{" or text[-1] not in ")]}":
        return "", "", text
    depth = 0
    for position, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0 and position < len(text) - 1:
            return "", "", text
    return text[0], text[-1], text[1:-1]


def _split_top(text: str) -> list[str]:
    text = _AND.sub(",", text) if _AND.search(text) else text
    parts, depth, start = [], 0, 0
    for position, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char in ",;" and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    parts.append(text[start:].strip())
    return [p for p in parts if p] if parts and not parts[-1] else parts


def _plus_minus(text: str) -> list[str]:
    if text.count("\\pm") != 1 or "\\mp" in text:
        return [text]
    head, _, tail = text.partition("\\pm")
    return [f"{head}+{tail}" if head.strip() else tail.strip(), f"{head}-{tail}"]


def split_assignment(text: str) -> Assigned:
    r"""``x = 3`` and ``x \in [0, 1]`` taken apart; chains keep their last part as the value."""
    match = _ASSIGNED.match(text)
    if not match:
        return Assigned("", text)
    value = match[2]
    links = _links(value)
    if len(links) > 1 and "," not in value and ";" not in value and not _AND.search(value):
        value = links[-1].strip()
    elif len(links) > 1:
        return Assigned("", text)
    return Assigned(squeeze(match[1]), value) if value else Assigned("", text)


def last_link(text: str) -> str:
    """The last part of a chain ``a = b = c`` outside any list; the text itself when it is not a chain."""
    links = _links(text)
    return links[-1].strip() if len(links) > 1 and links[-1].strip() else text


def _links(text: str) -> list[str]:
    """The parts between equals signs that stand outside all brackets (not those of ``\\sum_{k=0}``)."""
    links, start, depth, at = [], 0, 0, 0
    for match in _EQUALS.finditer(text):
        depth += sum((c in "([{") - (c in ")]}") for c in text[at : match.start()])
        at = match.start()
        if depth == 0:
            links.append(text[start:at])
            start = at + 1
    return [*links, text[start:]]


def drop_approximation(text: str) -> str:
    r"""``1/3 \approx 0.33`` states 1/3; ``x \approx 0.33`` states 0.33."""
    head, found, tail = text.partition("\\approx")
    if not found or not tail.strip():
        return text
    if not head.strip():
        return tail.strip()
    return f"{head}={tail}" if re.fullmatch(rf"\s*{_NAME}\s*", head) else head.strip()
