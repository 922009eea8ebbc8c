r"""Find the final answer in a response: drop the reasoning, then try extraction rules from strongest to weakest.

All of it is linear in the length of the text, so it is safe on hostile input of any shape.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple


class Extraction(NamedTuple):
    """What was taken to be the answer."""

    answer: str | None
    """None when no rule matched."""
    rule: str | None
    """One of ``boxed``, ``boxed_list``, ``answer_tag``, ``hashes``, ``answer_is``, ``whole``, ``math_env``,
    ``last_number``."""
    truncated: bool
    """The reasoning was opened and never closed, so there is no final answer."""


class Split(NamedTuple):
    """A response without its reasoning."""

    final: str
    truncated: bool


_OPEN = re.compile(r"<think(?:ing)?>|<\|begin_of_thought\|>|<reasoning>", re.IGNORECASE)
_CLOSE = re.compile(r"</think(?:ing)?>|<\|end_of_thought\|>|</reasoning>", re.IGNORECASE)
_SOLUTION_MARKERS = re.compile(r"<\|(?:begin|end)_of_solution\|>")
_TURN_MARKERS = re.compile(r"<\|im_end\|>|<\|im_start\|>|<\|endoftext\|>|<\|eot_id\|>|<\|end\|>|</s>")
# Up to four backslashes: text that went through JSON once too often doubles them.
_BOX_TOKEN = re.compile(r"(?P<box>\\{1,4}(?:boxed|fbox)\s{0,9}\{)|(?P<escaped>\\[{}\\])|(?P<brace>[{}])")
_BARE_BOX = re.compile(r"\\boxed\s{0,9}([^\s{}$\\]{1,100})")
_JOINER = re.compile(
    r"(?:[\s$,;.]|\\[()\[\]]|\\q?quad\b|\\(?:text|mbox)\{\s*(?:,?\s*(?:and|or)\s*)?\}|\band\b|\bor\b){0,12}"
)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S[^\n]*)", re.MULTILINE)
_ANSWER_IS = re.compile(
    r"(?:\b(?:answer|ans|result|solution)s?\b\**(?:\s{1,9}(?:to|of|for)\b[^.\n:=]{0,80})?\s{0,9}"
    r"(?:\bis\b|\bare\b|[:=]|(?=\$|\\[(\[]))|答案\s{0,9}(?:是|为|[:：]))[\s:*]{0,8}([^\n]+)",
    re.IGNORECASE,
)
_MATH = re.compile(
    r"\$\$([^$]{1,2000})\$\$|\\\[((?:[^\\]|\\(?![\[\]])){1,2000})\\\]|\\\(((?:[^\\\n]|\\(?![()])){1,2000})\\\)"
    r"|(?<![\\$\w])\$(?![\s?!.,$])([^$\n]{1,2000}?)(?<![\s\\])\$(?!\w)"
    r"|(?<![\\$\w])\$ (?=[^$\n]{0,2000}\\)([^$\n]{1,2000}?) \$(?!\w)"  # a command inside: not two sums of money
)
_NUMBER = re.compile(
    r"(?:(?<![\w.^{\\)-])[-−+])?(?<![A-Za-z0-9_.^])"
    r"(?:\\[dtc]?frac\{\d{1,40}\}\{\d{1,40}\}"
    r"|(?:\d{1,3}(?:,\d{3}){1,20}(?!\d)|\d{1,400})(?:\.\d{1,400})?(?:[eE][-+]?\d{1,3}(?!\w)|\s?/\s?\d{1,40}(?!\d|\.\d))?"
    r"|\.\d{1,400})(?:\s?\\?%)?"
)
_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mbox|operatorname|begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_CJK = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]{2}")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。；]")
_LONGEST_WHOLE = 200
_IS_NO_SINGLE_ANSWER = re.compile(r"\n|[A-Za-z]:\s|\\boxed")


def split_reasoning(response: str) -> Split:
    """Cut off the reasoning. A close tag without an open one counts: chat templates may have opened it."""
    start = 0
    for close in _CLOSE.finditer(response):
        start = close.end()
    if _OPEN.search(response, start):
        return Split("", truncated=True)
    return Split(_SOLUTION_MARKERS.sub("", response[start:]).strip(), truncated=False)


def _first_turn(text: str) -> str:
    """What comes before the first end-of-turn marker: a model that runs on makes up the next question too."""
    begin = 0
    for marker in _TURN_MARKERS.finditer(text):
        if text[begin : marker.start()].strip():
            return text[begin : marker.start()]
        begin = marker.end()
    return text[begin:]


def final_text(response: str) -> str:
    """What the response says after its reasoning, up to the end of its turn."""
    return split_reasoning(_first_turn(response)).final


def extract_answer(response: str) -> Extraction:
    """The final answer with the rule that found it."""
    response = _first_turn(response)
    final, truncated = split_reasoning(response)
    if truncated:
        return Extraction(None, None, truncated=True)
    found = explicit_answer(final) or _weak_answer(final)
    if found is None and len(final) < len(response):
        found = explicit_answer(response)
    answer, rule = found or (None, None)
    return Extraction(answer, rule, truncated=False)


def explicit_answer(text: str) -> tuple[str, str] | None:
    """An answer that the text marks as such, with the rule's name."""
    boxed = _boxed(text)
    if boxed is not None:
        return boxed
    tagged = _tagged(text)
    if tagged:
        return tagged, "answer_tag"
    hashes = _HASHES.findall(text)
    if hashes:
        return hashes[-1].strip(), "hashes"
    return _announced(text)


def _tagged(text: str) -> str:
    """What the last ``<answer>…</answer>`` holds. (A regular expression would be quadratic on open tags.)"""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else -1
    return text[start + len("<answer>") : end].strip() if start >= 0 else ""


class _Box(NamedTuple):
    start: int
    inner: int
    end: int


def _boxes(text: str) -> list[_Box]:
    """Every closed box that is not inside another one, in one pass."""
    stack: list[tuple[int, int, bool]] = []
    boxes: list[_Box] = []
    for match in _BOX_TOKEN.finditer(text):
        if match["box"]:
            stack.append((match.start(), match.end(), True))
        elif match["brace"] == "{":
            stack.append((match.start(), match.end(), False))
        elif match["brace"] == "}" and stack:
            start, inner, is_box = stack.pop()
            if is_box:
                while boxes and boxes[-1].start > start:
                    boxes.pop()
                boxes.append(_Box(start, inner, match.end()))
    return boxes


def boxed_values(text: str) -> list[str]:
    """What each box of the text holds, in order, without repetitions and empty boxes."""
    values = (text[b.inner : b.end - 1].strip() for b in _boxes(text))
    return list(dict.fromkeys(v for v in values if v))


def _boxed(text: str) -> tuple[str, str] | None:
    boxes = _boxes(text)
    if not boxes:
        bare = _BARE_BOX.findall(text)
        return (bare[-1], "boxed") if bare else None
    run = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        gap = text[box.end : run[-1].start]
        if len(gap) > 60 or not _JOINER.fullmatch(gap):
            break
        run.append(box)
    answers = list(dict.fromkeys(text[b.inner : b.end - 1].strip() for b in reversed(run)))
    answers = [a for a in answers if a]
    if not answers:
        return None
    return ", ".join(answers), "boxed_list" if len(answers) > 1 else "boxed"


def _announced(text: str) -> tuple[str, str] | None:
    """The part after the last "answer is" that holds something usable."""
    for match in reversed(list(_ANSWER_IS.finditer(text))):
        display = _MATH.match(text, match.start(1))  # may go on over several lines
        candidate = _trim_tail(text[match.start(1) : max(match.end(1), display.end() if display else 0)])
        if candidate:
            return candidate, "answer_is"
    return None


def _trim_tail(tail: str) -> str | None:
    """Cut the rest of a line down to the answer in it."""
    tail = tail[:2000].strip().strip("*").strip()
    math = _MATH.match(tail)
    rest = tail[math.end() :].strip(" .*") if math else ""
    if math and not _WORD.search(rest):
        return tail.strip(" .*")
    end = _SENTENCE_END.search(tail)
    sentence = tail[: end.start()] if end else tail
    sentence = sentence.strip().strip("*").strip()
    if not _is_prose(sentence):
        return sentence or None
    for separator in (" is ", " are ", "="):
        head, found, last = sentence.rpartition(separator)
        if found and last.strip() and not _is_prose(last):
            return last.strip()
    weak = _last_of(_MATH, sentence) or _first_number(sentence)
    if weak is not None:
        return weak
    return sentence if len(sentence.split()) <= 8 else None


def _weak_answer(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    if len(text) <= _LONGEST_WHOLE and not _IS_NO_SINGLE_ANSWER.search(text) and not _is_prose(text):
        return text, "whole"
    return _last_math_or_number(text)


def _last_math_or_number(text: str) -> tuple[str, str] | None:
    math = None
    for match in _MATH.finditer(text):
        if not _is_prose(_inner(match)):
            math = match
    number = next(iter(deque(_NUMBER.finditer(text), maxlen=1)), None)
    if math is not None and (number is None or number.end() <= math.end()):
        return _inner(math), "math_env"
    return (number[0].strip(), "last_number") if number else None


def _last_of(pattern: re.Pattern[str], text: str) -> str | None:
    matches = [m for m in pattern.finditer(text) if not _is_prose(_inner(m))]
    return _inner(matches[-1]) if matches else None


def _first_number(text: str) -> str | None:
    number = _NUMBER.search(text)
    return number[0].strip() if number else None


def _inner(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None).strip()


def _is_prose(text: str) -> bool:
    """Whether the text holds words beside its mathematics (one unit such as ``miles`` is not prose)."""
    if _CJK.search(text):  # written without spaces, so not countable
        return True
    words = [w for w in _WORD.findall(_COMMAND.sub(" ", text)) if w.lower() not in _MATH_WORDS]
    return len(words) > 2 or (
        len(words) > 0 and not re.match(r"[-+\\$€£(]*\.?\d", text.strip()) and len(text.split()) > 1
    )


_MATH_WORDS = frozenset(
    ["sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh"]
    + ["log", "exp", "sqrt", "and", "mod", "max", "min"]
)
