"""vLLM itself, where there is one: installed here, or for the interpreter that ``FACTORY_VLLM_PYTHON`` names."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "vllm_cpu.py"
PYTHON = os.environ.get("FACTORY_VLLM_PYTHON") or (sys.executable if importlib.util.find_spec("vllm") else "")


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="vLLM is not installed here, and FACTORY_VLLM_PYTHON is not set")
def test_vllm_and_transformers_write_and_score_the_same_and_nothing_is_left(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    done = subprocess.run(
        [PYTHON, SCRIPT, "--prompts", "4", "--max-tokens", "32", "--out", out], capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    result = json.loads(out.read_text())
    assert result["offline"]["logprobs"]["tokens"] > 50
    assert result["server"]["starts"] == 2 and result["server"]["arrived"] == 4
    assert all(row["processes"] > 0 for row in result["orphans"].values())
