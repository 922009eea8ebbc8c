"""Teaching a student: which tokens carry loss, what a teacher's targets are, and that training is what it claims."""

from __future__ import annotations

import gc
import json
import math
import re
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sft.chat import IGNORE, Encoded, encode_example, num_supervised, render_prompt, tokenizer_digest
from sft.config import KdConfig, LoraConfig, TrainConfig
from sft.errors import TrainingDataError, TrainingDivergedError
from sft.models import load_model, load_tokenizer

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import sft.logits  # noqa: E402
import sft.train  # noqa: E402
from sft.losses import forward_kl_with_tail  # noqa: E402
from sft.targets import Targets, capture, load_targets, save_targets  # noqa: E402
from sft.train import TrainResult, _arguments, collate, mixed_loss, model_max_length, preflight, train  # noqa: E402

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ '<|endoftext|>' }}{% for m in messages %}<{{ m.role }}>\n\n{{ m.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n\n{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}"
    "{% if m.role == 'assistant' %}{{ m.content.split('</think>')[-1] }}{% else %}[{{ m.content }}]{% endif %}"
    "{% endfor %}"
)
TEMPLATES = {"chatml": CHATML, "llama": LLAMA, "no system": NO_SYSTEM}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Nothing here is big enough for two, and a busy machine makes them wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: str) -> Any:
    return load_tokenizer(tiny_model)


def questions(count: int) -> list[tuple[str, str]]:
    pairs = ((10 + i, 10 + 7 * i % 80) for i in range(count))
    return [(f"{a}+{b}", f"<think>{a}+{b}={a + b}</think>\\boxed{{{a + b}}}") for a, b in pairs]


@pytest.fixture(scope="module")
def examples(tokenizer: Any) -> list[Encoded]:
    return [encode_example(tokenizer, [("user", q)], response) for q, response in questions(40)]


@pytest.fixture(scope="module")
def captured(tokenizer: Any, tiny_teacher: str, examples: list[Encoded]) -> Targets:
    teacher = load_model(tiny_teacher)
    return capture(teacher, examples, top_k=8, tokenizer=tokenizer_digest(tokenizer), pad_id=tokenizer.pad_token_id)


def config(tiny_model: str, **changes: Any) -> TrainConfig:
    return TrainConfig(**({"student": tiny_model, "epochs": 1, "batch_size": 16, "learning_rate": 1e-3} | changes))


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


# --- which tokens carry loss ---


@pytest.mark.parametrize("name", TEMPLATES)
def test_loss_covers_the_response_and_its_end_and_nothing_else(
    tiny_model: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATES[name])
    response = "<think>1+2=3</think>\\boxed{3}"
    encoded = encode_example(tokenizer, [("user", "1+2")], response)
    trained = [i for i in encoded.labels if i != IGNORE]
    assert tokenizer.decode(trained) == response + tokenizer.eos_token
    assert encoded.labels[-1] == tokenizer.eos_token_id
    assert len(encoded.labels) == len(encoded.input_ids)
    prompt = encoded.input_ids[: encoded.labels.count(IGNORE)]
    assert tokenizer.decode(prompt) == render_prompt(tokenizer, [("user", "1+2")])
    assert encoded.input_ids == prompt + trained


@pytest.mark.parametrize("name", ["chatml", "llama"])
def test_a_system_turn_is_part_of_the_prompt(tiny_model: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(tiny_model)
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATES[name])
    encoded = encode_example(tokenizer, [("system", "9+9"), ("user", "1+2")], "3")
    assert "9+9" in tokenizer.decode(encoded.input_ids[: encoded.labels.count(IGNORE)])


def test_a_template_that_refuses_a_turn_says_so(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(tiny_model)
    monkeypatch.setattr(tokenizer, "chat_template", NO_SYSTEM)
    with pytest.raises(TrainingDataError, match="no system turn here"):
        render_prompt(tokenizer, [("system", "x"), ("user", "1+2")])


LLAMA_DATE = (
    "\n  {%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "{%- endif %}\nToday: {{ date_string }}\n" + CHATML
)
SMOL_DATE = "\n\n {% set today = strftime_now('%d %B %Y') -%}\nToday: {{ today }}\n" + CHATML


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("template", [LLAMA_DATE, SMOL_DATE])
def test_a_prompt_does_not_depend_on_the_day(
    tiny_model: str, template: str, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    chat = [("user", "1+2")]
    monkeypatch.setattr(tokenizer, "chat_template", {"default": template, "tool_use": "x"} if several else template)
    rendered = render_prompt(tokenizer, chat)
    today = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+2"}], tokenize=False, add_generation_prompt=True
    )
    # Nothing but the date differs, the template's own white space at its beginning included.
    assert rendered == re.sub(r"Today: .*", "Today: 01 Jan 2025", today) != today


def test_several_templates_without_a_default_are_told(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(tiny_model)
    monkeypatch.setattr(tokenizer, "chat_template", {"rag": CHATML, "tool_use": CHATML})
    with pytest.raises(TrainingDataError, match="multiple chat templates"):
        render_prompt(tokenizer, [("user", "1+2")])


@pytest.mark.parametrize("opening", ["<think>\n", "<think>"])
@pytest.mark.parametrize("rest", ["1+2=3</think>\\boxed{3}", "\n1+2</think>\\boxed{3}"])
def test_reasoning_is_opened_once(tiny_model: str, opening: str, rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(tiny_model)
    monkeypatch.setattr(tokenizer, "chat_template", CHATML.replace("assistant\n", "assistant\n" + opening))
    encoded = encode_example(tokenizer, [("user", "1+2")], f"<think>\n{rest}")
    prompt = render_prompt(tokenizer, [("user", "1+2")])
    assert prompt.endswith(opening)
    assert tokenizer.decode(encoded.input_ids) == prompt + rest + tokenizer.eos_token
    closed = encode_example(tokenizer, [("user", "1+2")], rest)  # nothing to take away
    assert closed == encoded


def test_padding_with_the_end_token_does_not_unlearn_the_end(tokenizer: Any, examples: list[Encoded]) -> None:
    rows = [{"input_ids": e.input_ids, "labels": e.labels} for e in (examples[0], examples[0]._replace())]
    rows[1] = {"input_ids": rows[1]["input_ids"][:-3], "labels": rows[1]["labels"][:-3]}
    batch = collate(rows, pad_id=tokenizer.eos_token_id)
    assert batch["labels"][0, -1] == tokenizer.eos_token_id
    assert batch["labels"][1, -3:].tolist() == [IGNORE] * 3
    assert batch["attention_mask"][1].tolist() == [1] * (len(examples[0].input_ids) - 3) + [0] * 3


def test_preflight_drops_what_is_too_long_and_never_cuts(tokenizer: Any, examples: list[Encoded]) -> None:
    lengths = [len(e.input_ids) for e in examples]
    assert preflight(examples, tokenizer.eos_token_id, max(lengths)) == list(range(len(examples)))
    fitting = preflight(examples, tokenizer.eos_token_id, max(lengths) - 1)
    assert fitting == [i for i, n in enumerate(lengths) if n < max(lengths)]
    with pytest.raises(TrainingDataError, match=rf"fits into 8 tokens.*longest {max(lengths)}"):
        preflight(examples, tokenizer.eos_token_id, 8)


def test_preflight_refuses_an_example_without_its_end(tokenizer: Any, examples: list[Encoded]) -> None:
    cut = Encoded(examples[1].input_ids[:-1], examples[1].labels[:-1])
    for broken in (cut, Encoded([], []), Encoded(examples[1].input_ids, [*examples[1].labels[:-1], IGNORE])):
        with pytest.raises(TrainingDataError, match="example 1: the loss does not cover the end-of-sequence"):
            preflight([examples[0], broken], tokenizer.eos_token_id, 512)


def test_the_models_own_limit_is_the_longest_sequence(tiny_model: str) -> None:
    model = load_model(tiny_model)
    assert model_max_length(model, None) == model_max_length(model.config, None) == 512
    assert model_max_length(model, 100) == 100


# --- teacher targets ---


def test_captured_targets_belong_to_the_next_token(tokenizer: Any, tiny_teacher: str) -> None:
    """The teacher's own greedy answers must be its top choice everywhere; off by one position they would not be."""
    teacher = load_model(tiny_teacher)
    greedy = []
    for question, _ in questions(12):
        prompt = tokenizer(render_prompt(tokenizer, [("user", question)]), add_special_tokens=False)["input_ids"]
        output = teacher.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=60)[0].tolist()
        if output[-1] == tokenizer.eos_token_id:
            greedy.append(Encoded(output, [IGNORE] * len(prompt) + output[len(prompt) :]))
    assert len(greedy) >= 8
    targets = capture(teacher, greedy, top_k=5, tokenizer="t", pad_id=tokenizer.pad_token_id)
    for i, example in enumerate(greedy):
        ids, logp = targets.of(i, example)
        assert ids[:, 0].tolist() == [label for label in example.labels if label != IGNORE]
        assert (np.diff(logp.astype(np.float32), axis=1) <= 0).all()


def test_captured_log_probs_are_the_teachers(
    tiny_teacher: str, examples: list[Encoded], captured: Targets, tokenizer: Any
) -> None:
    teacher = load_model(tiny_teacher)
    for i in (0, 17, 39):
        ids, logp = captured.of(i, examples[i])
        start = examples[i].labels.count(IGNORE)
        with torch.inference_mode():
            logits = teacher(torch.tensor([examples[i].input_ids])).logits[0, start - 1 : -1]
        expected = torch.log_softmax(logits, -1).gather(-1, torch.from_numpy(ids).long())
        torch.testing.assert_close(torch.from_numpy(logp).float(), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("max_batch_tokens", [1, 100, 10**6])
def test_captured_targets_do_not_depend_on_batches_and_slices(
    tiny_teacher: str,
    examples: list[Encoded],
    captured: Targets,
    max_batch_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sft.logits, "POSITIONS_PER_SLICE", 7)
    heard: list[int] = []
    again = capture(
        load_model(tiny_teacher), examples, top_k=8, tokenizer=captured.tokenizer, pad_id=0,
        max_batch_tokens=max_batch_tokens, on_progress=heard.append,
    )  # fmt: skip
    assert sum(heard) == len(examples) and max(heard) == {1: 1, 10**6: len(examples)}.get(max_batch_tokens, max(heard))
    assert np.array_equal(again.offsets, captured.offsets)
    np.testing.assert_allclose(again.logp.astype(float), captured.logp.astype(float), rtol=2e-3, atol=2e-3)
    same = again.ids == captured.ids
    assert same.mean() > 0.99  # where two are equally likely, rounding orders them


def test_the_output_layer_sees_no_position_that_is_not_supervised(
    tiny_model: str, examples: list[Encoded], captured: Targets
) -> None:
    model = load_model(tiny_model)
    seen: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda _, inputs, out: seen.append(out[..., 0].numel()))
    rows = [{"input_ids": e.input_ids, "labels": e.labels, "index": i} for i, e in enumerate(examples)]
    mixed_loss(model, collate(rows, 0, captured), 0.5, None)
    supervised = sum(num_supervised(e) for e in examples)
    assert seen == [supervised]
    seen.clear()
    capture(model, examples, top_k=2, tokenizer="t", pad_id=0, max_batch_tokens=10**6)
    assert sum(seen) == 2 + supervised  # two for the trial whether the layer is all there is


def test_targets_refuse_other_tokens(examples: list[Encoded], captured: Targets) -> None:
    changed = Encoded([*examples[0].input_ids[:-2], 5, examples[0].input_ids[-1]], examples[0].labels)
    relabelled = Encoded(examples[0].input_ids, [IGNORE, *examples[0].labels[1:-1], IGNORE])
    for other in (changed, relabelled, examples[1]):
        with pytest.raises(TrainingDataError, match="example 0 were captured for other tokens"):
            captured.of(0, other)


def test_targets_survive_the_disk(captured: Targets, examples: list[Encoded], tmp_path: Path) -> None:
    save_targets(captured, tmp_path)
    read = load_targets(tmp_path)
    assert read.tokenizer == captured.tokenizer and read.digests == captured.digests
    for i, example in enumerate(examples):
        for a, b in zip(read.of(i, example), captured.of(i, example), strict=True):
            assert np.array_equal(a, b)


def test_training_refuses_targets_of_another_vocabulary_or_number(
    tiny_model: str, examples: list[Encoded], captured: Targets, tmp_path: Path
) -> None:
    other = Targets(captured.ids, captured.logp, captured.offsets, captured.digests, tokenizer="other")
    with pytest.raises(TrainingDataError, match="another vocabulary"):
        train(config(tiny_model), examples, tmp_path, seed=0, targets=other)
    with pytest.raises(TrainingDataError, match="40 teacher targets for 39 examples"):
        train(config(tiny_model), examples[:-1], tmp_path, seed=0, targets=captured)
    with pytest.raises(TrainingDataError, match="other tokens"):
        train(config(tiny_model), examples[::-1], tmp_path, seed=0, targets=captured)


# --- training ---


@pytest.fixture(scope="module")
def trained(
    tiny_model: str, examples: list[Encoded], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainResult]:
    out = tmp_path_factory.mktemp("student")
    return out, train(config(tiny_model, epochs=2), examples, out, seed=0)


def test_training_lowers_the_loss_and_counts_what_it_did(
    trained: tuple[Path, TrainResult], examples: list[Encoded]
) -> None:
    out, result = trained
    assert result.num_examples == 40 and result.num_steps == 6  # 40 examples in steps of 16, 16, 8, twice
    assert [row["step"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    assert result.history[-1]["loss"] < 0.8 * result.history[0]["loss"]
    assert result.num_tokens == result.history[-1]["tokens"] == 2 * sum(len(e.input_ids) for e in examples)
    assert result.num_supervised_tokens == 2 * sum(num_supervised(e) for e in examples) < result.num_tokens
    assert [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()] == result.history


def test_the_first_loss_is_the_mean_cross_entropy_over_supervised_tokens(
    tiny_model: str, examples: list[Encoded], tmp_path: Path
) -> None:
    result = train(config(tiny_model, batch_size=40), examples, tmp_path, seed=0)
    batch = collate([{"input_ids": e.input_ids, "labels": e.labels} for e in examples], 0)
    with torch.inference_mode():
        logits = load_model(tiny_model)(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    mean = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    assert math.isclose(result.history[0]["loss"], float(mean), rel_tol=1e-4)


def test_the_student_folder_holds_a_model_and_no_pickles(trained: tuple[Path, TrainResult], tiny_model: str) -> None:
    out, _ = trained
    suffixes = {p.suffix for p in out.rglob("*") if p.is_file()}
    assert suffixes <= {".safetensors", ".json", ".jsonl", ".jinja"}
    assert not [p for p in out.rglob("*") if p.is_dir()]
    assert load_model(str(out)).config.use_cache is True
    assert load_tokenizer(str(out)).chat_template == load_tokenizer(tiny_model).chat_template
    texts = "".join(p.read_text() for p in out.iterdir() if p.suffix in (".json", ".jinja", ".jsonl"))
    assert str(out) not in texts and str(Path(tiny_model).parent) not in texts


def test_equal_inputs_give_equal_bytes_and_another_seed_others(
    trained: tuple[Path, TrainResult], tiny_model: str, examples: list[Encoded], tmp_path: Path
) -> None:
    out, result = trained
    again = train(config(tiny_model, epochs=2), examples, tmp_path / "again", seed=0)
    assert again == result
    for path in out.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    train(config(tiny_model, epochs=2), examples, tmp_path / "other", seed=1)
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != (out / "model.safetensors").read_bytes()


def test_the_models_memory_is_free_after_training(
    tiny_model: str, examples: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []

    def watched(*args: Any) -> Any:
        model = load_model(*args)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(sft.train, "load_model", watched)
    gc.disable()  # freed by train itself, not by chance
    try:
        train(config(tiny_model), examples[:16], tmp_path, seed=0)
        assert [reference() for reference in loaded] == [None]
    finally:
        gc.enable()


def test_one_process_uses_one_gpu(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    arguments = _arguments(config(tiny_model, batch_size=16), tmp_path, seed=0, num_steps=1)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 16)


def test_training_leaves_torch_as_it_was(trained: tuple[Path, TrainResult]) -> None:
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4, alpha=8)])
def test_small_micro_batches_give_the_step_of_one_large_batch(
    tiny_model: str, examples: list[Encoded], captured: Targets, tmp_path: Path, lora: LoraConfig | None
) -> None:
    uneven = examples[:32]
    part = Targets(captured.ids, captured.logp, captured.offsets[:33], captured.digests[:32], captured.tokenizer)
    runs = {}
    for micro in (4, 16):
        # Plain descent in place of Adam would show a wrong scale better; the gradient's norm is clipped at neither.
        chosen = config(tiny_model, micro_batch_size=micro, max_grad_norm=1e6, lora=lora, learning_rate=1e-4)
        runs[micro] = train(chosen, uneven, tmp_path / str(micro), seed=0, targets=part)
    for a, b in zip(runs[4].history, runs[16].history, strict=True):
        assert math.isclose(a["loss"], b["loss"], rel_tol=1e-3), (a, b)
        assert a["tokens"] == b["tokens"]
    before, small, large = (weights(folder) for folder in (Path(tiny_model), tmp_path / "4", tmp_path / "16"))
    for name in before:
        moved = (large[name] - before[name]).norm()
        assert float((small[name] - large[name]).norm()) <= 0.05 * float(moved) + 1e-6, name


def test_the_loss_of_parts_adds_up_to_the_loss_of_the_whole(
    tiny_model: str, examples: list[Encoded], captured: Targets
) -> None:
    model = load_model(tiny_model)
    rows = [{"input_ids": e.input_ids, "labels": e.labels, "index": i} for i, e in enumerate(examples[:16])]
    count = sum(label != IGNORE for e in examples[:16] for label in e.labels)

    def gradient(parts: Sequence[Any]) -> tuple[float, Any]:
        model.zero_grad()
        total = 0.0
        for part in parts:
            loss = mixed_loss(model, collate(part, 0, captured), 0.5, torch.tensor(count))
            loss.backward()
            total += loss.item()
        return total, torch.cat([p.grad.flatten() for p in model.parameters()])

    (loss, slope), (loss_of_parts, slope_of_parts) = gradient([rows]), gradient([rows[:3], rows[3:4], rows[4:]])
    assert math.isclose(loss, loss_of_parts, rel_tol=1e-5)
    assert float((slope - slope_of_parts).norm() / slope.norm()) < 1e-4


def test_the_loss_in_slices_is_the_loss_with_its_gradient(
    tiny_model: str, examples: list[Encoded], captured: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model)
    rows = [{"input_ids": e.input_ids, "labels": e.labels, "index": i} for i, e in enumerate(examples)]
    batch = collate(rows, 0, captured)
    # The plain way: all logits, then the supervised ones.
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    supervised = batch["labels"][:, 1:] != IGNORE
    cross_entropy = torch.nn.functional.cross_entropy(logits[supervised], batch["labels"][:, 1:][supervised])
    divergence = forward_kl_with_tail(logits[supervised], batch["target_ids"], batch["target_logp"]).mean()
    plain = 0.7 * cross_entropy + 0.3 * divergence
    expected = torch.autograd.grad(plain, list(model.parameters()))
    for size in (10, 10**6):
        monkeypatch.setattr(sft.train, "POSITIONS_PER_SLICE", size)
        loss = mixed_loss(model, batch, 0.3, None)
        torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(torch.autograd.grad(loss, list(model.parameters())), expected, rtol=1e-3, atol=1e-5)


def test_pure_distillation_pulls_the_student_towards_the_teacher(
    tiny_model: str, examples: list[Encoded], captured: Targets, tmp_path: Path
) -> None:
    chosen = config(tiny_model, epochs=4, kd=KdConfig(top_k=8, weight=1.0))
    result = train(chosen, examples, tmp_path, seed=0, targets=captured)
    assert result.history[-1]["loss"] < 0.7 * result.history[0]["loss"]


def test_the_weight_mixes_both_losses(tiny_model: str, examples: list[Encoded], captured: Targets) -> None:
    model = load_model(tiny_model)
    batch = collate(
        [{"input_ids": e.input_ids, "labels": e.labels, "index": i} for i, e in enumerate(examples)], 0, captured
    )
    with torch.inference_mode():
        ce, half, kl = (float(mixed_loss(model, batch, weight, None)) for weight in (0.0, 0.5, 1.0))
    assert math.isclose(half, (ce + kl) / 2, rel_tol=1e-5) and ce != kl


def test_a_token_budget_sets_the_number_of_steps_by_supervised_tokens(
    tiny_model: str, tokenizer: Any, examples: list[Encoded], tmp_path: Path
) -> None:
    per_epoch = sum(num_supervised(e) for e in examples)
    longer = [encode_example(tokenizer, [("user", f"{q}+{q}+{q}")], response) for q, response in questions(40)]
    assert sum(len(e.input_ids) for e in longer) > 1.3 * sum(len(e.input_ids) for e in examples)
    for name, taught in {"short prompts": examples, "long prompts": longer}.items():
        result = train(config(tiny_model, epochs=50), taught, tmp_path / name, seed=0, token_budget=per_epoch * 4 // 3)
        assert result.num_steps == 4  # 3 steps an epoch
        assert abs(result.num_supervised_tokens - per_epoch * 4 // 3) < per_epoch / 3


def test_fractional_epochs_and_the_schedules(tiny_model: str, examples: list[Encoded], tmp_path: Path) -> None:
    rates = {}
    for schedule in ("constant", "cosine", "linear"):
        chosen = config(tiny_model, epochs=3.5, schedule=schedule, warmup_ratio=0.3)
        result = train(chosen, examples[:32], tmp_path / schedule, seed=0)
        assert result.num_steps == 7
        rates[schedule] = [row["lr"] / 1e-3 for row in result.history]
    for found in rates.values():  # two steps of warm-up from zero
        assert found[:3] == pytest.approx([0.0, 0.5, 1.0])
    assert rates["constant"][3:] == pytest.approx([1.0] * 4)
    assert rates["linear"][3:] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert rates["cosine"][3:] == pytest.approx([(1 + math.cos(math.pi * i / 5)) / 2 for i in (1, 2, 3, 4)])


def test_long_examples_are_left_out_of_training(tiny_model: str, examples: list[Encoded], tmp_path: Path) -> None:
    longest = max(len(e.input_ids) for e in examples)
    fitting = sum(len(e.input_ids) < longest for e in examples)
    assert 0 < fitting < len(examples)
    result = train(config(tiny_model, max_length=longest - 1), examples, tmp_path, seed=0)
    assert result.num_examples == fitting


def test_lora_students_are_merged_and_load_like_any_other(
    tiny_model: str, examples: list[Encoded], tmp_path: Path
) -> None:
    chosen = config(tiny_model, epochs=2, learning_rate=5e-3, lora=LoraConfig(rank=4, alpha=8))
    result = train(chosen, examples, tmp_path, seed=0)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert not list(tmp_path.glob("adapter*"))
    before, after = weights(Path(tiny_model)), weights(tmp_path)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("proj" in name for name in changed)
    load_model(str(tmp_path))


def test_beside_adapters_in_float32_frozen_weights_take_no_more_memory_than_they_must(
    tiny_model: str, examples: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtypes: set[tuple[bool, Any]] = set()
    save = sft.train._save

    def watched(model: Any, *args: Any) -> None:
        dtypes.update((p.requires_grad, p.dtype) for p in model.parameters())
        save(model, *args)

    monkeypatch.setattr(sft.train, "_save", watched)
    chosen = config(tiny_model, epochs=4, learning_rate=5e-3, dtype="bfloat16", lora=LoraConfig(rank=4, alpha=8))
    history = train(chosen, examples, tmp_path, seed=0).history
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_bfloat16_trains_in_float32_and_saves_in_bfloat16(
    tiny_model: str, examples: list[Encoded], tmp_path: Path
) -> None:
    # A step of 1e-5 is below bfloat16's resolution of most weights: trained in bfloat16 alone hardly any moves. The
    # base knows these texts too well to fall far; terse writes them another way.
    student = str(Path(tiny_model).parent / "terse")
    fall = {}
    for dtype in ("bfloat16", "float32"):
        chosen = config(student, epochs=40, learning_rate=1e-5, dtype=dtype, schedule="constant", warmup_ratio=0)
        history = train(chosen, examples[:16], tmp_path / dtype, seed=0).history
        fall[dtype] = history[0]["loss"] - history[-1]["loss"]
    assert {w.dtype for w in weights(tmp_path / "bfloat16").values()} == {torch.bfloat16}
    assert fall["float32"] > 1
    assert fall["bfloat16"] > 0.7 * fall["float32"]


def test_gradient_checkpointing_changes_no_result(tiny_model: str, examples: list[Encoded], tmp_path: Path) -> None:
    plain = train(config(tiny_model), examples, tmp_path / "a", seed=0)
    thrifty = train(config(tiny_model, gradient_checkpointing=True), examples, tmp_path / "b", seed=0)
    for a, b in zip(plain.history, thrifty.history, strict=True):
        assert math.isclose(a["loss"], b["loss"], rel_tol=1e-4)


def test_a_diverging_run_stops_and_leaves_no_student(tiny_model: str, examples: list[Encoded], tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError, match=r"at step \d+ of .*learning_rate"):
        train(config(tiny_model, epochs=20, learning_rate=1e30), examples, tmp_path, seed=0)
    assert not (tmp_path / "model.safetensors").exists()


def test_progress_hears_of_every_step(tiny_model: str, examples: list[Encoded], tmp_path: Path) -> None:
    heard: list[tuple[int, int, float]] = []
    result = train(config(tiny_model), examples, tmp_path, seed=0, progress=lambda *step: heard.append(step))
    assert [(step, total) for step, total, _ in heard] == [(1, 3), (2, 3), (3, 3)]
    assert [round(loss, 6) for _, _, loss in heard] == [row["loss"] for row in result.history]


@pytest.mark.parametrize(
    "changes", [{}, {"lora": LoraConfig(rank=4), "dtype": "bfloat16", "gradient_checkpointing": True}]
)
def test_training_prints_nothing(
    tiny_model: str,
    examples: list[Encoded],
    captured: Targets,
    tmp_path: Path,
    changes: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    train(config(tiny_model, **changes), examples, tmp_path, seed=0, targets=captured)
    assert capfd.readouterr() == ("", "")
