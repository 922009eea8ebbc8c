"""Chat rendering: one function for sampling, training and scoring, so that all three see the same tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from sft.errors import TrainingDataError

IGNORE = -100
"""Label of a token that carries no loss."""

THINK_OPEN = "<think>"

# Two of the largest families write today's date into every prompt: stored completions would be lost at midnight, and a
# student be taught and scored on different prompts. The line break belongs to the block (the templates are read with
# trim_blocks), so that the template's own beginning stays as it is.
_FIXED_CLOCK = "{% macro strftime_now(format) %}01 Jan 2025{% endmacro %}\n"


def render_prompt(tokenizer: Any, messages: Sequence[tuple[str, str]]) -> str:
    """The text a model sees before it answers: the chat so far plus the opening of the assistant's turn.

    A template that asks for today's date (``strftime_now``) is told the same day always: 01 Jan 2025.

    Raises:
        TrainingDataError: when the template refuses the messages (for example a system turn it does not know).
    """
    chat = [{"role": role, "content": content} for role, content in messages]
    try:
        template = tokenizer.get_chat_template()  # the default one where there are several
        if "strftime_now" in template:
            template = _FIXED_CLOCK + template
        return str(
            tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, add_generation_prompt=True)
        )
    except Exception as error:  # templates are programs of the model's author and raise what they like
        raise TrainingDataError(f"the chat template refuses this conversation: {error}") from error


def opens_thinking(prompt: str) -> bool:
    """Whether a rendered prompt itself opens the reasoning, so that the model only closes it."""
    return prompt.rstrip().endswith(THINK_OPEN)


class Encoded(NamedTuple):
    """One training sequence: token ids and labels of equal length, labels ``IGNORE`` on the prompt."""

    input_ids: list[int]
    labels: list[int]

    def digest(self) -> str:
        """Identity of the sequence; teacher targets are stored under it and refuse any other."""
        return hashlib.sha256(repr((self.input_ids, self.labels)).encode()).hexdigest()[:24]


def num_supervised(example: Encoded) -> int:
    """Tokens of the sequence that carry loss. (The first of a sequence cannot: nothing predicts it.)"""
    return sum(label != IGNORE for label in example.labels[1:])


def encode_example(tokenizer: Any, messages: Sequence[tuple[str, str]], response: str) -> Encoded:
    """Prompt and response as one sequence. Loss on the response and on the end-of-sequence token after it.

    The prompt is tokenised alone, exactly as it is for sampling; the response follows the generation prompt as the
    model itself would have written it. The template's own rendering of an assistant turn is not used: several
    templates drop or double reasoning there. Where the prompt already opens the reasoning, the response's own opening
    tag is left out.
    """
    prompt = render_prompt(tokenizer, messages)
    if opens_thinking(prompt) and response.lstrip().startswith(THINK_OPEN):
        response = response.lstrip().removeprefix(THINK_OPEN).removeprefix("\n")
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    response_ids = tokenizer(response, add_special_tokens=False)["input_ids"]
    completion = [*response_ids, tokenizer.eos_token_id]
    return Encoded([*prompt_ids, *completion], [IGNORE] * len(prompt_ids) + completion)


def tokenizer_digest(tokenizer: Any) -> str:
    """Identity of a tokenizer's vocabulary: plain KL between two models needs equal digests."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(repr(vocabulary).encode()).hexdigest()[:24]
