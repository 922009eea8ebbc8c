"""The distillation loss, and the logits that the losses are made of."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import sft.logits  # noqa: E402
from sft.logits import selected_logits  # noqa: E402
from sft.losses import forward_kl_with_tail  # noqa: E402


def random_logits(positions: int, vocabulary: int, scale: float = 3.0) -> Any:
    return torch.randn(positions, vocabulary, generator=torch.Generator().manual_seed(0)) * scale


def test_with_all_tokens_kept_it_is_the_dense_kl_with_its_gradient() -> None:
    teacher = torch.log_softmax(random_logits(20, 50), -1)
    student = random_logits(40, 50)[20:].requires_grad_()
    order = torch.argsort(teacher, -1, descending=True)
    ours = forward_kl_with_tail(student, order, teacher.gather(-1, order))
    dense = torch.nn.functional.kl_div(torch.log_softmax(student, -1), teacher, reduction="none", log_target=True).sum(
        -1
    )
    torch.testing.assert_close(ours, dense, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(ours.sum(), student, retain_graph=True)
    (expected,) = torch.autograd.grad(dense.sum(), student)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 10, 49])
def test_with_a_tail_it_is_the_kl_of_the_merged_outcomes(k: int) -> None:
    teacher = torch.log_softmax(random_logits(20, 50), -1)
    student = random_logits(40, 50)[20:]
    top = teacher.topk(k, -1)
    kept = top.values.double().exp()
    p = torch.cat([kept, (1 - kept.sum(-1, keepdim=True)).clamp_min(1e-12)], -1)
    q_kept = torch.softmax(student.double(), -1).gather(-1, top.indices)
    q = torch.cat([q_kept, 1 - q_kept.sum(-1, keepdim=True)], -1)
    expected = (p * (p / q).log()).sum(-1).float()
    ours = forward_kl_with_tail(student, top.indices, top.values)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
    dense = (teacher.exp() * (teacher - torch.log_softmax(student, -1))).sum(-1)
    assert bool((ours <= dense + 1e-4).all())


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_it_is_never_negative_and_zero_at_the_teacher_itself(scale: float) -> None:
    logits = random_logits(200, 60, scale)
    top = torch.log_softmax(logits, -1).topk(20, -1)
    half = top.values.to(torch.float16)  # as stored
    itself = forward_kl_with_tail(logits, top.indices, half)
    assert float(itself.min()) >= 0 and float(itself.max()) < 2e-3
    others = forward_kl_with_tail(random_logits(400, 60, scale)[200:], top.indices, half)
    assert float(others.min()) >= 0 and bool(torch.isfinite(others).all())


def test_a_peaked_teacher_gives_finite_gradients() -> None:
    ids = torch.tensor([[1, 2], [3, 4]])
    logp = torch.tensor([[0.0, -torch.inf], [0.0, -60000.0]])
    student = random_logits(2, 10, 50.0).requires_grad_()
    (gradient,) = torch.autograd.grad(forward_kl_with_tail(student, ids, logp).sum(), student)
    assert bool(torch.isfinite(gradient).all()) and bool(gradient.abs().sum() > 0)


def test_an_entry_without_probability_is_no_entry() -> None:
    logits = random_logits(5, 30)
    top = torch.log_softmax(logits * 0.5, -1).topk(4, -1)
    with_nothing = torch.cat([top.indices, torch.full((5, 1), 29)], -1)
    logp = torch.cat([top.values, torch.full((5, 1), -torch.inf)], -1)
    torch.testing.assert_close(
        forward_kl_with_tail(logits, with_nothing, logp), forward_kl_with_tail(logits, top.indices, top.values)
    )


def test_ids_outside_the_students_vocabulary_fall_into_the_tail() -> None:
    logits = random_logits(5, 30)
    logp = torch.log_softmax(logits, -1).topk(4, -1)
    with_stranger = torch.cat([logp.indices, torch.full((5, 1), 31)], -1)
    its_logp = torch.cat([logp.values, torch.full((5, 1), -9.0)], -1)
    torch.testing.assert_close(
        forward_kl_with_tail(logits, with_stranger, its_logp), forward_kl_with_tail(logits, logp.indices, logp.values)
    )


# --- logits of some positions ---


def small_models() -> dict[str, Any]:
    """Models that do something to their logits, or have an output layer unlike Llama's."""
    import transformers as t

    size = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 8}
    size |= {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1}
    torch.manual_seed(0)
    gpt2 = t.GPT2Config(vocab_size=60, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    models = {
        "plain": t.LlamaForCausalLM(t.LlamaConfig(**size)),
        "soft-capped": t.Gemma2ForCausalLM(t.Gemma2Config(**size, final_logit_softcapping=0.05)),
        "scaled": t.GraniteForCausalLM(t.GraniteConfig(**size, logits_scaling=8.0)),
        "multiplied": t.CohereForCausalLM(t.CohereConfig(**{k: v for k, v in size.items() if k != "head_dim"})),
        "tied": t.GPT2LMHeadModel(gpt2),
    }
    models["no output layer"] = t.LlamaForCausalLM(t.LlamaConfig(**size))
    models["no output layer"].get_output_embeddings = lambda: None
    return {name: model.eval() for name, model in models.items()}


def test_logits_of_some_positions_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sft.logits, "POSITIONS_PER_SLICE", 3)
    tokens = torch.randint(2, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    selected = torch.zeros_like(tokens, dtype=torch.bool)
    selected[0, 2:8] = selected[2, 5:6] = True
    for name, model in small_models().items():
        whole = model(input_ids=tokens, attention_mask=mask).logits[selected]
        some = selected_logits(model, tokens, mask, selected)
        torch.testing.assert_close(some, whole, msg=name)
        ours, theirs = (torch.autograd.grad(x.square().sum(), list(model.parameters())) for x in (some, whole))
        torch.testing.assert_close(ours, theirs, msg=name)
        with torch.inference_mode():
            slices = list(sft.logits.logit_slices(model, tokens, mask, selected))
        assert [len(part) for part in slices] == [3, 3, 1]
        torch.testing.assert_close(torch.cat(slices), whole, msg=name)
        torch.testing.assert_close(model(input_ids=tokens, attention_mask=mask).logits[selected], whole, msg=name)
