"""The engine in this process: samples that depend on their seed alone, and distributions that are the model's."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.engines.base import Completion, Request, SamplingParams
from factory.engines.config import TransformersEngineConfig
from factory.errors import ModelError
from sft.chat import encode_example
from sft.models import fingerprint

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from factory.engines.transformers_engine import (  # noqa: E402
    ENGINE_VERSION,
    TransformersEngine,
    _choose,
    _sample,
    transformers_identity,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Nothing here is big enough for two, and a busy machine makes them wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def engine(model: str, batch_size: int = 16) -> TransformersEngine:
    return TransformersEngine(TransformersEngineConfig(model=model, batch_size=batch_size))


def requests(
    engine: TransformersEngine, count: int, temperature: float = 1.0, top_p: float = 1.0, max_tokens: int = 48
) -> list[Request]:
    params = SamplingParams(temperature, top_p, max_tokens)
    made = []
    for i in range(count):
        question = "+".join(str(10 + (7 * i + 13 * k) % 90) for k in range(2 + i % 3))
        messages = (("user", question),)
        made.append(Request(messages, engine.render(messages), params, 0, seed=1000 + i, model=engine.identity))
    return made


def drawn(engine: TransformersEngine, asked: list[Request]) -> dict[Request, Completion]:
    return {c.request: c for group in engine.generate(asked) for c in group}


def texts(engine: TransformersEngine, asked: list[Request]) -> list[str]:
    found = drawn(engine, asked)
    return [found[request].text for request in asked]


@pytest.fixture(scope="module")
def base(tiny_model: str) -> TransformersEngine:
    return engine(tiny_model)


def test_nothing_is_loaded_before_the_first_request(tiny_model: str) -> None:
    made = engine(tiny_model)
    assert made._model is None and made._tokenizer is None


def test_the_identity_says_which_weights_arithmetic_and_engine_drew(tiny_model: str) -> None:
    config = TransformersEngineConfig(model=tiny_model, dtype="bfloat16")
    assert transformers_identity(config, "sha256:12") == f"sha256:12/bfloat16/e{ENGINE_VERSION}"
    assert TransformersEngine(config).identity == transformers_identity(config, fingerprint(tiny_model))


def test_the_prompt_is_the_models_own_template(base: TransformersEngine) -> None:
    prompt = base.render([("user", "12+34")])
    assert prompt == "<|im_start|>user\n12+34<|im_end|>\n<|im_start|>assistant\n"


def test_equal_seeds_give_equal_texts_and_other_seeds_others(base: TransformersEngine, tiny_model: str) -> None:
    asked = requests(base, 16)
    first = texts(base, asked)
    assert texts(base, asked) == first
    assert texts(engine(tiny_model), asked) == first
    other = [Request(r.messages, r.prompt, r.params, 0, r.seed + 10**6, r.model) for r in asked]
    assert texts(base, other) != first


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_sample_does_not_depend_on_its_batch(base: TransformersEngine, tiny_model: str, temperature: float) -> None:
    """Measured: none of 128 samples differs at batch sizes 1, 7, 16, 64 and 128, in float32 on CPU."""
    asked = requests(base, 30, temperature)
    alone = texts(engine(tiny_model, 1), asked)
    for batch_size in (7, 30):
        together = texts(engine(tiny_model, batch_size), asked)
        assert sum(a != b for a, b in zip(alone, together, strict=True)) <= 1  # rounding may flip one, no more
    shuffled = [asked[i] for i in np.random.default_rng(0).permutation(30)]
    by_request = dict(zip(shuffled, texts(engine(tiny_model, 7), shuffled), strict=True))
    assert sum(by_request[r] != text for r, text in zip(asked, alone, strict=True)) <= 1


def test_every_request_is_answered_exactly_once(base: TransformersEngine) -> None:
    asked = requests(base, 20) + requests(base, 5, temperature=0.0) + requests(base, 3, max_tokens=2)
    groups = list(base.generate(asked))
    assert [c.request for group in groups for c in group] == asked
    assert [len(group) for group in groups] == [16, 4, 5, 3]


def architectures() -> dict[str, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 100, "max_position_embeddings": 128}
    torch.manual_seed(0)
    gpt2 = GPT2Config(vocab_size=100, n_positions=128, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    return {
        "sliding window": MistralForCausalLM(MistralConfig(sliding_window=8, **sizes)).eval(),
        "learned positions": GPT2LMHeadModel(gpt2).eval(),
    }


@pytest.mark.parametrize("name", ["sliding window", "learned positions"])
def test_greedy_is_the_greedy_of_transformers(name: str) -> None:
    model = architectures()[name]
    prompts = [torch.randint(12, 100, (length,)).tolist() for length in (3, 12, 7, 20, 1)]
    stop = set(range(4, 10))
    with torch.inference_mode():
        ours = _sample(
            model, prompts, SamplingParams(0.0, 1.0, 30), seeds=[0] * 5, stop_ids=stop, pad_id=0, context=128
        )
    for prompt, (ids, finish) in zip(prompts, ours, strict=True):
        ids_in = torch.tensor([prompt])
        theirs = model.generate(
            ids_in, attention_mask=torch.ones_like(ids_in), do_sample=False, max_new_tokens=30,
            eos_token_id=sorted(stop), pad_token_id=0,
        )[0, len(prompt) :].tolist()  # fmt: skip
        assert ids == theirs
        assert finish == ("stop" if ids[-1] in stop else "length")


def test_greedy_on_the_shipped_model_is_the_greedy_of_transformers(base: TransformersEngine) -> None:
    asked = requests(base, 8, temperature=0.0)
    found = drawn(base, asked)
    for request in asked:
        ids = base._tokenizer(request.prompt, add_special_tokens=False, return_tensors="pt")
        output = base._model.generate(**ids, do_sample=False, max_new_tokens=48)[
            0, ids["input_ids"].shape[1] :
        ].tolist()
        assert found[request].num_tokens == len(output)
        assert found[request].text == base._tokenizer.decode(output).removesuffix(base._tokenizer.eos_token)


def frequencies(logits: list[float], params: SamplingParams, count: int = 40_000) -> np.ndarray:
    uniforms = np.random.default_rng(0).random(count)
    chosen = _choose(torch.tensor([logits]).expand(count, -1), params, uniforms)
    return np.bincount(chosen, minlength=len(logits)) / count


LOGITS = [2.0, -1.0, 1.5, 0.0, 1.5, -30.0]


def softmax(temperature: float) -> np.ndarray:
    p = np.exp(np.array(LOGITS) / temperature)
    return np.asarray(p / p.sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampled_frequencies_are_the_tempered_softmax(temperature: float) -> None:
    found = frequencies(LOGITS, SamplingParams(temperature, 1.0, 1))
    assert np.abs(found - softmax(temperature)).max() < 0.01  # four standard errors


def test_top_p_keeps_the_smallest_set_that_reaches_it_and_its_proportions() -> None:
    p = softmax(1.0)  # about 0.42 0.02 0.26 0.06 0.26 0.00
    for top_p, kept in [(0.3, [0]), (0.6, [0, 2]), (0.7, [0, 2, 4]), (0.97, [0, 2, 3, 4]), (0.985, [0, 1, 2, 3, 4])]:
        expected = np.where(np.isin(np.arange(6), kept), p, 0)
        found = frequencies(LOGITS, SamplingParams(1.0, top_p, 1))
        assert np.abs(found - expected / expected.sum()).max() < 0.012, top_p
        assert set(np.flatnonzero(found)) == set(kept), top_p


def test_a_tiny_temperature_is_greedy_and_never_fails() -> None:
    assert frequencies(LOGITS, SamplingParams(1e-6, 1.0, 1), 1000)[0] == 1.0


@pytest.mark.parametrize("params", [SamplingParams(0.0, 1.0, 1), SamplingParams(1.0, 0.9, 1), SamplingParams(1.0)])
def test_rows_without_a_distribution_get_no_token_and_the_others_theirs(params: SamplingParams) -> None:
    nan, inf = float("nan"), float("inf")
    sound = [[0.0, 5.0, -inf], [40.0, 0.0, 1.0]]
    broken = [[0.0, nan, 0.0], [inf, 0.0, 0.0], [-inf, -inf, -inf]]
    uniforms = np.full(5, 0.5)
    alone = _choose(torch.tensor(sound), params, uniforms[:2])
    assert alone == [1, 0]
    assert _choose(torch.tensor([sound[0], *broken, sound[1]]), params, uniforms) == [1, None, None, None, 0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_whose_logits_are_no_numbers_is_an_error_and_the_others_go_on(
    base: TransformersEngine, tiny_model: str, temperature: float
) -> None:
    asked = requests(base, 6, temperature)
    whole = drawn(base, asked)
    made = engine(tiny_model)
    model = made._load_model()
    calls = 0

    def break_row_two(module: Any, inputs: Any, logits: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != 4:  # the fourth token; no row has left the batch by then
            return None
        assert len(logits) == 6
        return logits.index_fill(0, torch.tensor([2]), float("nan"))

    model.get_output_embeddings().register_forward_hook(break_row_two)
    found = drawn(made, asked)
    broken = found[asked[2]]
    assert (broken.finish_reason, broken.text, broken.num_tokens) == ("error", "", 3)
    assert broken.error is not None and "not a number after 3 tokens" in broken.error and not broken.permanent
    for request in [*asked[:2], *asked[3:]]:
        assert (found[request].text, found[request].finish_reason) == (
            whole[request].text,
            whole[request].finish_reason,
        )


def test_samples_of_one_prompt_follow_the_models_distribution(base: TransformersEngine) -> None:
    """The first token over many seeds, against the softmax that the model gives for the prompt."""
    messages = (("user", "58+67"),)
    params = SamplingParams(2.0, 1.0, 1)
    prompt = base.render(messages)
    asked = [Request(messages, prompt, params, i, seed=i, model="m") for i in range(2000)]
    found = Counter(c.text for c in drawn(base, asked).values())
    ids = torch.tensor([base._tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        p = torch.softmax(base._model(ids).logits[0, -1] / 2.0, -1)
    for token in p.topk(3).indices.tolist():
        text = base._tokenizer.decode([token])
        assert abs(found[text] / 2000 - float(p[token])) < 4 * float((p[token] * (1 - p[token]) / 2000).sqrt()) + 1e-9


def test_a_stop_token_ends_the_text_and_is_counted_but_not_shown(base: TransformersEngine) -> None:
    found = [c for c in drawn(base, requests(base, 16, temperature=0.0)).values() if c.finish_reason == "stop"]
    assert found
    for completion in found:
        assert "<|im_end|>" not in completion.text
        shown = base._tokenizer(completion.text, add_special_tokens=False)["input_ids"]
        assert completion.num_tokens == len(shown) + 1


def test_any_stop_token_of_the_generation_config_ends_the_text(tiny_model: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    probe = engine(str(copy))
    (request,) = requests(probe, 1, temperature=0.0)
    (whole,) = texts(probe, [request])
    token = probe._tokenizer(whole, add_special_tokens=False)["input_ids"][3]
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": [2, token]}))
    ((completion,),) = engine(str(copy)).generate([request])
    assert completion.finish_reason == "stop" and completion.num_tokens <= 4
    assert whole.startswith(completion.text)


def test_the_token_limit_is_kept_and_told(base: TransformersEngine) -> None:
    for completion in drawn(base, requests(base, 5, temperature=0.0, max_tokens=3)).values():
        assert (completion.finish_reason, completion.num_tokens) == ("length", 3)


def test_a_lower_limit_gives_the_beginning_of_the_same_text(base: TransformersEngine) -> None:
    long, short = (texts(base, requests(base, 8, max_tokens=limit)) for limit in (40, 5))
    assert all(a.startswith(b) for a, b in zip(long, short, strict=True))


def with_prompt(prompt: str, max_tokens: int = 100) -> Request:
    return Request((("user", prompt),), prompt, SamplingParams(0.0, 1.0, max_tokens), 0, 0, "m")


def test_the_context_ends_a_text(base: TransformersEngine) -> None:
    prompt = "1" * 505  # of 512 positions; a token each
    assert len(base._load_tokenizer()(prompt, add_special_tokens=False)["input_ids"]) == 505
    ((completion,),) = base.generate([with_prompt(prompt)])
    assert completion.num_prompt_tokens == 505
    assert completion.num_tokens <= 7


def test_a_prompt_that_does_not_fit_is_an_error_of_its_own(base: TransformersEngine) -> None:
    asked = [with_prompt("1" * 512), *requests(base, 2, temperature=0.0), with_prompt(""), with_prompt("2" * 600)]
    found = drawn(base, asked)
    assert [found[r].finish_reason == "error" for r in asked] == [True, False, False, True, True]
    assert [found[r].permanent for r in asked] == [True, False, False, True, True]
    assert found[asked[0]].error == "the prompt has 512 tokens, the model takes 1 to 511"
    assert found[asked[1]].text == texts(base, requests(base, 2, temperature=0.0))[0]


def test_a_batch_of_nothing_but_misfits_is_no_crash(base: TransformersEngine) -> None:
    assert [c.finish_reason for c in drawn(base, [with_prompt("1" * 600)]).values()] == ["error"]


def test_a_missing_model_is_told_before_anything_runs() -> None:
    with pytest.raises(ModelError, match="no such folder"):
        engine("/nowhere/at/all")


def test_closing_drops_the_weights_and_generating_loads_them_again(tiny_model: str) -> None:
    made = engine(tiny_model)
    asked = requests(made, 2)
    first = texts(made, asked)
    weights = weakref.ref(made._model)
    gc.disable()  # freed by closing, not by chance
    try:
        made._model.itself = made._model  # a cycle, as wrapped models have
        made.close()
        assert weights() is None
    finally:
        gc.enable()
    assert texts(made, asked) == first


OPENS_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


def test_reasoning_that_the_prompt_opens_is_whole_in_the_text_and_taught_as_it_was_sampled(
    tiny_model: str, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (copy / "chat_template.jinja").write_text(OPENS_THINKING)
    made = engine(str(copy))
    seen: list[list[int]] = []
    for completion in drawn(made, requests(made, 8, temperature=0.0)).values():
        assert completion.request.prompt.endswith("assistant\n<think>\n")
        assert completion.text.startswith("<think>\n")
        tokenizer = made._tokenizer
        encoded = encode_example(tokenizer, completion.request.messages, completion.text)
        text = completion.request.prompt + completion.text.removeprefix("<think>\n")
        assert tokenizer.decode(encoded.input_ids) == text + tokenizer.eos_token
        prompt = tokenizer(completion.request.prompt, add_special_tokens=False)["input_ids"]
        assert encoded.input_ids[: len(prompt)] == prompt
        if completion.finish_reason == "stop":
            seen.append(encoded.input_ids[len(prompt) :])
            assert len(seen[-1]) == completion.num_tokens
    assert seen
