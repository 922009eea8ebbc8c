"""Chat rendering: one function for sampling, training and scoring, so that all three see the same tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from sft.errors import TrainingDataError

IGNORE = -100
"""Label of a token that carries no loss."""


def render_prompt(tokenizer: Any, messages: Sequence[tuple[str, str]]) -> str:
    """The text a model sees before it answers: the chat so far plus the opening of the assistant's turn.

    Raises:
        TrainingDataError: when the template refuses the messages (for example a system turn it does not know).
    """
    chat = [{"role": role, "content": content} for role, content in messages]
    try:
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # templates are programs of the model's author and raise what they like
        raise TrainingDataError(f"the chat template refuses this conversation: {error}") from error


class Encoded(NamedTuple):
    """One training sequence: token ids and labels of equal length, labels ``IGNORE`` on the prompt."""

    input_ids: list[int]
    labels: list[int]

    def digest(self) -> str:
        """Identity of the sequence; teacher targets are stored under it and refuse any other."""
        return hashlib.sha256(repr((self.input_ids, self.labels)).encode()).hexdigest()[:24]


def encode_example(tokenizer: Any, messages: Sequence[tuple[str, str]], response: str) -> Encoded:
    """Prompt and response as one sequence. Loss on the response and on the end-of-sequence token after it.

    The prompt is tokenised alone, exactly as it is for sampling; the response follows the generation prompt as the
    model itself would have written it. The template's own rendering of an assistant turn is not used: several
    templates drop or double reasoning there.
    """
    prompt_ids = tokenizer(render_prompt(tokenizer, messages), add_special_tokens=False)["input_ids"]
    response_ids = tokenizer(response, add_special_tokens=False)["input_ids"]
    completion = [*response_ids, tokenizer.eos_token_id]
    return Encoded([*prompt_ids, *completion], [IGNORE] * len(prompt_ids) + completion)


def tokenizer_digest(tokenizer: Any) -> str:
    """Identity of a tokenizer's vocabulary: plain KL between two models needs equal digests."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(repr(vocabulary).encode()).hexdigest()[:24]
