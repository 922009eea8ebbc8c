"""A language model behind an OpenAI-compatible endpoint as the judge of ``verifiers.judge``."""

from __future__ import annotations

from collections.abc import Sequence

from factory.engines.base import Engine, Request, SamplingParams
from verifiers.judge import Generate, JudgePrompt

_MAX_TOKENS = 2048


def generate_with(engine: Engine, *, temperature: float = 0.0, seed: int = 0) -> Generate:
    """The engine as ``judge_all`` asks it: one text per prompt, None where the request failed."""
    params = SamplingParams(temperature=temperature, max_tokens=_MAX_TOKENS)

    def generate(prompts: Sequence[JudgePrompt]) -> list[str | None]:
        requests = [_request(engine, prompt, params, number, seed) for number, prompt in enumerate(prompts)]
        texts: dict[str, str | None] = {}
        for group in engine.generate(requests):
            texts |= {c.request.key: None if c.finish_reason == "error" else c.text for c in group}
        return [texts.get(request.key) for request in requests]

    return generate


def _request(engine: Engine, prompt: JudgePrompt, params: SamplingParams, number: int, seed: int) -> Request:
    messages = (("system", prompt.system), ("user", prompt.user))
    return Request(messages, engine.render(messages), params, number, seed, engine.identity)
