r"""Find the final answer in a response: drop the reasoning, then try extraction rules from strongest to weakest.

All of it is linear in the length of the text, so it is safe on hostile input of any shape.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
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


_OPEN = re.compile(
    r"<(?:think(?:ing)?|reasoning|thoughts?|scratchpad|seed:think|reflection)>|<\|begin_of_thought\|>|\[THINK\]|◁think▷",
    re.IGNORECASE,
)
_CLOSE = re.compile(
    r"</(?:think(?:ing)?|reasoning|thoughts?|scratchpad|seed:think|reflection)>|<\|end_of_thought\|>|\[/THINK\]|◁/think▷",
    re.IGNORECASE,
)
_HAS_CONTENT = re.compile(r"[^\W_]|[∅{]")
_MAY_TAG = re.compile(r"[<\[◁][A-Za-z/|]")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w{1,20})[^<]{0,200}<\|message\|>")
_CHANNEL_END = re.compile(r"<\|(?:end|return|start|call|channel)\|>")
_BARE_FINAL = "assistantfinal"
_SOLUTION_MARKERS = re.compile(r"<\|(?:begin|end)_of_solution\|>")
_TURN_MARKERS = re.compile(r"<\|im_end\|>|<\|im_start\|>|<\|endoftext\|>|<\|eot_id\|>|<\|end\|>|</s>")
# Up to four backslashes: text that went through JSON once too often doubles them.
_BOX_TOKEN = re.compile(r"\\{1,4}(?:boxed|fbox)\s{0,9}\{|\\[{}\\]|[{}]")
_BOX_OPEN = re.compile(r"\\{1,4}(?:boxed|fbox)\s{0,9}\{")
_BARE_BOX = re.compile(r"\\boxed\s{0,9}([^\s{}$\\]{1,100})")
_JOINER = re.compile(
    r"(?:[\s$,;.]|\\[()\[\]]|\\q?quad\b|\\(?:text|mbox)\{\s*(?:,?\s*(?:and|or)\s*)?\}|\band\b|\bor\b){0,12}"
)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S[^\n]*)", re.MULTILINE)
_ANSWER_IS = re.compile(
    r"(?:\b(?:answer|ans|result|solution|réponse|respuesta|resposta|antwort|risposta|ответ)s?\b\**(?:\s{1,9}(?:to|of|for)\b[^.\n:=]{0,80})?\s{0,9}"
    r"(?:\bis\b|\bare\b|[:=]|(?=\$|\\[(\[]))|答案\s{0,9}(?:是|为|[:：]))[\s:*]{0,8}([^\n]+)",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:answer|ans|result|solution)s?\b(?:\s{1,9}(?:to|of|for)\b[^.\n:=]{0,80})?\s{0,9}"
    r"(?:(?:is|are|was|were|can|could|should|must|will|would|does|do|did)\s{1,9})?"
    r"(?:(?:definitely|clearly|certainly|surely|simply|therefore|thus|also|then)\s{1,9})?"
    r"(?:not|cannot|never|(?:is|are|was|were|ca|could|wo|would|does|do|did)n['’]t)\b[^\n]{0,300}?"
    r"(?=,?\s*\bbut\b|,\s*(?:so|it|rather|instead|and)\b|[.;!?](?:\s|$)|\n|$)",
    re.IGNORECASE,
)
_ASKED = re.compile(r"\banswer\s{1,9}(?:is|are)\s[^\n?]{1,80}\?(?=\s|$)", re.IGNORECASE)
_HEDGED = re.compile(
    r"(?:either|between|at\s+least|at\s+most|less\s+than|more\s+than|greater\s+than|fewer\s+than"
    r"|no\s+(?:more|less|fewer)\s+than|anything\s+but)\b",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"\W{0,4}(?:step|part|case|final|conclusion|solution|answer|explanation|summary|verification|problem)s?\b"
    r"|\d{1,2}[.)]\s+\**[A-Z]",
    re.IGNORECASE,
)
_NEW_ANSWER = re.compile(
    r"\b(?:answer|hence|thus|therefore|so|finally|then|gives?|actually|instead)\b|[.!?]\s", re.IGNORECASE
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
_EDGE = " .*。，；"
_LONGEST_WHOLE = 200
_MOST_BOXES = 8
_LONG_TEXT = 1500
_TEXTS_KEPT = 4
"""How many of the last texts have their findings kept: one response is asked about more than once."""
_DENYING = ("not", "never", "n't", "n’t")
_DENIED_WORDS = ("ans", "result", "solution")
_ANSWER_WORDS = (*_DENIED_WORDS, "réponse", "respuesta", "resposta", "antwort", "risposta", "ответ", "答案")
_FOLDS_TO_ASCII = re.compile("[ſıİ]")
_IS_NO_SINGLE_ANSWER = re.compile(r"\n|[A-Za-z]:\s|\\boxed")


def split_reasoning(response: str) -> Split:
    """Cut off the reasoning. A close tag without an open one counts: chat templates may have opened it."""
    channel = _final_channel(response)
    if channel:
        return channel
    if not _MAY_TAG.search(response):
        return Split(response.strip(), truncated=False)
    start = 0
    for close in _CLOSE.finditer(response):
        start = close.end()
    if _OPEN.search(response, start):
        return Split("", truncated=True)
    return Split(_SOLUTION_MARKERS.sub("", response[start:]).strip(), truncated=False)


def _final_channel(text: str) -> Split | None:
    """The last message of the ``final`` channel; None where the text has no channels."""
    if "<|channel|>" in text:
        start = None
        for match in _CHANNEL.finditer(text):
            start = match.end() if match[1] == "final" else start
        if start is None:
            return Split("", truncated=True)
        end = _CHANNEL_END.search(text, start)
        return Split(text[start : end.start() if end else len(text)].strip(), truncated=False)
    if _BARE_FINAL in text and text.lstrip().startswith("analysis"):  # the same with its special tokens dropped
        return Split(text[text.rfind(_BARE_FINAL) + len(_BARE_FINAL) :].strip(), truncated=False)
    return None


def _first_turn(text: str) -> str:
    """What comes before the first end-of-turn marker: a model that runs on makes up the next question too."""
    if "<|" not in text and "</s>" not in text:
        return text
    begin = 0
    for marker in _TURN_MARKERS.finditer(text):
        if text[begin : marker.start()].strip():
            return text[begin : marker.start()]
        begin = marker.end()
    return text[begin:]


@lru_cache(maxsize=_TEXTS_KEPT)
def final_text(response: str) -> str:
    """What the response says after its reasoning, up to the end of its turn."""
    channel = _final_channel(response)
    if channel:
        return channel.final
    return split_reasoning(_first_turn(response)).final


def extract_answer(response: str) -> Extraction:
    """The final answer with the rule that found it."""
    channel = _final_channel(response)
    response = channel.final if channel else _first_turn(response)
    final, truncated = channel or split_reasoning(response)
    if truncated:
        return Extraction(None, None, truncated=True)
    found = explicit_answer(final) or _weak_answer(_without_denials(final))
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
    if "####" in text:
        hashes = [line for line in _HASHES.findall(text) if not _HEADING.match(line)]
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


@lru_cache(maxsize=_TEXTS_KEPT)
def _boxes(text: str) -> tuple[_Box, ...]:
    """Every closed box that is not inside another one. Braces outside all boxes are passed over unread."""
    stack: list[tuple[int, int, bool]] = []
    boxes: list[_Box] = []
    num_open = at = 0
    while (match := _BOX_OPEN.search(text, at) if num_open == 0 else _BOX_TOKEN.search(text, at)) is not None:
        at = match.end()
        if match.end() - match.start() > 2:
            stack.append((match.start(), at, True))
            num_open += 1
        elif match[0] == "{":
            stack.append((match.start(), at, False))
        elif match[0] == "}":
            start, inner, is_box = stack.pop()
            if is_box:
                num_open -= 1
                while boxes and boxes[-1].start > start:
                    boxes.pop()
                boxes.append(_Box(start, inner, at))
    return tuple(boxes)


def boxed_values(text: str) -> list[str]:
    """What each box of the text holds, in order, without repetitions and empty boxes."""
    values = (text[b.inner : b.end - 1].strip() for b in _boxes(text))
    return list(dict.fromkeys(v for v in values if v))


def boxed_together(text: str) -> str | None:
    """All boxes as one list, where no more than two words stand between them ("1 papers and 2 bins")."""
    boxes = _boxes(text)
    gaps = (text[a.end : b.start] for a, b in zip(boxes, boxes[1:], strict=False))
    if not 1 < len(boxes) <= _MOST_BOXES or any(len(gap) > 60 or len(gap.split()) > 2 for gap in gaps):
        return None
    return ", ".join(text[b.inner : b.end - 1].strip() for b in boxes)


def _boxed(text: str) -> tuple[str, str] | None:
    boxes = _boxes(text)
    if not boxes:
        bare = _BARE_BOX.findall(text) if "\\boxed" in text else None
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


def rival_boxes(response: str) -> list[str]:
    """What the boxes of the last line hold if they stand side by side, and none is what follows from those before."""
    text = final_text(response)
    boxes = _boxes(text)
    line = text.rfind("\n", 0, boxes[-1].start) + 1 if boxes else 0
    boxes = tuple(b for b in boxes if b.start >= line)
    gaps = (text[a.end : b.start] for a, b in zip(boxes, boxes[1:], strict=False))
    if not 1 < len(boxes) <= _MOST_BOXES or any(len(gap) > 60 or _NEW_ANSWER.search(gap) for gap in gaps):
        return []
    return [value for b in boxes if (value := text[b.inner : b.end - 1].strip())]


def last_boxes(response: str) -> str | None:
    """The boxes of the last line that has any, as one list, if they are several ("$y_1 = ...$ and $y_2 = ...$")."""
    text = final_text(response)
    boxes = _boxes(text)
    if len(boxes) < 2:
        return None
    line = text.rfind("\n", 0, boxes[-1].start) + 1
    values = [text[b.inner : b.end - 1].strip() for b in boxes if b.start >= line]
    return ", ".join(values) if 1 < len(values) <= _MOST_BOXES and all(values) else None


def _matches(pattern: re.Pattern[str], words: tuple[str, ...], text: str) -> Iterator[re.Match[str]]:
    """``pattern.finditer(text)`` for a pattern whose matches all begin with one of the words, in any case."""
    low = text.lower()
    if len(low) != len(text) or not text.isascii() and _FOLDS_TO_ASCII.search(text):
        yield from pattern.finditer(text)
        return
    starts: list[int] = []
    for word in words:
        start = low.find(word)
        while start >= 0:
            starts.append(start)
            start = low.find(word, start + 1)
    end = 0
    for start in sorted(starts):
        match = pattern.match(text, start) if start >= end else None
        if match:
            yield match
            end = match.end()


def _cut_out(pattern: re.Pattern[str], words: tuple[str, ...], text: str) -> str:
    """The text with a space for every match."""
    kept, end = [], 0
    for match in _matches(pattern, words, text):
        kept.append(text[end : match.start()])
        end = match.end()
    return " ".join([*kept, text[end:]]) if kept else text


@lru_cache(maxsize=_TEXTS_KEPT)
def _without_denials(text: str) -> str:
    """The text without what it says the answer is not, and without its questions about it."""
    low = text.lower()
    if any(word in low for word in _DENYING):
        text = _cut_out(_DENIED, _DENIED_WORDS, text)
    return _cut_out(_ASKED, ("answer",), text) if "?" in text else text


def _announced(text: str) -> tuple[str, str] | None:
    """The part after the last "answer is" that holds something usable."""
    text = _without_denials(text)
    for match in reversed(list(_matches(_ANSWER_IS, _ANSWER_WORDS, text))):
        display = _MATH.match(text, match.start(1))  # may go on over several lines
        candidate = _trim_tail(text[match.start(1) : max(match.end(1), display.end() if display else 0)])
        if candidate and _HAS_CONTENT.search(candidate):
            return candidate, "answer_is"
    return None


def _trim_tail(tail: str) -> str | None:
    """Cut the rest of a line down to the answer in it."""
    tail = tail[:2000].strip().strip("*").strip()
    math = _MATH.match(tail)
    rest = tail[math.end() :].strip(_EDGE) if math else ""
    if math and not _WORD.search(rest):
        return tail.strip(_EDGE)
    end = _SENTENCE_END.search(tail)
    sentence = tail[: end.start()] if end else tail
    sentence = sentence.strip().strip("*").strip()
    if _HEDGED.match(sentence) or not _is_prose(sentence):
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
    if _MATH.fullmatch(text.strip()):
        return text.strip(), "whole"
    if len(text) <= _LONGEST_WHOLE and not _IS_NO_SINGLE_ANSWER.search(text) and not _is_prose(text):
        return text, "whole"
    # The last one of a long text stands in its last part, nearly always.
    part = text.rfind("\n\n", 0, len(text) - _LONG_TEXT) if len(text) > 2 * _LONG_TEXT else -1
    return _last_math_or_number(text[part:] if part >= 0 else text) or _last_math_or_number(text)


def _last_math_or_number(text: str) -> tuple[str, str] | None:
    math = _last_math(text) if "$" in text or "\\" in text else None
    number = _last_number(text)
    if math is not None and (number is None or number.end() <= math.end()):
        return _inner(math), "math_env"
    return (number[0].strip(), "last_number") if number else None


def _last_math(text: str) -> re.Match[str] | None:
    """The last formula without words: line by line from the end, as far back as displays, which span lines."""
    last_display = max(text.rfind("$$"), text.rfind("\\]"))
    after = (text.find("\n", last_display) + 1 or len(text)) if last_display >= 0 else 0
    end = len(text)
    while end > after:
        start = max(text.rfind("\n", 0, end) + 1, after)
        if found := _last_without_words(text, start, end):
            return found
        end = start - 1
    return _last_without_words(text, 0, len(text)) if after else None


def _last_without_words(text: str, start: int, end: int) -> re.Match[str] | None:
    matches = list(_MATH.finditer(text, start, end))
    return next((match for match in reversed(matches) if not _is_prose(_inner(match))), None)


def _last_number(text: str) -> re.Match[str] | None:
    """The last number, looked for line by line from the end (no number goes over a line's end)."""
    end = len(text)
    while end > 0:
        start = text.rfind("\n", 0, end) + 1
        last = deque(_NUMBER.finditer(text, start, end), maxlen=1)
        if last:
            return last[0]
        end = start - 1
    return None


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
