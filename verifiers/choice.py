"""Multiple choice: which option does the response name, by its letter or by its text?

Options, where they are known, are read from the question (``A. foo``, ``(A) foo``, ``A) foo``; one line or several).
A marked answer (box, tag, ``####``, "the answer is") is read first; where nothing is marked, a response that is or
begins with a letter or an option; last, letters that prose points at ("option C", "I think it's C"), if it points at
one only. What is refused on purpose:

- "A" and "I" as words: ``A cat`` names no option, nor does ``I think``; they need brackets, punctuation or a box.
- Two letters ("A or B"), and a letter beside another option's text ("B. Paris" where Paris is C).
- Letters that are denied ("not A", "A is wrong", "rather than A").
- A text answer where the options are not known, or a letter where only the reference's text is: nobody can say, so the
  verdict is ``unverifiable/options_unknown`` and not a guess.
"""

from __future__ import annotations

import re
import time
import unicodedata
from typing import ClassVar, NamedTuple

from verifiers.base import INFRASTRUCTURE_REASONS, TextVerifier, VerifyTask, error_verdict
from verifiers.config_more import ChoiceConfig
from verifiers.equivalence import same_answer
from verifiers.extract import explicit_answer, extract_answer, final_text
from verifiers.symbolic import UnparsedError
from verifiers.verdict import Outcome, Verdict

__all__ = ["ChoiceVerifier", "Options", "read_options"]

Options = dict[str, str]
"""Option texts by their upper-case letter, in the question's order."""

LETTERS = "ABCDEFGHIJ"
_LONGEST_BOUNDED = 100_000
_LONGEST_OPTION = 2000
_LONGEST_TAIL = 2000

# One layout of labels each; the label may be bold or in \text{...}. A question uses one of them throughout.
_WRAP = r"(?:\*\*|\\(?:text|textbf|textrm|mathrm|mathbf|textit)\s?\{\s?)?"
_LABELS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![\w\\]){_WRAP}\(([A-J])\)(?:\*\*|\s?\}})?",
        rf"(?<![\w\\(]){_WRAP}([A-J])\)(?:\*\*|\}})?(?!\w\))",
        rf"(?:(?<=\n)|(?<=\s)|^){_WRAP}([A-J])(?:\.(?!\w\.)|[．、。])(?:\*\*|\}})?",
        rf"(?:(?<=\n)|^)[ \t]*{_WRAP}([A-J])[:：](?:\*\*|\}})?",
    )
)
_UNWRAP = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|textit|boxed|mbox|emph)\s?\{([^{}]*)\}")
_NOISE = re.compile(r"\$|\\[()\[\] ,;!]|\*\*|__|\\quad|\\qquad|[`\"“”‘’]|\\left|\\right")
_ARTICLE = re.compile(r"^(?:the|an|a)\s+(?=\w)")
_BARE = re.compile(r"\(?\[?\{?([A-Ja-j])\}?\]?\)?[.:,;)]?")
_LABELLED = re.compile(r"(?:[(\[]([A-J])[)\]]|([A-J])(?:[)\]:：．、。]|\.(?!\w)))[\s:*.,]*(.*)", re.DOTALL)
# "C Cecile", "C because ...": a letter and no punctuation. "A" and "I" would be words here.
_LETTER_WORD = re.compile(r"([B-HJ])(?:\s*[,;]|\s+[–—-])?\s+(.*)", re.DOTALL)
_LETTER_CLAUSE = re.compile(
    r"([A-J])(?:\s*[,;–—-]\s*|\s+(?=(?:because|since|as|for|but|not|non|and|or|is|rather|instead)\b))(.*)", re.DOTALL
)
_LETTER_CJK = re.compile(r"([A-J])(?=[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af，。；、])(.*)", re.DOTALL)
_LIST = re.compile(
    r"[(\[]?([A-J])[)\]]?\.?((?:\s*(?:,|/|;|&|\+|、|和|或|\band\b|\bor\b|,\s*(?:and|or)\b)\s*[(\[]?[A-J][)\]]?(?!\w))+)",
)
_RUN = re.compile(r"[A-J]{2,10}")
_DENIED_BEFORE = re.compile(
    r"(?:\bnot|n['’]t(?:\s+be)?|\bcannot(?:\s+be)?|\bneither|\bnor|\bnon|\bexcept|\bexclud\w+|\beliminat\w+|\brule[sd]?\s+out"
    r"|\beach|\bevery|\bany|\bother|\brather\s+than|\binstead\s+of|\bunlike|\bthan|不是|不选|排除|\bno|\bwrong\s*:?|\bincorrect\s*:?)"
    r"\s+(?:be\s+|an?\s+|the\s+)?(?:option|choice|answer|statement)?s?\s*[(\[*$]*$"
    r"|(?:不是|不选|排除)\s*[(\[*$]*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[)\].*:,]{0,4}\s{0,4}(?:is|are|was|would\s+be|seems?|looks?|can\s+be)?\s*(?:also\s+|clearly\s+|therefore\s+|definitely\s+)?"
    r"(?:not\b|never\b|can\s+never|isn['’]t|can['’]?t|cannot|doesn['’]t|does\s+not|wouldn['’]t|wrong|incorrect|false|invalid|eliminated"
    r"|excluded|ruled\s+out|out\b|错|不对|不正确|排除)",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(
    r"\b(?:answer|ans|solution|(?:correct|right|best|final|corresponding|matching)\s+(?:option|choice|letter|statement)"
    r"|(?:option|choice)\s+is|réponse|respuesta|antwort)\b\**(?:\s*\([^()\n]{0,30}\))?\s{0,9}"
    r"(?:(?:is|would\s+be|should\s+be|must\s+be|will\s+be|has\s+to\s+be|est|es|ist|[:=])\s{0,9})?[:*\s]{0,8}"
    r"(?:(?:therefore|thus|clearly|for\s+sure|definitely|then|indeed|likely|probably|option|choice|letter)\b[:,]?\s{0,9})*"
    r"|(?:正确)?(?:答案|选项|选)\s{0,9}(?:应该|应)?(?:是|为|选|[:：])?\s{0,9}[:：*]{0,4}\s{0,3}",
    re.IGNORECASE,
)
_POINTED = re.compile(
    r"(?:\b[Oo]ption|\b[Cc]hoice|\b[Ss]tatement|\b[Aa]lternative|\b(?:it|that|this)(?:['’]s|\s+is)|\b[Cc]hoose|\b[Ss]elect|\b[Pp]ick"
    r"|\bgo\s+with)\s+(?:option\s+|choice\s+)?[(\[*$]*([A-J])(?![\w'’])"
    r"|(?<![\w'’.])[(\[*]{0,4}([A-J])[)\]*]{0,4}\s+(?:is|must\s+be|seems|looks)\s+(?:the\s+)?(?:only\s+)?"
    r"(?:correct|right|best|true|answer)\b"
)
_NOUN = re.compile(r"(?:option|choice|statement|alternative)\b", re.IGNORECASE)
_STANDALONE = re.compile(r"(?<![\w'’\\^.])([(\[*]{0,4})([A-J])([)\]*]{0,4})(?![\w'’])")
_CLAUSE_END = re.compile(
    r"[,.;:!?，。；：]|\b(?:because|since|as|while|whereas|but|not|non|rather|instead|unlike|although|though|which)\b"
)
_ALTERNATIVE = re.compile(r"[ ,]{0,4}(?:or|and)\s+(?:(?:the|an|a)\s+)?")
_DIGIT = re.compile(r"\d")
_WORDS = re.compile(r"[^\W\d_]{3,}")


class _Reading(NamedTuple):
    """What one piece of text was taken to name."""

    letters: frozenset[str] = frozenset()
    """More than one where several options have the same text."""
    reason: str = ""
    """Why it names none, or how it names one (``same_letter``, ``same_text``)."""
    text: str = ""
    rule: str | None = None


class _Gold(NamedTuple):
    letters: frozenset[str]
    """Empty: only the text is known."""
    text: str


class ChoiceVerifier(TextVerifier):
    """The option that the response names is the reference's."""

    name: ClassVar[str] = "choice"
    version: ClassVar[int] = 1
    REASONS: ClassVar[tuple[str, ...]] = (
        "same_letter",
        "same_text",
        "mismatch",
        "no_answer",
        "no_option",
        "several_answers",
        "letter_text_conflict",
        "truncated",
        "gold_no_option",
        "options_unknown",
        *INFRASTRUCTURE_REASONS,
    )
    PRELOAD: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: ChoiceConfig | None = None) -> None:
        config = config or ChoiceConfig()
        super().__init__(config.time_limit_s)
        self._num_options = config.num_options

    def settle(self, task: VerifyTask) -> Verdict | None:
        """The verdict: every rule is linear in the text. Very long texts are left to a worker."""
        if len(task.response) + len(task.gold) + len(task.question) > _LONGEST_BOUNDED:
            return None
        return self.verify(task)

    def verify(self, task: VerifyTask) -> Verdict:
        """The verdict. Never raises on any text."""
        start = time.perf_counter()
        try:
            outcome, reading = self._find(task)
        except Exception:  # a defect of ours must become a recorded row, not end the run
            return error_verdict(self, "checker_failed", time.perf_counter() - start)
        name = next(iter(sorted(reading.letters)), None) if len(reading.letters) == 1 else None
        return Verdict(
            outcome,
            reading.reason,
            name or (reading.text[:_LONGEST_TAIL] or None),
            reading.rule,
            f"{self.name}@{self.version}",
            time.perf_counter() - start,
        )

    def _find(self, task: VerifyTask) -> tuple[Outcome, _Reading]:
        options = read_options(task.question)
        known = "".join(options) or LETTERS[: self._num_options or len(LETTERS)]
        gold = _read_gold(task.gold, options, known)
        if gold is None:
            return Outcome.UNVERIFIABLE, _Reading(reason="gold_no_option")
        if task.finish_reason == "length" or extract_answer(task.response).truncated:
            return Outcome.INCORRECT, _Reading(reason="truncated")
        if not options and gold.text and len(gold.letters) == 1:
            options = {next(iter(gold.letters)): gold.text}
        reading = _Reader(options, known, closed="".join(options) == known).read(task.response)
        return _compare(gold, reading, options)


VERIFIER = ChoiceVerifier


def read_options(question: str) -> Options:
    """The options in a question, by letter; empty where none are found. The last run of A, B, ... is taken.

    Of several layouts the one with most options counts, and labels at line starts before labels within lines.
    """
    best: list[re.Match[str]] = []
    for pattern in _LABELS:
        marks = list(pattern.finditer(question))
        at_line_start = [m for m in marks if _begins_its_line(question, m.start())]
        for candidates in (at_line_start, marks):
            run = _last_run(candidates)
            if len(run) > max(1, len(best)):
                best = run
    return _option_texts(question, best)


def _begins_its_line(text: str, at: int) -> bool:
    before = text[max(0, at - 20) : at].rstrip(" \t>*-$")
    return not before or before.endswith("\n")


def _last_run(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """The longest run of labels A, B, C, ...; of equally long ones the last."""
    best: list[re.Match[str]] = []
    run: list[re.Match[str]] = []
    for mark in marks:
        if mark[1] == "A":
            run = [mark]
        elif run and LETTERS.find(mark[1]) == len(run):
            run = [*run, mark]
        if len(run) >= max(2, len(best)):
            best = run
    return best


def _option_texts(question: str, run: list[re.Match[str]]) -> Options:
    texts: Options = {}
    single_lines = all("\n" in question[a.end() : b.start()].strip(" \t") for a, b in zip(run, run[1:]))
    for i, mark in enumerate(run):
        end = run[i + 1].start() if i + 1 < len(run) else len(question)
        text = question[mark.end() : end]
        if i + 1 == len(run):
            text = text.lstrip()
            text = text.split("\n\n", 1)[0]
            if not single_lines or all("\n" not in t for t in texts.values()):
                text = text.split("\n", 1)[0]
        texts[mark[1]] = text.strip().strip("*").strip()[:_LONGEST_OPTION]
    return texts


def _plain(text: str) -> str:
    """Without the marks of LaTeX and Markdown that a letter or an option may be wrapped in."""
    text = unicodedata.normalize("NFKC", text)
    for _ in range(3):
        text = _UNWRAP.sub(r"\1", text)
    return " ".join(_NOISE.sub(" ", text).split())


def _key(text: str) -> str:
    """What two spellings of one option text have in common."""
    text = _plain(text).casefold().strip(" .;,:!*")
    return re.sub(r"\s+", " ", _ARTICLE.sub("", text))


def _same_text(option: str, answer: str) -> bool:
    a, b = _key(option), _key(answer)
    return a != "" and (a == b or a.replace(" ", "") == b.replace(" ", ""))


def _same_value(option: str, answer: str) -> bool:
    """Same number or simple expression, exactly (no symbolic algebra, so in bounded time)."""
    if max(len(option), len(answer)) > 200 or not (_DIGIT.search(option) and _DIGIT.search(answer)):
        return False
    try:
        return same_answer(option, answer, lambda _a, _b: False)
    except UnparsedError:
        return False


def _read_gold(gold: str, options: Options, known: str) -> _Gold | None:
    """The reference's option: its letter, its text, or both. None when it is no option."""
    marked = explicit_answer(gold)
    text = (marked[0] if marked else gold).strip()
    plain = _plain(text)
    if not plain:
        return None
    bare = _BARE.fullmatch(plain)
    if bare:
        letter = bare[1].upper()
        return _Gold(frozenset(letter), options.get(letter, "")) if letter in known else None
    by_text = _by_text(options, text)
    if by_text:
        return _Gold(by_text, text)
    labelled = _LABELLED.fullmatch(plain) or _LETTER_WORD.fullmatch(plain)
    if labelled:
        *letters, rest = labelled.groups()
        letter = next(x for x in letters if x)
        if letter not in known or (options and _by_text(options, rest) - {letter}):
            return None
        return _Gold(frozenset(letter), options.get(letter, rest))
    if options:
        by_value = frozenset(x for x, option in options.items() if _same_value(option, text))
        return _Gold(by_value, text) if len(by_value) == 1 else None
    return _Gold(frozenset(), text) if len(plain) > 1 and not _RUN.fullmatch(plain) else None


def _by_text(options: Options, text: str) -> frozenset[str]:
    return frozenset(x for x, option in options.items() if _same_text(option, text))


def _compare(gold: _Gold, reading: _Reading, options: Options) -> tuple[Outcome, _Reading]:
    if reading.letters and gold.letters:
        if reading.letters & gold.letters:
            return Outcome.CORRECT, reading
        return Outcome.INCORRECT, reading._replace(reason="mismatch")
    if reading.letters:  # the reference is a text, and nobody knows which letter it has
        return Outcome.UNVERIFIABLE, reading._replace(reason="options_unknown")
    is_letter = _BARE.fullmatch(reading.text) is not None
    if reading.reason == "no_option" and reading.rule is not None and len(options) <= 1 and not is_letter:
        if gold.text and (_same_text(gold.text, reading.text) or _same_value(gold.text, reading.text)):
            return Outcome.CORRECT, reading._replace(reason="same_text")
        if not gold.text:
            return Outcome.UNVERIFIABLE, reading._replace(reason="options_unknown")
        return Outcome.INCORRECT, reading._replace(reason="mismatch")
    return Outcome.INCORRECT, reading


class _Reader:
    """Finds the option that a response names."""

    def __init__(self, options: Options, known: str, closed: bool) -> None:
        self._options = options
        self._known = known
        self._closed = closed

    def read(self, response: str) -> _Reading:
        final = final_text(response)
        found = explicit_answer(final)
        if found and found[1] != "answer_is":
            return self._marked(final, *found)
        announced = self._announced(final)
        if announced:
            return announced
        whole = self._whole(final)
        if whole:
            return whole
        if found:
            reading = self.name(found[0])
            return reading._replace(rule=found[1])
        pointed = self._pointed(final)
        if pointed:
            return pointed
        extraction = extract_answer(response)  # a box in the reasoning, where nothing follows it
        if extraction.answer is not None and extraction.rule in ("boxed", "boxed_list", "answer_tag", "hashes"):
            return self.name(extraction.answer)._replace(rule=extraction.rule)
        if self._options and extraction.answer is not None:
            reading = self._text(extraction.answer)
            if reading.letters:
                return reading._replace(rule=extraction.rule)
        return _Reading(reason="no_answer")

    def _marked(self, final: str, answer: str, rule: str) -> _Reading:
        """A box, tag or ``####``; a letter announced after it must not name another option."""
        reading = self.name(answer)._replace(rule=rule)
        at = max(final.rfind("\\boxed"), final.rfind("</answer>"), final.rfind("####"))
        line = final.rfind("\n", 0, max(at, 0)) + 1
        if not reading.letters or at < 0:
            return reading
        beside = self._announced(final[line:])
        if beside is None or not beside.letters or beside.letters & reading.letters:
            return reading
        both_letters = reading.reason == beside.reason == "same_letter"
        return _Reading(reason="several_answers" if both_letters else "letter_text_conflict", text=answer, rule=rule)

    def _announced(self, final: str) -> _Reading | None:
        """After the last "the answer is" that something usable follows."""
        for cue in reversed(list(_ANNOUNCED.finditer(final))[-50:]):
            line_end = final.find("\n", cue.end())
            tail = final[cue.end() : line_end if line_end >= 0 else len(final)][:_LONGEST_TAIL]
            if _DENIED_BEFORE.search(final[max(0, cue.start() - 40) : cue.start()]):
                continue
            if re.match(r"\s*(?:not|n['’]t|never|neither)\b", tail):
                continue
            reading = self.name(tail)
            if reading.letters or reading.reason in ("several_answers", "letter_text_conflict"):
                return reading._replace(rule="answer_is")
        return None

    def _whole(self, final: str) -> _Reading | None:
        """A response that is, or begins or ends with, an option's letter or text."""
        lines = [line.strip() for line in final.splitlines() if line.strip()]
        if not lines:
            return None
        for text in (final, lines[-1], lines[0]) if len(lines) > 1 else (final,):
            text = _plain(text)
            reading = self._bare(text) or self._exact_text(text) or self._several(text) or self._label(text)
            if reading is None and len(lines) == 1:
                reading = self._by_value(text)
            if reading is not None and (reading.letters or reading.reason != "no_option"):
                return reading._replace(rule="whole")
        return None

    def _pointed(self, final: str) -> _Reading | None:
        letters = []
        for match in _POINTED.finditer(final):
            group = 1 if match[1] else 2
            before = final[max(0, match.start() - 40) : match.start(group)]
            if match[group] not in self._known or _DENIED_BEFORE.search(before):
                continue
            if group == 1 and _DENIED_AFTER.match(final, match.end()):
                continue
            may_be_word = group == 1 and match[1] in "AI" and not _NOUN.match(match[0])
            if may_be_word and re.match(r"\s[a-z]", final[match.end() : match.end() + 2]):
                continue  # "this is A good idea"
            letters.append(match[group])
        if not letters:
            return None
        if len(set(letters)) > 1:
            return _Reading(reason="several_answers", text=", ".join(dict.fromkeys(letters)), rule="pointed")
        return _Reading(frozenset(letters), "same_letter", letters[0], "pointed")

    def name(self, answer: str) -> _Reading:
        """The option that an answer names."""
        text = _plain(answer[:_LONGEST_TAIL]).strip(" *")
        return (
            self._bare(text)
            or self._exact_text(text)
            or self._several(text)
            or self._label(text)
            or self._found_text(text)
            or self._in_prose(text)
            or _Reading(reason="no_option" if text else "no_answer", text=text)
        )

    def _bare(self, text: str) -> _Reading | None:
        match = _BARE.fullmatch(text)
        if match is None:
            return None
        letter = match[1].upper()
        if match[1].islower():  # where the options themselves are small letters, it is one of those
            variable = self._exact_text(text)
            if variable is not None:
                return variable
        if letter in self._known:
            return _Reading(frozenset(letter), "same_letter", letter)
        return _Reading(reason="no_option", text=text)

    def _exact_text(self, text: str) -> _Reading | None:
        letters = _by_text(self._options, text)
        return _Reading(letters, "same_text", text) if letters else None

    def _text(self, text: str) -> _Reading:
        return self._exact_text(text) or self._found_text(text) or _Reading(reason="no_option", text=text)

    def _several(self, text: str) -> _Reading | None:
        match = _LIST.match(text)
        letters = set(re.findall(r"(?<!\w)[A-J](?!\w)", match[0])) if match else set()
        if match and text[match.end() :][:1].isalpha():
            return None
        if not match and _RUN.fullmatch(text) and set(text) <= set(self._known):
            letters = set(text)
        if len(letters) > 1:
            return _Reading(reason="several_answers", text=text)
        return None

    def _label(self, text: str) -> _Reading | None:
        """A letter, then punctuation or a clause: ``B. foo``, ``(B) foo``, ``B because ...``."""
        if self._prefix(text) is not None:
            return None  # "E. coli is one" begins with the text of an option, and does not name option E
        for pattern in (_LABELLED, _LETTER_CLAUSE, _LETTER_CJK, _LETTER_WORD):
            match = pattern.fullmatch(text)
            if match is None:
                continue
            *letters, rest = match.groups()
            letter = next(x for x in letters if x)
            if letter not in self._known:
                return None
            if pattern is _LETTER_WORD and not _by_text(self._options, rest) & {letter}:
                continue  # "B cells": a letter without punctuation counts before its own option's text only
            unhyphened = rest.lstrip("–—- ")  # "B - foo", but "B. -5" is minus five
            other = self._exact_text(rest) or self._exact_text(unhyphened) or self._prefix(unhyphened)
            if other is None and _DENIED_AFTER.match(text, match.end(1) if match[1] else match.start() + 1):
                continue
            if other is not None and letter not in other.letters:
                return _Reading(reason="letter_text_conflict", text=text)
            return _Reading(frozenset(letter), "same_letter", letter)
        return None

    def _prefix(self, text: str) -> _Reading | None:
        """An option's text at the beginning, if it has words (a number may go on as another one)."""
        key = _key(text[:_LONGEST_TAIL])
        letters, length = self._starting(key)
        if not letters:
            return None
        alternative = _ALTERNATIVE.match(key, length)
        if alternative:
            others, _ = self._starting(key[alternative.end() :])
            if others and not others & letters:
                return _Reading(reason="several_answers", text=text)
        return _Reading(letters, "same_text", text)

    def _starting(self, key: str) -> tuple[frozenset[str], int]:
        """The options with the longest text that ``key`` starts with, and that text's length."""
        found: dict[int, set[str]] = {}
        for letter, option in self._options.items():
            start = _key(option)
            goes_on = key[len(start) : len(start) + 1].isalnum()
            if len(start) >= 3 and key.startswith(start) and _WORDS.search(start) and not goes_on:
                found.setdefault(len(start), set()).add(letter)
        longest = max(found, default=0)
        return frozenset(found.get(longest, ())), longest

    def _found_text(self, text: str) -> _Reading | None:
        prefix = self._prefix(text)
        if prefix is not None:
            return prefix
        for candidate in (text, _first_clause(text)):
            exact = self._exact_text(candidate)
            if exact:
                return exact
            value = self._by_value(candidate)
            if value:
                return value
        return None

    def _by_value(self, text: str) -> _Reading | None:
        letters = frozenset(x for x, option in self._options.items() if _same_value(option, text))
        return _Reading(letters, "same_text", text) if len(letters) == 1 else None

    def _in_prose(self, text: str) -> _Reading | None:
        """Letters within a marked answer: "for sure D, it can't be A"."""
        letters: list[str] = []
        end = 0
        for match in _STANDALONE.finditer(text):
            wrapped = bool(match[1]) and bool(match[3])
            if match[2] not in self._known or _DENIED_BEFORE.search(text[max(0, match.start() - 40) : match.start(2)]):
                continue
            if not wrapped and not self._is_no_word(text, match):
                continue
            if _DENIED_AFTER.match(text, match.end()):
                continue
            if letters and _CLAUSE_END.search(text, end, match.start()):
                break  # a reason follows, and reasons speak of other options
            letters.append(match[2])
            end = match.end()
        if not letters:
            return None
        if len(set(letters)) > 1:
            return _Reading(reason="several_answers", text=text)
        return _Reading(frozenset(letters), "same_letter", letters[0])

    def _is_no_word(self, text: str, match: re.Match[str]) -> bool:
        """Whether a bare letter in prose is a label: at the end of its clause, not after a noun ("vitamin C")."""
        after = text[match.end() :]
        ends = not after.strip() or _CLAUSE_END.match(after.lstrip()) is not None
        before = text[: match.start()].split()
        cue = not before or before[-1].lower().strip(",:") in _BEFORE_LABEL
        return ends and cue


_BEFORE_LABEL = frozenset(
    ["is", "be", "it's", "its", "are", "answer", "option", "choice", "letter", "sure", "therefore", "thus", "clearly"]
    + ["definitely", "either", "or", "and", "probably", "likely", "est"]
)


def _first_clause(text: str) -> str:
    end = re.search(r"[.;!?](?=\s|$)|,\s|\s(?:because|since|as|so|which)\b|\s[(\[][A-J][)\]]", text)
    return text[: end.start()] if end else text
