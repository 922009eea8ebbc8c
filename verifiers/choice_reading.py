"""Which option a response names: the marked answer, the whole response, what its prose commits to or concludes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from verifiers import choice_wording as w
from verifiers.choice_options import Options, by_text, by_value, key, plain
from verifiers.extract import explicit_answer, extract_answer, final_text

__all__ = ["LONGEST_TAIL", "Reader", "Reading"]

LONGEST_TAIL = 2000
"""Characters after "the answer is" that are read."""


class Reading(NamedTuple):
    """What one piece of text was taken to name."""

    letters: frozenset[str] = frozenset()
    """More than one where several options have the same text."""
    reason: str = ""
    """Why it names none, or how it names one (``same_letter``, ``same_text``)."""
    text: str = ""
    rule: str | None = None


class _Commit(NamedTuple):
    """A place where prose gives an option as the answer."""

    start: int
    letter: str
    weak: bool
    """"X is correct", which may be said of several."""


class _Line(NamedTuple):
    """One labelled piece of a walk through the options."""

    letter: str
    rest: str


class Reader:
    """Finds the option that a response names; ``choice`` says what is refused, and why."""

    def __init__(self, options: Options, known: str, question: str) -> None:
        self._options = options
        self._known = known
        self._question_words = frozenset(re.findall(r"\w+", key(question[-LONGEST_TAIL:]))) if options else frozenset()
        first = next((text for text in options.values() if text), "")
        asked = question[: question.find(first)] if first else question
        self._asks_for_one_right = bool(question) and not w.NEGATIVE.search(asked) and "except" not in asked.lower()

    def read(self, response: str) -> Reading:
        """The option that the response names, or why it names none."""
        final = final_text(response)
        found = explicit_answer(final)
        if found and found[1] != "answer_is":
            return self._marked(final, *found)
        announced = self._announced(final)
        if announced and announced.reason != "no_option":
            return announced
        walk = self._walk(final)
        whole = self._walked(final, walk) if walk else self._whole(final)
        if whole:
            return whole
        reading = self.name(found[0])._replace(rule=found[1]) if found else announced
        if reading and announced is None:
            return reading
        pointed = (None if walk else self._pointed(final)) or self._concluded(final)
        if pointed:
            return pointed
        if found and reading and not reading.letters and announced and announced.text:
            later = final[final.rfind(found[0]) + len(found[0]) :]
            changed = w.TAKEN_BACK.search(later) or w.CORRECTS.search(later)
            return reading._replace(reason="several_answers") if changed else reading
        if announced and announced.text:
            return announced
        extraction = extract_answer(response)  # a box in the reasoning, where nothing follows it
        if extraction.answer is not None and extraction.rule in ("boxed", "boxed_list", "answer_tag", "hashes"):
            return self.name(extraction.answer)._replace(rule=extraction.rule)
        last = final[final.rfind("\n") + 1 :]
        if self._options and extraction.answer is not None and not walk and not w.NEGATIVE.search(last):
            reading = self._text(extraction.answer)
            if reading.letters:
                return self._unless_beside(reading, last)._replace(rule=extraction.rule)
        return Reading(reason="no_answer")

    def _marked(self, final: str, answer: str, rule: str) -> Reading:
        """A box, tag or ``####``; a letter announced after it must not name another option."""
        reading = self.name(answer)._replace(rule=rule)
        at = max(final.rfind("\\boxed"), final.rfind("</answer>"), final.rfind("####"))
        line = final.rfind("\n", 0, max(at, 0)) + 1
        if not reading.letters or at < 0:
            return reading
        beside = self._announced(final[line:])
        if beside is not None and beside.reason == "several_answers":
            return beside
        if beside is not None and beside.letters and not beside.letters & reading.letters:
            both_letters = reading.reason == beside.reason == "same_letter"
            reason = "several_answers" if both_letters else "letter_text_conflict"
            return Reading(reason=reason, text=answer, rule=rule)
        return self._unless_changed(reading, final[final.find("\n", at) + 1 or at :])

    def _announced(self, final: str) -> Reading | None:
        """After the last "the answer is" (or in the last field "answer") that something usable follows.

        ``no_option`` where only others are there: with no text where the answer is denied or not the writer's own.
        """
        unusable: Reading | None = None
        cues = [(m.start(), m.end(), "") for m in list(w.ANNOUNCED.finditer(final))[-50:]]
        cues += [(m.start(), m.end(), m[1] or m[2]) for m in list(w.JSON_FIELD.finditer(final))[-50:]]
        for start, end, field in sorted(cues, reverse=True):
            line_end = final.find("\n", end)
            tail = field or final[end : line_end if line_end >= 0 else len(final)][:LONGEST_TAIL]
            if w.denied_before(final, start, start) or w.distanced(final, start):
                unusable = unusable or Reading(reason="no_option", rule="answer_is")
                continue
            reading = self.name(tail, announced=True)
            if reading.letters or reading.reason in ("several_answers", "letter_text_conflict"):
                return self._unless_changed(reading, final[end:])._replace(rule="answer_is")
            if reading.text:
                unusable = unusable or reading._replace(rule="answer_is")
        return unusable

    def _unless_changed(self, reading: Reading, later: str) -> Reading:
        """The reading, unless what follows commits to another option or takes it back."""
        if not reading.letters:
            return reading
        commits = [c for c in self._commits(later) if not c.weak or self._asks_for_one_right]
        changed = any(c.letter not in reading.letters for c in commits)
        taken_back = max((m.end() for m in w.TAKEN_BACK.finditer(later)), default=-1)
        if taken_back >= 0 and not any(c.start >= taken_back for c in commits):
            changed = True
        for match in list(w.CORRECTS.finditer(later))[-20:]:
            text = plain(later[match.end() : match.end() + 300])
            other = self._starts_with_option(text)
            changed = changed or bool(other and not other & reading.letters)
        return Reading(reason="several_answers", text=reading.text) if changed else reading

    def _starts_with_option(self, text: str) -> frozenset[str]:
        letters, _ = self._starting(key(text))
        return letters or by_value(self._options, w.first_clause(text))

    def _commits(self, text: str) -> Iterator[_Commit]:
        for pattern in w.COMMITS:
            for match in pattern.finditer(text):
                letter = match["letter"]
                if letter not in self._known or w.distanced(text, match.start()):
                    continue
                if pattern is w.COMMITS[0] and w.OTHERS.search(text[max(0, match.start() - 60) : match.start()]):
                    continue
                if w.denied_before(text, match.start(), match.start("letter")) or w.denied_after(
                    text, match.end("letter")
                ):
                    continue
                if w.DOUBTED.match(text, match.end("letter")):
                    continue
                may_be_word = letter in "AI" and not match["noun"] and not (match["open"] and match["close"])
                if may_be_word and pattern is w.COMMITS[0] and not w.ENDS.match(text, match.end()):
                    continue  # "so I, for one"
                yield _Commit(match.start("letter"), letter, bool(match.groupdict().get("weak")))

    def _walk(self, final: str) -> list[_Line]:
        """The labelled lines in alphabetical order, where there are several: a walk through the options.

        Empty also where the first or last label breaks that order: it is then no step of the walk, but the answer.
        """
        marks = list(w.INLINE_LABEL.finditer(final))
        ends = [m.start() for m in marks[1:]] + [len(final)]
        lines = [_Line(m[1] or m[2], plain(final[m.end() : end][:LONGEST_TAIL])) for m, end in zip(marks, ends)]
        letters = [line.letter for line in lines]
        if len(set(letters)) < 2 or letters[0] > letters[1] or letters[-1] <= letters[-2]:
            return []
        return lines

    def _walked(self, final: str, walk: list[_Line]) -> Reading | None:
        """A first or last line without a label, or the only option of the walk that is affirmed."""
        lines = [line.strip() for line in final.splitlines() if line.strip()]
        for line in (lines[-1], lines[0]):
            text = plain(line)
            reading = None if w.LABELLED.match(text) else self._bare(text) or self._exact_text(text)
            if reading is not None and reading.letters:
                return self._unless_changed(reading, "" if line == lines[-1] else final)._replace(rule="whole")
        commits = {c.letter for c in self._commits(lines[-1])} if not w.LABELLED.match(plain(lines[-1])) else set()
        if len(commits) == 1:
            return Reading(frozenset(commits), "same_letter", next(iter(commits)), "pointed")
        concluded = self._concluded(final)
        if concluded or commits or not self._asks_for_one_right:
            return concluded
        affirmed = set()
        for letter, rest in walk:
            said = self._without_own_text(letter, rest)
            if letter in self._known and w.AFFIRMED.search(said) and not w.NEGATIVE.search(said):
                affirmed.add(letter)
        if len(affirmed) != 1:
            return None
        return Reading(frozenset(affirmed), "same_letter", next(iter(affirmed)), "walk")

    def _without_own_text(self, letter: str, rest: str) -> str:
        own = plain(self._options.get(letter, ""))
        return rest[len(own) :] if own and rest.casefold().startswith(own.casefold()) else rest

    def _whole(self, final: str) -> Reading | None:
        """A response that is, or begins or ends with, an option's letter or text."""
        lines = [line.strip() for line in final.splitlines() if line.strip()]
        if not lines:
            return None
        labels = [m[1] or m[2] for m in w.INLINE_LABEL.finditer(final)]
        ends = [lines[-1], lines[0]] if labels[:1] <= labels[1:2] or len(labels) < 2 else [lines[0], lines[-1]]
        for text in (final, *ends) if len(lines) > 1 else (final,):
            shown = plain(text)
            reading = self._bare(shown) or self._exact_text(shown) or self._several(shown)
            if reading is None and (text is not final or len(lines) == 1):
                reading = self._label(shown)
            if reading is None and len(lines) == 1:
                lettered = w.TEXT_AND_LETTER.fullmatch(shown)
                named = self._exact_text(lettered[1]) if lettered else None
                reading = self._unless_beside(named, shown) if named else self._by_value(shown)
            if reading is not None and (reading.letters or reading.reason != "no_option"):
                later = "" if text is lines[-1] else final[final.find(lines[0]) + len(lines[0]) :]
                return self._unless_changed(reading, final if text is final else later)._replace(rule="whole")
        return None

    def _pointed(self, final: str) -> Reading | None:
        """The option that prose commits to; where there is none, the only one that it mentions."""
        letters = [commit.letter for commit in self._commits(final)]
        if not letters:
            for match in w.MENTIONED.finditer(final):
                if match["letter"] not in self._known or w.denied_before(final, match.start(), match.start("letter")):
                    continue
                if not w.denied_after(final, match.end()) and not w.DOUBTED.match(final, match.end()):
                    letters.append(match["letter"])
                    hedged = w.HEDGED.match(final, match.end())
            if len(set(letters)) == 1 and hedged:
                return None
        if not letters:
            return None
        if len(set(letters)) > 1:
            return Reading(reason="several_answers", text=", ".join(dict.fromkeys(letters)), rule="pointed")
        reading = Reading(frozenset(letters), "same_letter", letters[0], "pointed")
        return self._unless_changed(reading, final)._replace(rule="pointed")

    def _concluded(self, final: str) -> Reading | None:
        """The one option whose text the last sentence states: "So it must be Paris", "The capital is Paris"."""
        lines = final.strip().splitlines()
        if len(self._options) < 2 or not lines:
            return None
        sentences = [s for s in re.split(r"(?<=[.!?;])\s+", plain(lines[-1][-LONGEST_TAIL:])) if s.strip(" .")]
        sentence = sentences[-1] if sentences else ""
        if w.LABELLED.match(sentence) or not (len(lines) == len(sentences) == 1 or w.CONCLUDES.match(sentence)):
            return None
        low, at, names = sentence.casefold(), -1, frozenset[str]()
        for letter, option in sorted(self._options.items(), key=lambda item: -len(item[1])):
            text = key(option)
            place = (
                re.search(rf"(?<!\w){re.escape(text)}(?!\w)", low) if len(text) >= 3 and w.WORDS.search(text) else None
            )
            if place is None:
                continue
            if not names:
                names, at, end = frozenset(letter), place.start(), place.end()
            elif key(self._options[min(names)]) == text:
                names |= {letter}
            elif not at <= place.start() < end or len(re.findall(rf"(?<!\w){re.escape(text)}(?!\w)", low)) > 1:
                return None  # another option is spoken of, too
        if not names:
            return None
        before, after = sentence[:at], sentence[end:]
        if w.UNSURE.search(before) or w.UNSURE.search(after):
            return None
        stated = w.STATES.search(before) and not after.strip(" .!*")
        held = re.fullmatch(
            r"(?i)\W*(?:so|thus|hence|therefore|consequently),?\s*(?:(?:the|an|a)\s+)?", before
        ) and w.HOLDS.match(after)
        return Reading(names, "same_text", sentence, "concluded") if stated or held else None

    def name(self, answer: str, announced: bool = False) -> Reading:
        """The option that an answer names."""
        text = plain(answer[:LONGEST_TAIL]).strip(" *")
        exact = self._bare(text) or self._exact_text(text)
        if exact:
            return exact
        contrast = w.NOT_BUT.match(text)
        if contrast:
            text = contrast[1].strip()
            if re.search(r"(?i)\balso\b", text):
                return Reading(reason="several_answers", text=text)
        if w.HEDGED.match(text) or w.DENIED_TAIL.match(text):
            return Reading(reason="no_option", text=text)
        return (
            self._bare(text)
            or self._exact_text(text)
            or self._several(text)
            or self._label(text, announced)
            or self._found_text(text)
            or self._in_prose(text)
            or Reading(reason="no_option" if text else "no_answer", text=text)
        )

    def _bare(self, text: str) -> Reading | None:
        match = w.BARE.fullmatch(text)
        if match is None:
            return None
        letter = match[1].upper()
        if match[1].islower():  # where the options themselves are small letters, it is one of those
            variable = self._exact_text(text)
            if variable is not None:
                return variable
        if letter in self._known:
            return Reading(frozenset(letter), "same_letter", letter)
        return Reading(reason="no_option", text=text)

    def _exact_text(self, text: str) -> Reading | None:
        letters = by_text(self._options, text)
        return Reading(letters, "same_text", text) if letters else None

    def _text(self, text: str) -> Reading:
        return self._exact_text(text) or self._found_text(text) or Reading(reason="no_option", text=text)

    def _several(self, text: str) -> Reading | None:
        match = w.LIST.match(text)
        if match:
            after = text[match.end() :]
            joined = re.search(r"\b(?:and|or|then)\b|和|或", match[0])
            last_is_word = match[0][-1] in "AI" and re.match(r"\s+[a-z]", after)
            if after[:1].isalpha() or (w.ONE_IS.match(after) and not joined) or (last_is_word and not joined):
                return None  # "C, D is wrong", "B, I am sure"
        letters = set(re.findall(r"(?<!\w)[A-J](?!\w)", match[0])) if match else set()
        if not match and w.RUN.fullmatch(text) and set(text) <= set(self._known):
            letters = set(text)
        if len(letters) > 1:
            return Reading(reason="several_answers", text=text)
        return None

    def _label(self, text: str, announced: bool = False) -> Reading | None:
        """A letter, then punctuation or a clause: ``B. foo``, ``(B) foo``, ``B because ...``."""
        if self._prefix(text) is not None:
            return None  # "E. coli is one" begins with the text of an option, and does not name option E
        for pattern in (w.LETTER_ASIDE, w.LABELLED, w.LETTER_CLAUSE, w.LETTER_CJK, w.LETTER_WORD):
            match = pattern.fullmatch(text)
            if match is None:
                continue
            *letters, rest = match.groups()
            letter = next(x for x in letters if x)
            if letter not in self._known:
                return None
            if pattern is w.LETTER_WORD and not by_text(self._options, rest) & {letter}:
                continue  # "B cells": a letter without punctuation counts before its own option's text only
            unhyphened = rest.lstrip("–—- ")  # "B - foo", but "B. -5" is minus five
            other = self._exact_text(rest) or self._exact_text(unhyphened) or self._prefix(unhyphened)
            if pattern is w.LETTER_ASIDE:
                other = other or self._by_value(rest)
                if other is None and self._denied(rest, 0):
                    return None  # "C (not correct)"
            if other is None and self._denied(text, match.end(1) if match[1] else match.start() + 1):
                continue
            conflict = other is not None and letter not in other.letters
            if conflict and not self._is_aside(letter, text, rest, announced):
                return Reading(reason="letter_text_conflict", text=text)
            said = self._without_own_text(letter, rest)
            ruled_out = w.RULED_OUT.search(re.split(r"[.;!?](?:\s|$)", said, maxsplit=1)[0])
            if ruled_out or (said != rest and self._denied(said, 0)):
                return None
            if self._offers_another(letter, said):
                return Reading(reason="several_answers", text=text)
            return Reading(frozenset(letter), "same_letter", letter)
        return None

    def _denied(self, text: str, at: int) -> bool:
        """``denied_after``, but "B, not nucleus" denies another option where that is its text."""
        if not w.denied_after(text, at):
            return False
        contrast = w.CONTRAST.match(text, at)
        return contrast is None or not self._starts_with_option(text[contrast.end() :])

    def _offers_another(self, letter: str, said: str) -> bool:
        """Whether another option is offered beside the labelled one: "C) Paris or D) Madrid"."""
        if w.GROUP.match(said):
            return False  # an option's text that speaks of others
        reasons = len(w.statement(said))
        for match in w.OR_LETTER.finditer(said):
            if match.start() > reasons:
                break
            may_be_word = match["letter"] in "AI" and not match["close"]
            denied = w.NEGATIVE.search(said[: match.start()])  # "it can't be A or B"
            if match["letter"] in self._known.replace(letter, "") and not may_be_word and not denied:
                return True
        return False

    def _is_aside(self, letter: str, text: str, rest: str, announced: bool) -> bool:
        """Whether a sentence after the letter only begins with another option: "C. London is the capital of the UK".

        Not where it may be the answer to the question, in the question's words: "B. Paris is the capital of France".
        """
        if not re.match(r"[(\[]?[A-J][)\]]?\.\s", text):
            return False
        _, length = self._starting(key(rest))
        predicate = key(rest)[length:]
        verb = re.match(r" (?:is|was|are|were|has|had|lies)\b(.*)", predicate, re.DOTALL)
        if verb is None or w.AFFIRMED.search(predicate):
            return False
        own = key(self._options.get(letter, ""))
        if own and re.search(rf"(?<!\w){re.escape(own)}(?!\w)", predicate) and not w.NEGATIVE.search(predicate):
            return True
        content = [
            word for word in re.findall(r"\w+", re.split(r"[.;]", verb[1], maxsplit=1)[0]) if word not in _SMALL_WORDS
        ]
        return announced and any(word not in self._question_words for word in content)

    def _prefix(self, text: str) -> Reading | None:
        """An option's text at the beginning, if it has words (a number may go on as another one)."""
        start = key(text[:LONGEST_TAIL])
        letters, length = self._starting(start)
        if not letters:
            return None
        alternative = w.ALTERNATIVE.match(start, length)
        if alternative:
            others, _ = self._starting(start[alternative.end() :])
            if others and not others & letters:
                return Reading(reason="several_answers", text=text)
        return Reading(letters, "same_text", text)

    def _starting(self, text: str) -> tuple[frozenset[str], int]:
        """The options with the longest text that ``text`` (a key) starts with, and that option text's length."""
        found: dict[int, set[str]] = {}
        for letter, option in self._options.items():
            start = key(option)
            goes_on = text[len(start) : len(start) + 1].isalnum()
            if len(start) >= 3 and text.startswith(start) and w.WORDS.search(start) and not goes_on:
                found.setdefault(len(start), set()).add(letter)
        longest = max(found, default=0)
        return frozenset(found.get(longest, ())), longest

    def _found_text(self, text: str) -> Reading | None:
        prefix = self._prefix(text)
        if prefix is not None:
            denied = w.denied_after(key(text), self._starting(key(text))[1])
            return None if denied else self._unless_beside(prefix, text)
        for candidate in (text, w.first_clause(text)):
            reading = self._exact_text(candidate) or self._by_value(candidate)
            if reading:
                return self._unless_beside(reading, text)
        return None

    def _by_value(self, text: str) -> Reading | None:
        letters = by_value(self._options, text)
        return self._unless_beside(Reading(letters, "same_text", text), text) if len(letters) == 1 else None

    def _unless_beside(self, reading: Reading, text: str) -> Reading:
        """The option that a text names, unless another one's letter stands beside it: "Paris (B)"."""
        text = plain(text)
        for letter in reading.letters:
            text = self._without_own_text(letter, text)
        beside = set()
        for match in w.BESIDE.finditer(w.statement(text)):
            letter = match["bracketed"] or match["named"] or match["last"]
            if letter in self._known and not w.denied_before(text, match.start(), match.start(match.lastgroup or 0)):
                beside.add(letter)
        if reading.letters and beside and not beside & reading.letters:
            return Reading(reason="letter_text_conflict", text=text)
        return reading

    def _in_prose(self, text: str) -> Reading | None:
        """Letters within a marked answer: "for sure D, it can't be A"."""
        letters: list[str] = []
        end = 0
        for match in w.STANDALONE.finditer(text):
            wrapped = bool(match[1]) and bool(match[3])
            if match[2] not in self._known or w.denied_before(text, match.start(), match.start(2)):
                continue
            if not wrapped and not self._is_no_word(text, match):
                continue
            if w.denied_after(text, match.end()) or w.DOUBTED.match(text, match.end()):
                continue
            if letters and w.CLAUSE_END.search(text, end, match.start()):
                break  # a reason follows, and reasons speak of other options
            letters.append(match[2])
            end = match.end()
        if not letters:
            return None
        if len(set(letters)) > 1:
            return Reading(reason="several_answers", text=text)
        return Reading(frozenset(letters), "same_letter", letters[0])

    def _is_no_word(self, text: str, match: re.Match[str]) -> bool:
        """Whether a bare letter in prose is a label: at the end of its clause, not after a noun ("vitamin C")."""
        after = text[match.end() :]
        ends = not after.strip() or w.CLAUSE_END.match(after.lstrip()) is not None
        before = text[: match.start()].split()
        cue = not before or before[-1].lower().strip(",:") in w.BEFORE_LABEL
        return ends and cue


_SMALL_WORDS = frozenset(
    ["the", "a", "an", "of", "in", "on", "at", "to", "for", "and", "not", "is", "are", "with", "by"]
)
