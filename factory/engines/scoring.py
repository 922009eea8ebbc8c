"""What a model makes of a text that is there: the log-probability of each token of a response, and of its sentences.

Tokens are those of training and sampling: the rendered prompt and the response are tokenised apart and joined. The
response's first token is predicted by the prompt's last. No end-of-sequence token is added.

Logits are of temperature 1, in natural logarithms, normalised over the whole vocabulary in float32.

A sentence ends after ``.``, ``!``, ``?``, ``…`` or their full-width forms, with closing quotes and brackets, where
white space follows, and at a line break. A full stop does not end one after a single letter (``e.g.``), a number that
opens a line (``1. First``), or a common abbreviation (``Fig. 2``). The white space after a sentence belongs to it;
stretches without a letter or digit (``---``, ``$$``) join the sentence before them. So sentences tile the response, and
their sums add up to the whole. A token belongs to the sentence of its first character that is no white space.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Protocol

from factory.engines.config import EngineConfig, TransformersEngineConfig, VllmEngineConfig
from factory.errors import ModelError
from sft.chat import THINK_OPEN, opens_thinking

_END = re.compile(r"[.!?…]+[\"'”’)\]}*_]*(?=\s)\s*|[。！？]+[”’」』）]*\s*|[^\S\n]*\n\s*")
_NO_END = re.compile(
    r"(?:^|[\s(\[\"'])(?:[A-Za-z]|[A-Za-z]\.[A-Za-z]|approx|cf|ch|def|dr|eq|eqn|eqs|etc|fig|figs|mr|mrs|ms|no|prof|resp"
    r"|sec|st|vs|viz)\.\s*$|(?:^|\n)[ \t]*\(?\d{1,3}\.[ \t]+$",
    re.IGNORECASE,
)
_LOOK_BACK = 24


@dataclass(frozen=True)
class SentenceScore:
    """A stretch ``response[start:end]`` and the log-probability of its tokens."""

    start: int
    end: int
    num_tokens: int
    """0 where every token of the stretch begins in another sentence."""
    sum_logprob: float

    @property
    def mean_logprob(self) -> float:
        """Per token; NaN without tokens. ``exp`` of it is the sentence's probability per token."""
        return self.sum_logprob / self.num_tokens if self.num_tokens else math.nan


@dataclass(frozen=True)
class ResponseScore:
    """The log-probabilities of one response, one entry per token in each tuple."""

    response: str
    token_ids: tuple[int, ...]
    starts: tuple[int, ...]
    """Where each token's text begins in ``response``; tokens of one character share it."""
    ends: tuple[int, ...]
    logprobs: tuple[float, ...]
    problem: str | None = None
    """Why there are no log-probabilities (too long for the model, nothing to score)."""

    @cached_property
    def sum_logprob(self) -> float:
        """Of the whole response; minus this is its negative log-likelihood."""
        return math.fsum(self.logprobs)

    @property
    def mean_logprob(self) -> float:
        """Per token; NaN without tokens."""
        return self.sum_logprob / len(self.logprobs) if self.logprobs else math.nan

    @cached_property
    def sentences(self) -> tuple[SentenceScore, ...]:
        """The response's sentences in order; their token counts and sums add up to the response's."""
        spans = split_sentences(self.response)
        groups: list[list[float]] = [[] for _ in spans]
        at = 0
        for start, end, logprob in zip(self.starts, self.ends, self.logprobs, strict=True):
            text = self.response[start:end]
            first = start + len(text) - len(text.lstrip()) if text.strip() else start
            while at + 1 < len(spans) and first >= spans[at][1]:
                at += 1
            groups[at].append(logprob)
        return tuple(SentenceScore(a, b, len(g), math.fsum(g)) for (a, b), g in zip(spans, groups, strict=True))


def split_sentences(text: str) -> list[tuple[int, int]]:
    """``(start, end)`` of each sentence, in order, without gaps; see the module's text for the rule."""
    cuts = [0]
    for match in _END.finditer(text):
        end = match.end()
        if "\n" not in match[0] and _NO_END.search(text[max(cuts[-1], end - _LOOK_BACK) : end]):
            continue
        cuts.append(end)
    if cuts[-1] < len(text):
        cuts.append(len(text))
    spans: list[tuple[int, int]] = []
    for start, end in zip(cuts, cuts[1:]):
        if spans and not any(c.isalnum() for c in text[start:end]):
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


class Scorer(Protocol):
    """Gives the log-probabilities of responses under one model."""

    identity: str
    """Which model this is, as of its engine."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> Iterator[ResponseScore]:
        """One score per ``(rendered prompt, response)``, in the order of the pairs.

        Raises:
            ModelError: when the model cannot be loaded, or its tokenizer does not say where its tokens are.
            EngineError: when the engine fails.
        """
        ...

    def close(self) -> None:
        """Free memory and processes."""
        ...


def build_scorer(config: EngineConfig, identity: str | None = None) -> Scorer:
    """The scorer over the model that an engine's settings name; weights are loaded with the first pair.

    Raises:
        ModelError: for an engine that cannot score given texts (``openai``, ``imported``), or whose model is not there.
    """
    if isinstance(config, TransformersEngineConfig):
        from factory.engines.transformers_scorer import TransformersScorer

        return TransformersScorer(config, identity)
    if isinstance(config, VllmEngineConfig):
        return VllmScorer(config, identity)
    raise ModelError(
        f"model {config.model!r}: engine kind {config.kind} gives no log-probabilities of given texts;"
        " name the weights with kind: transformers or kind: vllm"
    )


class EncodedPair:
    """Prompt and response as the token ids of one sequence, and where the response's tokens lie in its text."""

    def __init__(self, tokenizer: Any, prompt: str, response: str) -> None:
        self.response = response
        skipped = 0
        if opens_thinking(prompt) and response.lstrip().startswith(THINK_OPEN):
            # As in training: the prompt has the tag already.
            rest = response.lstrip().removeprefix(THINK_OPEN).removeprefix("\n")
            skipped = len(response) - len(rest)
        try:
            encoded = tokenizer(response[skipped:], add_special_tokens=False, return_offsets_mapping=True)
        except NotImplementedError as error:
            raise ModelError(
                "this model's tokenizer does not say which characters its tokens stand for (it is a slow one), so its"
                " responses cannot be scored by token and sentence; save the model with a fast tokenizer"
            ) from error
        self.prompt_ids: list[int] = list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        self.response_ids: list[int] = list(encoded["input_ids"])
        offsets = encoded["offset_mapping"]
        # Some tokenizers let a token begin before the end of the one before it; order is what the sentences need.
        self.starts = tuple(accumulate((a + skipped for a, _ in offsets), max))
        self.ends = tuple(max(b + skipped, a) for (_, b), a in zip(offsets, self.starts, strict=True))

    @property
    def ids(self) -> list[int]:
        """The whole sequence."""
        return self.prompt_ids + self.response_ids

    def problem(self, context: int) -> str | None:
        """Why it cannot be scored by a model of this context length, if so."""
        if not self.prompt_ids:
            return "the prompt is empty: nothing predicts the response's first token"
        if not self.response_ids:
            return "the response is empty"
        if len(self.ids) > context:
            return f"prompt and response have {len(self.ids)} tokens, the model takes {context}"
        return None

    def scored(self, logprobs: Sequence[float]) -> ResponseScore:
        """With the log-probability of each response token."""
        if len(logprobs) != len(self.response_ids):
            raise ValueError(f"{len(logprobs)} log-probabilities for {len(self.response_ids)} tokens")
        return ResponseScore(
            self.response, tuple(self.response_ids), self.starts, self.ends, tuple(map(float, logprobs))
        )

    def failed(self, problem: str) -> ResponseScore:
        """Without log-probabilities."""
        return ResponseScore(self.response, (), (), (), (), problem=problem)


_WINDOW = 256
"""Pairs that wait for each other, so that results keep the order and memory stays bounded."""


class VllmScorer:
    """Scores from vLLM's ``prompt_logprobs``; takes an engine of either mode, which it closes with itself.

    vLLM reads a sequence anew for its log-probabilities (no prefix cache), in chunks of ``max_num_batched_tokens``.

    Raises:
        ModelError: as its engine, and for a LoRA adapter: there vLLM (0.32, seen with the build for CPUs) dies of
            ``prompt_logprobs``.
    """

    def __init__(self, config: VllmEngineConfig, identity: str | None = None) -> None:
        from factory.engines.vllm_engine import VllmEngine
        from factory.engines.vllm_server import VllmServerEngine

        if config.lora:
            raise ModelError(
                f"model {config.model!r}: vLLM does not score texts under a LoRA adapter; merge it into the model"
                " (PEFT's merge_and_unload, then save_pretrained) and name the merged folder"
            )
        kind = VllmServerEngine if config.mode == "server" else VllmEngine
        self.engine: VllmEngine | VllmServerEngine = kind(config, identity)
        self.identity = self.engine.identity

    def score(self, pairs: Sequence[tuple[str, str]]) -> Iterator[ResponseScore]:
        """See ``Scorer``."""
        context = self.engine.context() - 1  # vLLM wants room for a token of its own
        for start in range(0, len(pairs), _WINDOW):
            encoded = [EncodedPair(self.engine.tokens.tokenizer, *pair) for pair in pairs[start : start + _WINDOW]]
            fitting = [pair for pair in encoded if pair.problem(context) is None]
            found: dict[int, list[float]] = {}
            for i, logprobs in self.engine.prompt_logprobs([pair.ids for pair in fitting]):
                found[id(fitting[i])] = logprobs[len(fitting[i].prompt_ids) - 1 :]
            for pair in encoded:
                problem = pair.problem(context)
                yield pair.failed(problem) if problem else pair.scored(found[id(pair)])

    def close(self) -> None:
        """End vLLM."""
        self.engine.close()
