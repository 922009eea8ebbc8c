"""Looking at a recipe costs nothing: no heavy module is imported before a stage needs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "vllm",
    "deepspeed",
    "pyarrow",
    "pandas",
    "sympy",
    "math_verify",
    "openai",
    "matplotlib",
    "numpy",
}
PROBE = """
import json, sys
sys.argv = {argv!r}
try:
    from factory.cli import main
    if len(sys.argv) > 1:
        main()
except SystemExit as end:
    code = end.code
else:
    code = 0
print("MODULES " + json.dumps([code, sorted({{name.split(".")[0] for name in sys.modules}})]))
"""


def loaded_modules(*argv: str) -> tuple[int, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(argv=["factory", *argv])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stdout.rsplit("MODULES ", 1)[1])
    return code or 0, set(modules)


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("--help",),
        ("run", "--help"),
        ("schema",),
        ("check", "recipes/quickstart.yaml"),
        ("check", "recipes/gsm8k_local.yaml", "--no-servers"),
    ],
    ids=lambda argv: " ".join(argv) or "import",
)
def test_no_heavy_module_is_imported(argv: tuple[str, ...]) -> None:
    _, modules = loaded_modules(*argv)
    assert not modules & HEAVY, modules & HEAVY
    assert "factory" in modules


def test_check_finds_the_quickstart_fine() -> None:
    code, _ = loaded_modules("check", "recipes/quickstart.yaml")
    assert code == 0
