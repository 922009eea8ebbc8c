r"""Bring an answer into one notation and take it apart: text answers, lists and tuples, ``x =`` prefixes, chains.

Nothing here evaluates; every function is linear in the length of the text or nearly so.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_CHARACTERS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "∗": "*", "÷": r"\div ",
    "∕": "/", "⁄": "/", "²": "^{2}", "³": "^{3}", "√": r"\sqrt", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ",
    "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "", "\ufeff": "", "′": "'", "，": ",", "：": ":", "；": ";",
    "（": "(", "）": ")", "％": "%", "＝": "=",
}  # fmt: skip
_TRANSLATE = str.maketrans(
    _CHARACTERS | {chr(0xFF10 + i): str(i) for i in range(10)} | {chr(c): None for c in range(9)}
)
_REWRITES = [
    (re.compile(r"\\\\(?=[A-Za-z])"), r"\\"),  # doubled backslashes of JSON-mangled text; see ``clean`` for matrices
    (re.compile(r"\\(?:left|right)(?=\\?[()\[\]{}|./<>])\.?"), ""),
    (re.compile(r"\\[bB]igg?[lr]?(?=\W)"), ""),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:displaystyle|textstyle|limits)(?![A-Za-z])"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r",\\[!,;]\s*(?=\d{3}(?!\d))"), ","),
    (re.compile(r"(?<!\\)\\!"), ""),
    (re.compile(r"(?<=\d)\\[,;:](?=\d{3}(?!\d))"), ","),
    (re.compile(r"(?<!\\)\\[,;:> ]|\\q?quad(?![A-Za-z])|~|&nbsp;"), " "),  # not the second half of a row break
    (re.compile(r"(?<!\\)\\[()\[\]](?!\\)"), " "),
    (re.compile(r"(?<!\\)\$"), ""),
    (re.compile(r"\*\*(?![\s\d(-])|(?<![\d)\s])\*\*|`"), ""),
    (re.compile(r"\\(?:leq?slant|leq)(?![A-Za-z])|<="), r"\\le "),
    (re.compile(r"\\(?:geq?slant|geq)(?![A-Za-z])|>="), r"\\ge "),
    (re.compile(r"\\neq(?![A-Za-z])|!="), r"\\ne "),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}"), r"\\emptyset "),
    (re.compile(r"(?<=\d)\s*\^\s*\{\s*\\(?:text|mathrm)\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}"), " "),  # ordinals: 12th
    (re.compile(r"(?<=\d)\s*\^?\s*\\(?:text|mathrm|textsuperscript)\s*\{\s*(?:st|nd|rd|th)\s*\}"), " "),
    (re.compile(r"(?<=\d)(?:st|nd|rd|th)(?![A-Za-z])"), " "),
    (re.compile(r"\s+"), " "),
]
_TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|rm|it|tt|normal|sf)?|math(?:rm|bf|it|sf)|mbox|operatorname|bf|rm)\s*\{([^{}]*)\}"
)
_AND = re.compile(
    r"\s*,?\s*(?:\\(?:text|mbox|textrm|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*,?\s*"
)
_SET_BUILDER = re.compile(r"\\\{\s*([A-Za-z])\s*(?:\\mid|\\vert|\||:)\s*([^{}]*)\\\}$")
_CONDITION = re.compile(r"\s*,?\s*\\(?:text|mbox)\s*\{\s*,?\s*(?:for|where|if|with|when|as)\b.*$", re.DOTALL)
_NAME = (
    r"(?:[A-Za-z]|\\(?:theta|alpha|beta|lambda|mu|phi|text\{[A-Za-z ]{1,30}\}|mathrm\{[A-Za-z ]{1,30}\}))"
    r"(?:_(?:\w|\{\w{1,6}\}))?'?(?:\(\s*[A-Za-z]\s*\))?"
)
_ASSIGNED = re.compile(
    rf"\s*({_NAME}(?:\s*,\s*{_NAME}){{0,5}}|\(\s*{_NAME}(?:\s*,\s*{_NAME}){{1,5}}\s*\))\s*(?:=|\\in(?![A-Za-z]))\s*(.+)$",
    re.DOTALL,
)
_EQUALS = re.compile(r"(?<![\\<>!:=])=(?!=)")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' .-]*")


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


def clean(text: str) -> str:
    """One notation for what is written in many; the meaning stays."""
    text = text.translate(_TRANSLATE)
    is_matrix = "\\begin" in text
    for pattern, replacement in _REWRITES[1:] if is_matrix else _REWRITES:
        text = pattern.sub(replacement, text)
    text = text.strip()
    while len(text) > 1 and text[-1] in ".,;:\\" and not text.endswith("\\\\"):
        text = text[:-1].rstrip()
    return _inequality(_strip_trailing_condition(text))


def _inequality(text: str) -> str:
    r"""``\{x \mid -2 \le x < 1\}`` as its inequality, if that is one in the set's own variable and nothing else."""
    match = _SET_BUILDER.fullmatch(text)
    if not match or not re.search(r"[<>]|\\[lg]e(?![A-Za-z])", match[2]) or "," in match[2] or "\\in" in match[2]:
        return text
    return match[2] if re.search(rf"(?<![A-Za-z\\]){match[1]}(?![A-Za-z])", match[2]) else text


def _strip_trailing_condition(text: str) -> str:
    match = _CONDITION.search(text)
    return text[: match.start()] if match and match.start() > 0 else text


def unwrap(text: str) -> str:
    r"""The text without ``\text{…}`` and the like around its parts."""
    return _TEXT_COMMAND.sub(r"\1", text)


def squeeze(text: str) -> str:
    """The text without spaces and text wrappers, for a comparison letter by letter."""
    return re.sub(r"\s", "", _TEXT_COMMAND.sub(r"\1", text))


def as_words(text: str) -> str | None:
    """The normalised text when the answer is words (or one letter of a choice), else None."""
    plain = _TEXT_COMMAND.sub(r"\1", text).strip().strip("().*\"' ")
    if not _WORDS.fullmatch(plain):
        return None
    return " ".join(plain.casefold().replace(".", "").split())


def is_clearly_text(text: str) -> bool:
    """Whether letters cannot be a product of variables: wrapped as text, or a word of four letters and more."""
    return "\\text" in text or "\\mbox" in text or any(len(w) >= 4 for w in re.findall(r"[A-Za-z]+", text))


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
    return f"{head}={tail}" if re.fullmatch(rf"\s*{_NAME}\s*", head) else head.strip()
