"""vLLM in this process: requests go in one by one, completions come out the moment each is finished.

vLLM packs running requests into batches as they come, and matrix products round differently for another batch shape:
a sample has its own seed and its own random numbers, but its text may differ between two runs where two tokens are
within that rounding of each other. Samples of one prompt share its key/value blocks (prefix caching).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from factory.engines.base import Completion, Request
from factory.engines.guarded import Watch
from factory.engines.vllm_config import VllmEngineConfig
from factory.engines.vllm_setup import ModelTokens, engine_arguments, find_vllm, misfit, vllm_identity
from factory.errors import EngineError, ModelError
from sft.errors import ModelLoadError
from sft.models import fingerprint, release_memory

_MOST_OUTSTANDING = 4096
"""Requests given to vLLM at once: enough for any batch, few enough that their prompts do not pile up."""


class _Job(NamedTuple):
    key: int
    ids: list[int]
    params: Any
    """vLLM's."""


class VllmEngine:
    """Engine over ``vllm.LLM``; weights are loaded with the first request.

    vLLM computes in processes that it starts with ``spawn``: a script that uses this class needs the usual
    ``if __name__ == "__main__":``.

    Raises:
        ModelError: when vLLM is not installed, or the model cannot be found.
    """

    batch_size: int | None = None

    def __init__(self, config: VllmEngineConfig, identity: str | None = None) -> None:
        self.config = config
        try:
            self.identity = identity or vllm_identity(config, fingerprint(config.model))
        except ModelLoadError as error:
            raise ModelError(str(error)) from error
        self.tokens = ModelTokens(config.model)
        self._llm: Any = None
        self._watch: Watch | None = None
        self._num_asked = 0

    def render(self, messages: Sequence[tuple[str, str]]) -> str:
        """The chat in the model's own template, ending where the model's answer begins."""
        return self.tokens.render(messages)

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield completions as they finish. Closing the iterator drops what is still open.

        ``seconds`` of a completion is its share of the time since the group before it: the sum is the whole time.

        Raises:
            ModelError: when vLLM cannot load the model.
            EngineError: when vLLM fails. What had arrived was yielded before.
        """
        if not requests:
            return
        context = self.context()
        unfit: list[Completion] = []
        num_prompt: dict[int, int] = {}

        def jobs() -> Iterator[_Job]:  # one at a time: the token ids of all prompts would fill the memory
            for i, request in enumerate(requests):
                ids = self.tokens.encode(request.prompt)
                if 0 < len(ids) < context:
                    num_prompt[i] = len(ids)
                    yield _Job(i, ids, _sampling(request, context - len(ids)))
                else:
                    unfit.append(misfit(request, len(ids), context))

        last = time.monotonic()
        for group in self._run(jobs()):
            now = time.monotonic()
            share, last = round((now - last) / len(group), 6), now
            yield [self._completion(requests[i], num_prompt.pop(i), output.outputs[0], share) for i, output in group]
        if unfit:
            yield unfit

    def prompt_logprobs(self, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[int, list[float]]]:
        """Per sequence its index and the log-probability of each token but the first, in any order.

        Sequences must be shorter than ``context()``.

        Raises:
            EngineError: when vLLM fails.
        """
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        for group in self._run(_Job(i, list(ids), params) for i, ids in enumerate(sequences)):
            for i, output in group:
                rows = zip(sequences[i][1:], output.prompt_logprobs[1:], strict=True)
                yield i, [float(row[token].logprob) for token, row in rows]

    def context(self) -> int:
        """Most tokens of prompt and completion together. Loads the model."""
        return int(self._load().llm_engine.model_config.max_model_len)

    def close(self) -> None:
        """End vLLM's processes and free their memory. Safe to call twice."""
        llm, self._llm = self._llm, None
        if llm is not None:
            core: Any = getattr(llm.llm_engine, "engine_core", None)
            if hasattr(core, "shutdown"):
                core.shutdown()
            del llm, core
            release_memory()
        if self._watch is not None:
            self._watch.stop(kill=True)  # what a failed start or a hanging end has left
            self._watch = None

    def _load(self) -> Any:
        if self._llm is None:
            find_vllm()  # says what to install
            # Set before the import, which reads them. Settings of the user's own environment win.
            os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
            os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
            os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
            arguments = engine_arguments(self.config)
            self.tokens.tokenizer  # noqa: B018 - a model without a template is refused before its weights are loaded
            self._watch = Watch()  # vLLM's processes stay when this one is killed
            try:
                from vllm import LLM

                self._llm = LLM(**arguments)
                self._watch.collected()
            # The boundary to vLLM, whose start raises whatever its parts raise.
            except Exception as error:
                self.close()
                raise ModelError(
                    f"model {self.config.model!r}: vLLM cannot load it: {_first_line(error)}\n  for want of memory"
                    " lower engine.max_model_len or raise engine.gpu_memory_utilization; its own lines above say more"
                    " (VLLM_LOGGING_LEVEL=INFO for all of them)"
                ) from error
        return self._llm

    def _run(self, jobs: Iterator[_Job]) -> Iterator[list[tuple[int, Any]]]:
        """Groups of (index, vLLM's output) as they finish."""
        engine, lora = self._load().llm_engine, self._lora()
        open_jobs: dict[str, int] = {}
        try:
            while True:
                for job in jobs:
                    name = f"factory-{self._num_asked}"
                    self._num_asked += 1
                    engine.add_request(name, _prompt(engine, job.ids), job.params, lora_request=lora)
                    open_jobs[name] = job.key
                    if len(open_jobs) >= _MOST_OUTSTANDING:
                        break
                if not open_jobs:
                    return
                done = [output for output in engine.step() if output.finished]
                if done:
                    yield [(open_jobs.pop(output.request_id), output) for output in done]
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except Exception as error:  # the boundary to vLLM
            raise EngineError(
                f"model {self.config.model!r}: vLLM failed: {_first_line(error)}; completions that arrived are kept,"
                " run again (with engine.mode: server a vLLM that dies is started again by itself)"
            ) from error
        finally:
            if open_jobs:
                with contextlib.suppress(Exception):  # of a dead engine
                    engine.abort_request(list(open_jobs))

    def _lora(self) -> Any:
        if not self.config.lora:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest("factory", 1, self.config.lora)

    def _completion(self, request: Request, num_prompt: int, output: Any, seconds: float) -> Completion:
        ids = list(output.token_ids)
        if output.finish_reason not in ("stop", "length"):
            message = f"vLLM ended the completion after {len(ids)} tokens: {output.finish_reason}"
            return Completion(request, "", "error", num_prompt, len(ids), seconds, error=message)
        text = self.tokens.text(request, ids, stopped=output.finish_reason == "stop")
        return Completion(request, text, output.finish_reason, num_prompt, len(ids), seconds)


def _prompt(engine: Any, ids: list[int]) -> Any:
    """Token ids in the form that this vLLM takes: newer ones want them prepared by their renderer."""
    prompt = {"prompt_token_ids": ids}
    render = getattr(getattr(engine, "renderer", None), "render_cmpl", None)
    return prompt if render is None else render([prompt])[0]


def _sampling(request: Request, room: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    params = request.params
    return SamplingParams(
        temperature=params.temperature,
        top_p=params.top_p,
        max_tokens=min(params.max_tokens, room),
        seed=request.seed,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
