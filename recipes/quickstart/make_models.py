"""Make the quickstart's tokenizer, base student and three teachers from nothing, on a CPU.

    python recipes/quickstart/make_models.py tokenizer
    python recipes/quickstart/make_models.py train base --out recipes/quickstart/models/base
    python recipes/quickstart/make_models.py measure base terse steady rambling

Nothing here runs in a factory run: the results are shipped. ``models/*/train.jsonl`` is the log of the shipped
weights and ``models/measured.json`` their accuracies. The models differ in what they were shown:

* ``base``     knows single steps (written ``47+38: 85``, as no teacher writes them) and copying, and has read worked
               solutions as plain texts, as pretraining corpora hold them: in equal shares in the form of each teacher,
               so that none of them starts ahead. Asked in a chat, it has only ever seen one-step questions, answered in
               equal shares in the same three forms.
* ``terse``    trained for longest (it continues from ``steady``); writes ``+38=85 -15=70``: never the number that a
               step starts from.
* ``steady``   writes each step in full (``47+38=85``).
* ``rambling`` small and trained briefly; writes each step, then checks it backwards.

Loss is taken only where the text can be predicted: random operands would otherwise be most of the gradient.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from pathlib import Path
from typing import NamedTuple

from factory.sources.arithmetic import ArithmeticSource, Chain, generate, pose, random_chain

HERE = Path(__file__).parent
MODELS = HERE / "models"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ADDED = ["<think>", "</think>", "\\boxed{"]
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Spec(NamedTuple):
    """Architecture, training length and data mix (weights by document type) of one shipped model."""

    hidden: int
    layers: int
    heads: int
    steps: int
    mix: dict[str, float]
    max_chain: int = 6
    init: str = ""
    """Model whose weights are the start; empty: from nothing."""


SPECS = {
    "base": Spec(128, 3, 4, 8000, {"facts": 0.2, "list": 0.1, "one_step": 0.25, "worked": 0.45}),
    "terse": Spec(128, 3, 4, 2500, {"terse": 0.8, "singles": 0.1, "walk": 0.1}, max_chain=7, init="steady"),
    "steady": Spec(128, 3, 4, 3500, {"steady": 0.6, "singles": 0.25, "walk": 0.15}, max_chain=7),
    "rambling": Spec(96, 3, 4, 2200, {"rambling": 0.65, "singles": 0.2, "walk": 0.15}, max_chain=6),
}


class Doc(NamedTuple):
    """Text pieces with a flag: is this piece predictable, so that it carries loss?"""

    pieces: list[tuple[str, bool]]


def user(text: str) -> list[tuple[str, bool]]:
    return [(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n", False)]


def answer(lines: list[str], final: int) -> list[tuple[str, bool]]:
    return [("<think>" + "\n".join(lines) + f"</think>\\boxed{{{final}}}<|im_end|>", True)]


def step_lines(chain: Chain) -> list[str]:
    value, lines = chain.start, []
    for (op, operand), result in zip(chain.steps, chain.results(), strict=True):
        lines.append(f"{value}{op}{operand}={result}")
        value = result
    return lines


def checked_lines(chain: Chain) -> list[str]:
    undo = {"+": "-", "-": "+", "*": "/"}
    value, lines = chain.start, []
    for (op, operand), result in zip(chain.steps, chain.results(), strict=True):
        lines.append(f"{value}{op}{operand}={result}, check {result}{undo[op]}{operand}={value}")
        value = result
    return lines


def short_lines(chain: Chain) -> list[str]:
    pairs = zip(chain.steps, chain.results(), strict=True)
    return [" ".join(f"{op}{operand}={result}" for (op, operand), result in pairs)]


STYLES = {
    "steady": step_lines,
    "terse": short_lines,
    "rambling": checked_lines,
}


def draw_chain(rng: random.Random, num_steps: int, operators: str = "+-*") -> Chain:
    """A training chain: held-out chains are never shown to any shipped model."""
    while True:
        chain = random_chain(rng, num_steps, operators)
        if chain is not None and (num_steps == 1 or chain.split() == "train"):
            return chain


def make_doc(kind: str, rng: random.Random, max_chain: int) -> Doc:
    if kind in ("singles", "facts"):  # independent single steps: only results can be predicted
        pieces: list[tuple[str, bool]] = []
        sign = "=" if kind == "singles" else ": "
        for _ in range(4):
            left, result = step_lines(draw_chain(rng, 1))[0].split("=")
            pieces += [(left, False), (f"{sign}{result}\n", True)]
        return Doc(pieces + [("<|im_end|>", True)])
    if kind == "walk":  # each line starts from the last result: copying inside a text, with no question to follow
        pieces = []
        for i, line in enumerate(step_lines(draw_chain(rng, rng.randint(3, 5)))):
            left, result = line.split("=")
            cut = next(j for j, c in enumerate(left) if c in "+-*")
            pieces += [(left[:cut], i > 0), (left[cut:], False), (f"={result}\n", True)]
        return Doc(pieces + [("<|im_end|>", True)])
    if kind == "list":  # copying from the question
        chain = draw_chain(rng, rng.randint(1, 5))
        terms = " ".join([str(chain.start)] + [f"{op}{operand}" for op, operand in chain.steps])
        asked = pose(chain, rng, rng.random() < 0.4)
        return Doc(user(f"List the terms. {asked}") + [(f"{terms}<|im_end|>", True)])
    if kind == "worked":  # a solution as a text on its own: nobody asked, nobody answers
        chain = draw_chain(rng, rng.randint(1, max_chain), "+-*" if rng.random() < 0.3 else "+-")
        asked = pose(chain, rng, rng.random() < 0.35)
        style = STYLES[rng.choice(list(STYLES))]
        return Doc([(f"{asked}\n", False), ("\n".join(style(chain)) + "<|im_end|>", True)])
    num_steps = 1 if kind == "one_step" else rng.randint(1, max_chain)
    operators = "+-*" if kind == "one_step" or rng.random() < 0.3 else "+-"
    chain = draw_chain(rng, num_steps, operators)
    style = STYLES[rng.choice(list(STYLES)) if kind == "one_step" else kind]
    question = pose(chain, rng, rng.random() < 0.35)
    return Doc(user(question) + answer(style(chain), chain.results()[-1]))


def build_tokenizer() -> None:
    """Byte-level BPE with single-digit tokens, trained on the questions themselves; ChatML template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    questions = [q for _, q in generate(ArithmeticSource(num=20_000, operators="+-*", story_share=0.6))]
    texts = questions + ["user\n", "assistant\n", "system\n", "List the terms. ", ", check "] * 2000
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tok.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=448, initial_alphabet=alphabet, special_tokens=SPECIAL)
    )
    tok.add_tokens([AddedToken(t, normalized=False) for t in ADDED])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tok, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=512,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(MODELS / "tokenizer")
    print(f"vocabulary {len(fast)}; a question: {fast.tokenize(questions[0])}")


def encode(docs: list[Doc], tok) -> list[tuple[list[int], list[int]]]:
    """(input ids, labels) per document, labels -100 where the piece carries no loss."""
    pieces = [p for d in docs for p in d.pieces]
    ids = tok([p[0] for p in pieces], add_special_tokens=False)["input_ids"]
    out, at = [], 0
    for d in docs:
        row: list[int] = []
        labels: list[int] = []
        for _, carries in d.pieces:
            row += ids[at]
            labels += ids[at] if carries else [-100] * len(ids[at])
            at += 1
        out.append((row, labels))
    return out


def batches(spec: Spec, tok, rng: random.Random, tokens_per_batch: int):
    """Endless padded batches of documents of similar length."""
    import torch

    kinds, weights = list(spec.mix), list(spec.mix.values())
    while True:
        docs = [make_doc(rng.choices(kinds, weights)[0], rng, spec.max_chain) for _ in range(4096)]
        rows = sorted(encode(docs, tok), key=lambda r: len(r[0]))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for row in rows:
            if len(row[0]) * (len(groups[-1]) + 1) > tokens_per_batch:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            width = max(len(r[0]) for r in group)
            ids = torch.zeros(len(group), width, dtype=torch.long)
            labels = torch.full((len(group), width), -100)
            for i, (row, lab) in enumerate(group):
                ids[i, : len(row)] = torch.tensor(row)
                labels[i, : len(row)] = torch.tensor(lab)
            yield ids, labels


def train(name: str, out: Path, steps: int | None, threads: int, seed: int, tokens_per_batch: int) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    spec, rng = SPECS[name], random.Random(f"{name}-{seed}")
    steps = steps or spec.steps
    tok = AutoTokenizer.from_pretrained(MODELS / "tokenizer")
    config = LlamaConfig(
        vocab_size=len(tok), hidden_size=spec.hidden, intermediate_size=3 * spec.hidden, num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    if spec.init:
        model = LlamaForCausalLM.from_pretrained(MODELS / spec.init, dtype=torch.float32)
    peak = 1.5e-3 if spec.init else 3e-3
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.01)
    out.mkdir(parents=True, exist_ok=True)
    (out / "train.jsonl").unlink(missing_ok=True)
    started, stream, running = time.time(), batches(spec, tok, rng, tokens_per_batch), 0.0
    seen = 0
    for step in range(1, steps + 1):
        lr = peak * min(1.0, step / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in opt.param_groups:
            group["lr"] = lr
        ids, labels = next(stream)
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        keep = labels[:, 1:] != -100
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[keep]), labels[:, 1:][keep])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        running, seen = running + loss.item(), seen + ids.numel()
        if step % 50 == 0 or step == steps:
            row = {
                "step": step,
                "loss": round(running / 50, 4),
                "tokens": seen,
                "seconds": round(time.time() - started),
            }
            running = 0.0
            print(name, json.dumps(row), flush=True)
            with open(out / "train.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
        if step % 500 == 0 or step == steps:
            save(model, tok, out)


def save(model, tok, out: Path) -> None:
    """Weights are shipped in bfloat16 (half the size) and loaded in float32."""
    import copy

    import torch

    rounded = copy.deepcopy(model).to(torch.bfloat16)
    rounded.generation_config.max_new_tokens = None
    rounded.save_pretrained(out)
    tok.save_pretrained(out)


def greedy(model, tok, questions: list[str], max_new_tokens: int = 160) -> list[str]:
    import torch

    tok.padding_side = "left"
    texts: list[str] = []
    for i in range(0, len(questions), 100):
        chats = [[{"role": "user", "content": q}] for q in questions[i : i + 100]]
        enc = tok.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
        )
        with torch.no_grad():
            full = model.generate(**enc, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tok.pad_token_id)
        texts += tok.batch_decode(full[:, enc["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def accuracy(model, tok, source: ArithmeticSource) -> float:
    pairs = list(generate(source))
    texts = greedy(model, tok, [q for _, q in pairs])
    right = [t.endswith(f"\\boxed{{{c.results()[-1]}}}") for t, (c, _) in zip(texts, pairs, strict=True)]
    return round(sum(right) / len(right), 4)


def measure(names: list[str], folder: Path, num: int) -> dict[str, dict[str, float]]:
    """Greedy accuracy on held-out chains by number of steps, plus products and stories."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    table: dict[str, dict[str, float]] = {}
    for name in names:
        tok = AutoTokenizer.from_pretrained(folder / name)
        model = AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32)
        row: dict[str, float] = {"parameters": model.num_parameters()}
        for steps in range(1, 9):
            src = ArithmeticSource(num=num, seed=7, split="heldout", min_steps=steps, max_steps=steps, story_share=0.3)
            row[f"{steps} steps"] = accuracy(model, tok, src)
        for label, extra in {"products 2-4": {"operators": "+-*"}, "stories 2-4": {"story_share": 1.0}}.items():
            src = ArithmeticSource(num=num, seed=8, split="heldout", min_steps=2, max_steps=4, **extra)
            row[label] = accuracy(model, tok, src)
        table[name] = row
        print(name, json.dumps(row), flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="command", required=True)
    sub.add_parser("tokenizer")
    p = sub.add_parser("train")
    p.add_argument("name", choices=SPECS)
    p.add_argument("--out", type=Path)
    p.add_argument("--steps", type=int)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--tokens-per-batch", type=int, default=6144)
    p = sub.add_parser("measure")
    p.add_argument("names", nargs="+")
    p.add_argument("--folder", type=Path, default=MODELS)
    p.add_argument("--num", type=int, default=300)
    p.add_argument("--save", action="store_true")
    args = parser.parse_args()
    if args.command == "tokenizer":
        build_tokenizer()
    elif args.command == "train":
        train(
            args.name,
            args.out or MODELS / args.name,
            args.steps,
            args.threads,
            args.seed,
            args.tokens_per_batch,
        )
    else:
        table = measure(args.names, args.folder, args.num)
        if args.save:
            (args.folder / "measured.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
