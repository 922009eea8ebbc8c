"""Log-probabilities of given responses: those of one plain forward pass, whatever the chunks, laid on the text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from factory.engines.base import Request, SamplingParams
from factory.engines.config import OpenAIEngineConfig, TransformersEngineConfig, VllmEngineConfig
from factory.engines.scoring import EncodedPair, ResponseScore, build_scorer, split_sentences
from factory.errors import ModelError
from sft.models import load_model, load_tokenizer

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from factory.engines.transformers_engine import TransformersEngine  # noqa: E402
from factory.engines.transformers_scorer import TransformersScorer, response_logprobs  # noqa: E402

PROMPT = "<|im_start|>user\n12+34-5<|im_end|>\n<|im_start|>assistant\n"
RESPONSES = [
    "<think>12+34=46\n46-5=41</think>\\boxed{41}",
    "41",
    "<think>" + "\n".join(f"{i}+{i}={2 * i}" for i in range(10, 30)) + "</think>\\boxed{58}",
    "\n\n 46. ",
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def naive(model: Any, prompt: list[int], response: list[int]) -> list[float]:
    """One forward pass over the whole, logits of everything at once."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0].double()
    table = torch.log_softmax(logits, -1)
    return [float(table[len(prompt) - 1 + i, token]) for i, token in enumerate(response)]


@pytest.mark.parametrize("chunk_tokens", [1, 37, 512])
def test_scores_are_those_of_one_plain_forward_pass(tiny_model: str, chunk_tokens: int) -> None:
    tokenizer, model = load_tokenizer(tiny_model), load_model(tiny_model)
    scorer = TransformersScorer(TransformersEngineConfig(model=tiny_model), chunk_tokens=chunk_tokens)
    pairs = [(PROMPT, r) for r in RESPONSES] + [(PROMPT.replace("12+34-5", "1+1"), RESPONSES[0])]
    scores = list(scorer.score(pairs))
    for (prompt, response), score in zip(pairs, scores, strict=True):
        ids = tokenizer(response, add_special_tokens=False)["input_ids"]
        wanted = naive(model, tokenizer(prompt, add_special_tokens=False)["input_ids"], ids)
        assert score.response == response and score.problem is None
        assert score.token_ids == tuple(ids)
        assert score.logprobs == pytest.approx(wanted, abs=1e-4)  # float32 against float64
        assert score.sum_logprob == pytest.approx(sum(wanted), abs=1e-3)
        assert score.mean_logprob == pytest.approx(sum(wanted) / len(ids), abs=1e-5)
        assert sum(s.num_tokens for s in score.sentences) == len(ids)
        assert math.fsum(s.sum_logprob for s in score.sentences) == pytest.approx(score.sum_logprob, abs=1e-9)
        assert "".join(response[a:b] for a, b in zip(score.starts, score.ends)) == response  # one token, its characters


def test_a_model_finds_its_own_greedy_text_most_likely_at_every_token(tiny_model: str) -> None:
    engine = TransformersEngine(TransformersEngineConfig(model=tiny_model))
    ask = Request((), PROMPT, SamplingParams(0.0, 1.0, 40), 0, 0, engine.identity)
    [[completion]] = list(engine.generate([ask]))
    scorer = TransformersScorer(TransformersEngineConfig(model=tiny_model))
    [own, other] = scorer.score([(PROMPT, completion.text), (PROMPT, completion.text[::-1])])
    assert own.mean_logprob > other.mean_logprob + 1
    assert scorer.identity == engine.identity


@pytest.mark.parametrize("width", [1, 5, 64])
def test_chunks_and_neighbours_change_nothing_with_a_sliding_window(width: int) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 100, "max_position_embeddings": 128}
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(sliding_window=8, **sizes)).eval()
    rows = [([5, 6, 7], [8] * 30), (list(range(20)), [9, 1, 2]), ([3], list(range(50, 90)))]
    with torch.inference_mode():
        found = response_logprobs(model, rows, width)
    for (prompt, response), logprobs in zip(rows, found, strict=True):
        assert logprobs == pytest.approx(naive(model, prompt, response), abs=2e-5)


def test_logits_exist_for_one_chunk_only(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = TransformersScorer(TransformersEngineConfig(model=tiny_model), chunk_tokens=64)
    scorer._load()
    shapes: list[tuple[int, ...]] = []
    forward = scorer._model.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        shapes.append(tuple(out.logits.shape))
        return out

    monkeypatch.setattr(scorer._model, "forward", watched)
    list(scorer.score([(PROMPT, r) for r in RESPONSES]))
    assert max(rows * positions for rows, positions, _ in shapes) <= 64
    assert len(shapes) > 4


def test_what_cannot_be_scored_says_why_and_costs_the_others_nothing(tiny_model: str) -> None:
    scorer = TransformersScorer(TransformersEngineConfig(model=tiny_model))
    long, empty, bare, good = scorer.score([(PROMPT, "1" * 5000), (PROMPT, ""), ("", "41"), (PROMPT, "41")])
    assert "the model takes" in (long.problem or "") and long.logprobs == ()
    assert "response is empty" in (empty.problem or "") and "prompt is empty" in (bare.problem or "")
    assert math.isnan(empty.mean_logprob)
    assert good.problem is None and len(good.logprobs) == 2


def test_a_response_after_an_opened_think_tag_is_scored_as_it_is_trained(tiny_model: str) -> None:
    tokenizer = load_tokenizer(tiny_model)
    response = "<think>\n1+1=2</think>2"
    pair = EncodedPair(tokenizer, PROMPT + "<think>\n", response)
    plain = EncodedPair(tokenizer, PROMPT, "1+1=2</think>2")
    assert pair.response_ids == plain.response_ids
    assert response[pair.starts[0] :] == "1+1=2</think>2"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("one", ["one"]),
        ("It is 3. So 3.5 > 2! Right? Yes.", ["It is 3. ", "So 3.5 > 2! ", "Right? ", "Yes."]),
        ("First line\nsecond line\n\nthird", ["First line\n", "second line\n\n", "third"]),
        (
            "See Fig. 2, e.g. the left, vs. Eq. 3. Then go on.",
            ["See Fig. 2, e.g. the left, vs. Eq. 3. ", "Then go on."],
        ),
        ("1. Add them. 2\n 2. Stop. Done", ["1. Add them. ", "2\n ", "2. Stop. ", "Done"]),
        ('He said "no." Then left.', ['He said "no." ', "Then left."]),
        ("So:\n---\n\nx = 1", ["So:\n---\n\n", "x = 1"]),
        ("他走了。然后呢？好", ["他走了。", "然后呢？", "好"]),
        ("Hmm... wait. Ok", ["Hmm... ", "wait. ", "Ok"]),
        ("  leading. Space", ["  leading. ", "Space"]),
    ],
)
def test_sentences_tile_the_text(text: str, sentences: list[str]) -> None:
    spans = split_sentences(text)
    assert [text[a:b] for a, b in spans] == sentences
    assert "".join(text[a:b] for a, b in spans) == text


def test_a_token_counts_for_the_sentence_its_first_visible_character_is_in() -> None:
    #            0123456789
    response = "One. Two."
    score = ResponseScore(response, (1, 2, 3, 4), (0, 3, 4, 8), (3, 4, 8, 9), (-1.0, -2.0, -4.0, -8.0))
    first, second = score.sentences
    assert (first.num_tokens, first.sum_logprob, first.mean_logprob) == (2, -3.0, -1.5)
    assert (second.num_tokens, second.sum_logprob) == (2, -12.0)  # " Two" begins in the space, which is the first's
    spanning = ResponseScore("A.\nB.", (1,), (0,), (5,), (-3.0,))
    assert [s.num_tokens for s in spanning.sentences] == [1, 0] and math.isnan(spanning.sentences[1].mean_logprob)


def test_scores_come_as_they_are_made(tiny_model: str) -> None:
    scorer = TransformersScorer(TransformersEngineConfig(model=tiny_model))
    stream = scorer.score([(PROMPT, "41")] * 300)
    assert next(stream).response == "41"
    scorer.close()
    assert scorer._model is None


def test_an_engine_that_cannot_score_says_which_can(tiny_model: str) -> None:
    with pytest.raises(ModelError, match="kind: transformers or kind: vllm"):
        build_scorer(OpenAIEngineConfig(model="m", base_url="http://127.0.0.1:1/v1"))
    with pytest.raises(ModelError, match="merge it into the model"):
        build_scorer(VllmEngineConfig(model=tiny_model, lora="adapter"))
    assert isinstance(build_scorer(TransformersEngineConfig(model=tiny_model)), TransformersScorer)
