"""Imports point one way: factory -> {curation, verifiers, sft, evals}, and among the four only evals -> verifiers."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("factory", "curation", "verifiers", "sft", "evals")
ALLOWED = {(a, a) for a in PACKAGES} | {("factory", b) for b in PACKAGES} | {("evals", "verifiers")}


def imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide direction"
            names.add(node.module or "")
    return {name.split(".")[0] for name in names} & {*PACKAGES, "tests", "recipes", "benchmarks"}


def test_imports_point_one_way() -> None:
    wrong = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            wrong += [
                f"{path.relative_to(ROOT)} -> {to}" for to in imported_packages(path) if (package, to) not in ALLOWED
            ]
    assert not wrong, wrong


def test_every_package_was_looked_at() -> None:
    assert all(len(list((ROOT / package).rglob("*.py"))) >= 3 for package in PACKAGES)


def test_the_walk_sees_imports_inside_functions(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from factory.run import run\n    import sft.train\n")
    assert imported_packages(file) == {"factory", "sft"}


def test_tests_and_recipes_are_not_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert not list((ROOT / "recipes").rglob("__init__.py"))


def test_files_stay_readable() -> None:
    long = [
        str(p.relative_to(ROOT))
        for d in (*PACKAGES, "tests")
        for p in (ROOT / d).rglob("*.py")
        if len(p.read_text().splitlines()) > 600
    ]
    assert not long, long
