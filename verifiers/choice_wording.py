"""The wording around an option's letter: what announces, points at, denies, doubts or takes back an answer."""

from __future__ import annotations

import re

BARE = re.compile(r"(?:\(?\[{0,2}\{?|<)([A-Ja-j])(?:\}?\]{0,2}\)?|>)[.:,;)]?(?:\s*[✓✔✅√])?")
TEXT_AND_LETTER = re.compile(r"(.*\S)\s*[(\[][A-J][)\]]\.?", re.DOTALL)
LABELLED = re.compile(r"(?:[(\[]([A-J])[)\]]|([A-J])(?:[)\]:：．、。]|\.(?!\w)))[\s:*.,]*(.*)", re.DOTALL)
# "C Cecile", "C because ...": a letter and no punctuation. "A" and "I" would be words here.
LETTER_WORD = re.compile(r"([B-HJ])(?:\s*[,;]|\s+[–—-])?\s+(.*)", re.DOTALL)
LETTER_CLAUSE = re.compile(
    r"([A-J])(?:\s*[,;–—-]\s*|\s+(?=(?:because|since|as|for|but|not|non|and|or|is|rather|instead)\b))(.*)", re.DOTALL
)
LETTER_ASIDE = re.compile(r"([A-J])\s*[(\[](.*)[)\]]\.?", re.DOTALL)
"""``B (4)``."""
LETTER_CJK = re.compile(r"([A-J])(?=[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af，。；、])(.*)", re.DOTALL)
_SEPARATOR = r"(?:,\s*(?:and|or)\b|,|/|;|&|\+|\||、|和|或|\b(?:and|or|then)\b)"
LIST = re.compile(
    rf"[(\[]?([A-J])[)\]]?\.?((?:\s*(?:{_SEPARATOR}|[–—-])\s*[(\[]?[A-J][)\]]?(?!\w))+)"
    r"|(?:[(\[][A-J][)\]]\s*){2,}|[A-J](?:\s+[A-J]){1,9}(?=\W*$)",
)
RUN = re.compile(r"[A-J]{2,10}")
ONE_IS = re.compile(r"\s*(?:is|was|isn|can|can't|cannot|does|doesn|has|would|could)\b")
"""After "C, D": a clause about D alone begins."""
DENIED_BEFORE = re.compile(
    r"(?:\bnot|n['’]t(?:\s+be)?|\bcannot(?:\s+be)?|\bneither|\bnor|\bnon|\bexcept|\bexclud\w+|\beliminat\w+|\brule[sd]?\s+out"
    r"|\beach|\bevery|\bany|\bother|\brather\s+than|\binstead\s+of|\bunlike|\bthan|\b(?:any|every)thing\s+but|\bfar\s+from"
    r"|不是|不选|排除|\bno|\bwrong\s*:?|\bincorrect\s*:?)"
    r"\s+(?:be\s+|an?\s+|the\s+)?(?:option|choice|answer|statement)?s?\s*[(\[*$]*$"
    r"|(?:不是|不选|排除)\s*[(\[*$]*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[)\].*:,]{0,4}\s{0,4}(?:[–—-]\s{0,4})?(?:is|are|was|would\s+be|seems?|looks?|can\s+be)?\s*"
    r"(?:also\s+|clearly\s+|therefore\s+|definitely\s+)?"
    r"(?:not\b|never\b|can\s+never|isn['’]t|can['’]?t|cannot|doesn['’]t|does\s+not|wouldn['’]t|wrong|incorrect|false|invalid|eliminated"
    r"|excluded|ruled\s+out|out\b|no(?=\s*(?:[.,;:!)\n]|[–—-]|$))|[❌✗✘×]|错|不对|不正确|排除)",
    re.IGNORECASE,
)
# "C, not A": another option is denied. (Option texts in small letters are compared by the reader.)
CONTRAST = re.compile(
    r"[)\].*:,]{0,4}\s{0,4}(?:and\s+|but\s+)?not\s+(?:the\s+)?(?:(?:option|choice|answer|letter)\s+)?",
    re.IGNORECASE,
)
_OTHER_NAME = re.compile(r"[(\[*$\"'“]*(?:[A-J](?![\w'’])|(?<!C)[A-Z]\w|\d)")
# What is said of an option after its text: "(A) London is far away, so we can rule it out".
RULED_OUT = re.compile(
    r"\brul\w+\s+(?:it|this|that)\s+out|\b(?:eliminat\w+|exclud\w+|discard\w*|reject\w*)\s+(?:it|this|that)\b"
    r"|\b(?:it|this|that)(?:['’]s|\s+(?:option\s+|choice\s+|one\s+)?(?:is|must\s+be|can\s+be))\s+(?:ruled\s+out|eliminated|excluded"
    r"|discarded|incorrect|wrong|false|out\b|not\s+(?:it|the|correct|right))",
    re.IGNORECASE,
)
AFFIRMED = re.compile(
    r"\b(?:yes|correct|right\s+(?:one|answer|option|choice)|the\s+answer)\b|[✓✔✅√]|正确", re.IGNORECASE
)
NEGATIVE = re.compile(r"\b(?:no|not|never|wrong|incorrect|false|cannot)\b|n['’]t\b|[❌✗✘]|不", re.IGNORECASE)
"""In a question ("which is not"), or anywhere in what is said of an option."""

_COPULA = r"(?:is|would\s+be|should\s+be|must\s+be|will\s+be|has\s+to\s+be|est|es|ist)\b"
ANNOUNCED = re.compile(
    r"(?:\b(?:answer|ans|solution|(?:correct|right|best|final|corresponding|matching)\s+(?:option|choice|letter|statement|one)"
    r"|(?:option|choice)\s+is|réponse|respuesta|antwort)\b"
    r"|^[ \t]*(?:my\s+)?(?:final|choice|pick|letter|selected|selection)\b(?=\s*:))"
    r"[\"'*]*(?:\s+corr?ect[ae])?(?:\s*\([^()\n]{0,30}\))?\s{0,9}"
    rf"(?:(?:{_COPULA}|[:=])\s{{0,9}})?[:*\s]{{0,8}}"
    r"(?:(?:therefore|thus|clearly|for\s+sure|definitely|then|indeed|likely|probably|option|choice|letter|la|opción)\b[:,]?\s{0,9})*"
    r"|(?:正确)?(?:答案|选项|选择|选)[】\]]?\s{0,9}(?:应该|应)?(?:是|为|选|[:：])?\s{0,9}[:：*]{0,4}\s{0,3}"
    r"|(?:正解|正答|答え)\s?[はを:：]\s{0,3}|(?:정답|답)\s?[은는:：]\s{0,3}",
    re.IGNORECASE | re.MULTILINE,
)
JSON_FIELD = re.compile(
    r"[\"'](?:\w{1,12}[_ ])?(?:answer|choice|option|letter)[\"']\s{0,9}:\s{0,9}"
    r"(?:\"([^\"\n]{1,300})\"|'([^'\n]{1,300})')",
    re.IGNORECASE,
)
HEDGED = re.compile(r"\W{0,3}(?:could|might|may|can|perhaps|maybe|possibly)\b", re.IGNORECASE)
"""At the start of what follows "the answer": nothing is stated."""
DOUBTED = re.compile(r"[)\]*.\s]{0,4}\?")
"""After a letter: "Answer: C? No"."""
NOT_BUT = re.compile(
    r"\W{0,3}not\b(?!\s+(?:only|just|merely|simply)\b)[^.\n]{1,200}?\bbut\s+(?:rather\s+|instead\s+)?(.*)", re.DOTALL
)
DENIED_TAIL = re.compile(r"\s*(?:not|n['’]t|never|neither|nor|cannot)\b")
# Before "the answer is C" or "it's C": somebody else's view, an earlier one, or a supposition.
_OPINION = r"(?:think|say|argue|assume|believe|guess|claim|expect|choose|pick)"
DISTANCED = re.compile(
    r"\b(?:if|whether|suppose|supposing|assum\w+|unless|(?<!second )(?<!further )thought"
    rf"|(?:first|initially|originally)\s+(?:guess\w*|believ\w+|said|chose|picked)|tempt\w+\s+to\s+{_OPINION}"
    rf"|(?:people|some|many|others?|one|students?|you)\s+(?:\w+\s+){{0,2}}{_OPINION})"
    r"\s+(?:that\s+|was\s+)?(?:(?:the|my|its?)\s+)?(?:\w+\s+){0,2}$",
    re.IGNORECASE,
)

OTHERS = re.compile(r"\b(?:some|many|others?|people|students?|you|one)\s+(?:\w+\s+){0,2}$", re.IGNORECASE)
"""Before "say C": somebody else does."""
_WRAPPED = r"(?<![\w'’.])(?P<open>[(\[*$]{0,4})(?P<letter>[A-J])(?P<close>[)\]*$]{0,4})"
_ADVERBS = (
    r"(?:(?:actually|really|clearly|definitely|then|therefore|thus|probably|likely|indeed|rather|instead|in\s+fact|be)\b,?\s+){0,3}"
    r"(?P<noun>(?:the\s+)?(?:option|choice|letter)\s+)?"
)
_REASON_WORD = r"(?:because|since|as|while|whereas|but|not|rather|instead|unlike|although|though)\b"
COMMITS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?i:(?:\b(?:it|that|this|which|answer)(?:['’]s|\s+(?:is|was|should|must|has\s+to|would|will))"
        r"|\b(?:choose|select|pick|say|mean|meant|go(?:ing)?\s+with|stick\w*\s+with|settl\w+\s+on|change\s+(?:it|that|my\s+answer)\s+to|make\s+(?:it|that))"
        rf"|\b(?:no|wait|actually|sorry|correction|therefore|thus|hence|so)\b[,:.]?)\s+{_ADVERBS})"
        rf"{_WRAPPED}(?=\s*(?:[.,;:!，。；]|$|\n|{_REASON_WORD}))",
        r"(?:\A|\n|[.!?。;]\s)[ \t]*(?i:(?P<noun>(?:option|choice)\s+)?)" + _WRAPPED + r"[.!]?[ \t*]*(?=\n|\Z)",
        rf"(?P<noun>(?i:\b(?:option|choice|statement)\s+)?){_WRAPPED}"
        r"\s+(?i:(?:is|must\s+be|seems|looks)\s+(?:(?:clearly|definitely|actually|probably|therefore|then|indeed)\s+){0,2})"
        r"(?i:(?:the\s+)?(?:only\s+|most\s+)?(?:more\s+likely|likeli\w+"
        r"|(?:(?:correct|right|best|true)\s+)?(?:answer|one|option|choice)|(?P<weak>correct|right|best|true))\b)",
    )
)
"""An answer is given in other words than "the answer is"; ``weak`` may be said of several options."""
ENDS = re.compile(r"\s*(?:[.!。]|$|\n|,\s*(?:not|because|since)\b)")
MENTIONED = re.compile(
    r"\b(?i:option|choice|statement|alternative)\s+(?i:option\s+|choice\s+)?[(\[*$]*(?P<letter>[A-J])(?![\w'’])"
)
TAKEN_BACK = re.compile(
    r"\bWait\b|\bwait\s*[,.!–—]|(?i:\bhold\s+on\b|\bscratch\s+that\b|\bon\s+second\s+thoughts?\b)"
    r"|\bI\s+(?:made\s+a\s+mistake|was\s+wrong|take\s+(?:it|that)\s+back|misread)\b|\b[Nn]o,\s+(?:that|it|this)(?:['’]s|\s+is)\s+(?:wrong|not)"
)
CORRECTS = re.compile(
    r"\b(?:(?:no|wait|sorry|correction|hmm)\s*[,.:!–—-]|actually,?|(?:it|answer)\s+(?:should|must)(?:\s+(?:actually|really))?\s+be)\s+"
    r"(?:(?:I\s+mean|rather|actually),?\s+)?(?:(?:it|that|the\s+answer)(?:['’]s|\s+is|\s+(?:should|must)\s+be)\s+)?"
    r"(?:(?:actually|really|rather)\s+)?",
    re.IGNORECASE,
)
"""Before an option's text: the answer is changed to it."""
STANDALONE = re.compile(r"(?<![\w'’\\^.])([(\[*]{0,4})([A-J])([)\]*]{0,4})(?![\w'’])")
CLAUSE_END = re.compile(
    r"[,.;:!?，。；：]|\b(?:because|since|as|while|whereas|but|not|non|rather|instead|unlike|although|though|which)\b"
)
REASON = re.compile(rf"[.;!?](?=\s|$)|[。；]|\b(?:{_REASON_WORD}|than\b)")
"""Where a statement ends and its reasons, which speak of other options, begin."""
ALTERNATIVE = re.compile(r"[ ,]{0,4}(?:or|and)\s+(?:(?:the|an|a)\s+)?")
OR_LETTER = re.compile(
    r"(?:\b(?:or|and)\b|/)\s*(?:(?:maybe|possibly|perhaps|also|even|else|rather)\s+){0,2}(?:(?:option|choice)\s+)?"
    r"(?P<open>[(\[]?)(?P<letter>[A-J])(?:(?P<close>[)\].:])|(?=\s*(?:[,;!?]|$)))"
)
GROUP = re.compile(
    r"\W{0,3}(?:both|all|none|neither|only|either|[(\[]?[A-J][)\]]?\s*(?:,|and\b|or\b|&))", re.IGNORECASE
)
"""An option's text that speaks of other options: "both A and B"."""
BESIDE = re.compile(
    r"(?<!\w)[(\[]\s*(?i:(?:option|choice|answer|letter)\s+)?(?P<bracketed>[A-J])\s*[)\]]"
    r"|\b(?i:option|choice|answer|letter)\s+(?:is\s+)?[(\[*]*(?P<named>[A-J])(?![\w'’])"
    r"|(?:=|:|–|—|->|→|\s-|,|\bis|\bso)\s*(?P<last>[A-J])(?=\W*$)"
)
WORDS = re.compile(r"[^\W\d_]{3,}")
INLINE_LABEL = re.compile(r"(?:\A|\n|(?<=[.;,!?])[ \t])[ \t>*-]*(?:[(\[]([A-J])[)\]]|([A-J])[).:])(?=[\s*])")
CONCLUDES = re.compile(r"\b(?:so|thus|hence|therefore|consequently|in\s+conclusion|it)\b", re.IGNORECASE)
STATES = re.compile(
    r"(?:\b(?:is|are|was|were|be|will|called|named|remains?|equals|choose|pick|select)|['’]s|[:=])\s*(?:(?:the|an|a)\s+)?$",
    re.IGNORECASE,
)
HOLDS = re.compile(r"\s(?:is|are|was|must\s+be)\b", re.IGNORECASE)
UNSURE = re.compile(
    r"\b(?:not|never|no|neither|nor|none|if|whether|unless|might|may|could|can|cannot|maybe|perhaps|possibly|depend\w*|except|but"
    r"|instead|rather|unlike|unlikely|hardly|doubt\w*|impossible|wrong|incorrect|exclud\w+|eliminat\w+|rul\w+\s+out|some|many|would|or)\b|n['’]t\b|\?",
    re.IGNORECASE,
)
BEFORE_LABEL = frozenset(
    ["is", "be", "it's", "its", "are", "answer", "option", "choice", "letter", "sure", "therefore", "thus", "clearly"]
    + ["definitely", "either", "or", "and", "but", "probably", "likely", "est"]
)


def denied_before(text: str, start: int, end: int) -> bool:
    """Whether the words up to ``end``, and from no more than 40 characters before ``start``, deny what follows."""
    return DENIED_BEFORE.search(text[max(0, start - 40) : end]) is not None


def distanced(text: str, start: int) -> bool:
    """Whether the words before ``start`` make it somebody else's view, an earlier one, or a supposition."""
    return DISTANCED.search(text[max(0, start - 60) : start]) is not None


def denied_after(text: str, at: int) -> bool:
    """Whether the words from ``at`` on deny what stands before: "is wrong" does, and ", not A" does not."""
    if _DENIED_AFTER.match(text, at) is None:
        return False
    contrast = CONTRAST.match(text, at)
    return contrast is None or _OTHER_NAME.match(text, contrast.end()) is None


def first_clause(text: str) -> str:
    """Up to the end of the sentence, a comma, a reason or a letter in brackets."""
    end = re.search(r"[.;!?](?=\s|$)|,\s|\s(?:because|since|as|so|which)\b|\s[(\[][A-J][)\]]", text)
    return text[: end.start()] if end else text


def statement(text: str) -> str:
    """Up to where the reasons begin."""
    end = REASON.search(text)
    return text[: end.start()] if end else text
