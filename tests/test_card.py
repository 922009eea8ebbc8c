"""The data set's card: what rows say of themselves cannot break or forge it."""

import yaml
from flow import ROOT

from factory.card import dataset_card
from factory.recipe_io import load_recipe

FUNNEL = [{"name": "verdict", "rows_in": 3, "kept": 2, "drops": {"incorrect": 1}}]


def card(*licences: str, outcome: str = "correct") -> str:
    rows = [
        {"problem_id": str(i), "teacher": "steady", "model": "sha256:12", "licence": licence, "outcome": outcome}
        for i, licence in enumerate(licences)
    ]
    return dataset_card(load_recipe(ROOT / "recipes" / "quickstart.yaml").recipe, rows, FUNNEL)


def header(text: str) -> dict[str, object]:
    loaded: dict[str, object] = yaml.safe_load(text.split("---\n")[1])
    return loaded


def test_one_licence_that_hubs_know_becomes_the_tag() -> None:
    assert header(card("Apache-2.0", "Apache-2.0"))["license"] == "apache-2.0"
    assert header(card("MIT", "Apache-2.0"))["license"] == "other"
    assert header(card("mine, all mine"))["license"] == "other"


def test_an_unknown_licence_is_said_and_not_guessed() -> None:
    text = card("MIT", "unknown")
    assert header(text)["license"] == "unknown" and "nobody has checked it" in text


def test_a_hostile_licence_stays_in_its_cell() -> None:
    text = card("x | y |\n# heading\n<script>alert(1)</script>\n---\nlicense: mit")
    assert "<script>" not in text and "\n# heading" not in text
    assert header(text)["license"] == "other"


def test_wrong_responses_in_the_set_are_announced() -> None:
    assert "**2 of these responses were judged wrong**" in card("MIT", "MIT", outcome="incorrect")
    assert "judged wrong" not in card("MIT")


def test_the_funnel_is_in_the_card() -> None:
    assert "| verdict | 3 | 2 | incorrect 1 |" in card("MIT")
