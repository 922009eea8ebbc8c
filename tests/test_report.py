from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_fixture import HOSTILE, make_workspace, write_json

from factory.errors import WorkspaceError
from factory.report import build_report, data, plots, results, text
from factory.report.data import RunFolder
from factory.tables import PASS_RATE_SCHEMA

VOID = {"meta", "br", "img", "link", "input", "hr", "use"}
ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "article", "div", "p", "span",
    "small", "b", "a", "h1", "h2", "h3", "h4", "ul", "li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr",
    "th", "td", "figure", "figcaption", "details", "summary", "pre", "code", "bdi",
    "svg", "g", "path", "defs", "use", "rect", "text", "clippath", "tspan",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "id", "class", "href", "role", "aria-label", "tabindex",
    "scope", "dir", "open", "style", "viewbox", "d", "x", "y", "width", "height", "transform", "clip-path",
}  # fmt: skip


class Page(HTMLParser):
    """A page as elements, attributes and text; fails on an element that is closed in the wrong place."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.sections: dict[str, str] = {}
        self._open: list[str] = []
        self._section = ""
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)
            self.sections[self._section] = self.sections.get(self._section, "") + data

    def said(self, section: str) -> str:
        return " ".join(self.sections[section].split())


def page_of(run_dir: Path) -> Page:
    return Page(build_report(run_dir).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def whole_html(whole: Path) -> str:
    return build_report(whole).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def whole_page(whole_html: str) -> Page:
    return Page(whole_html)


@pytest.fixture(scope="module")
def hostile_html(tmp_path_factory: pytest.TempPathFactory) -> str:
    run_dir = make_workspace(tmp_path_factory.mktemp("hostile"), hostile=True, until="curate", num_problems=40)
    return build_report(run_dir).read_text(encoding="utf-8")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A run of one's own, to damage."""
    shutil.copytree(whole.parent.parent, tmp_path / "w")
    return tmp_path / "w" / "runs" / whole.name


def stage_file(run_dir: Path, stage: str, name: str) -> Path:
    manifest = json.loads((run_dir / "manifest.json").read_text())
    return run_dir.parent.parent / manifest["stages"][stage]["dir"] / name


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(path.read_text())
    write_json(path, change(value) or value)


# --- safe ---


def test_hostile_text_becomes_no_element_and_no_attribute(hostile_html: str) -> None:
    page = Page(hostile_html)  # fails on an element closed by a trace
    assert set(page.tags) <= ELEMENTS
    assert page.tags["h1"] == page.tags["main"] == page.tags["style"] == 1
    assert {name for _, name, _ in page.attributes} <= ATTRIBUTES
    assert not any("planted" in value for _, _, value in page.attributes)


def test_hostile_text_can_be_read(hostile_html: str) -> None:
    shown = "".join(Page(hostile_html).text)
    for piece in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[4], HOSTILE[5]):
        assert piece in shown
    assert "⟨U+0000⟩⟨U+0001⟩⟨U+001B⟩[31mred⟨U+0007⟩ ⟨U+202E⟩gnp.exe⟨U+202C⟩ ⟨U+2066⟩hidden⟨U+2069⟩" in shown
    assert "⟨299 more combining marks⟩" in shown


def test_no_character_of_the_page_hides_or_reorders_text(hostile_html: str) -> None:
    assert (
        re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", hostile_html)
        is None
    )


def test_page_loads_nothing(hostile_html: str, whole_html: str) -> None:
    for html in (hostile_html, whole_html):
        page = Page(html)
        assert {"script", "img", "link", "iframe", "object", "embed"}.isdisjoint(page.tags)
        for tag, name, value in page.attributes:
            assert name not in ("src", "srcset", "action", "data", "poster", "xlink:href"), (tag, name)
            assert not name.startswith("on")
            if name == "href":
                assert value.startswith("#")
            if name in ("style", "clip-path"):
                assert re.findall(r"url\((?!#)", value) == []
        style = html[html.index("<style>") : html.index("</style>")]
        assert "url(" not in style and "@import" not in style
        policy = next(v for t, n, v in page.attributes if t == "meta" and "default-src" in v)
        assert policy.startswith("default-src 'none';") and "http" not in policy


def test_ids_are_unique_and_every_reference_has_its_target(whole_page: Page) -> None:
    ids = [value for _, name, value in whole_page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    references = [value[1:] for _, name, value in whole_page.attributes if name == "href"]
    references += [m for _, name, v in whole_page.attributes if name == "clip-path" for m in re.findall(r"#([^)]+)", v)]
    assert references and set(references) <= set(ids)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\n\ttext é 漢字 👩\u200d👩", "plain\n\ttext é 漢字 👩\u200d👩"),
        ("a\r\nb\rc", "a\nb⟨U+000D⟩c"),
        ("\ud800", "⟨U+D800⟩"),
        ("\u2028\u00ad\ufffe\ue000", "⟨U+2028⟩⟨U+00AD⟩⟨U+FFFE⟩⟨U+E000⟩"),
        ("\U000e0041\U000f0000", "⟨U+E0041⟩⟨U+F0000⟩"),
        ("e\u0301 \ufffd", "e\u0301 \ufffd"),
    ],
)
def test_only_text_that_hides_or_breaks_is_spelled_out(raw: str, shown: str) -> None:
    assert text.visible(raw) == shown
    text.visible(raw).encode("utf-8")


def test_keys_never_reach_the_page(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "correct-horse<battery>&staple"
    monkeypatch.setenv("MY_KEY", secret)
    typed = "typed-by-hand"
    address = "https://user:hunter2secret@models.example/v1"

    def add(recipe: dict[str, Any]) -> None:
        engine = {"kind": "openai", "model": "m", "base_url": address, "api_key_env": "MY_KEY", "api_key": typed}
        recipe["teachers"]["candidates"][0]["engine"] = engine
        recipe["description"] = f"asked with {secret}"

    edit(copy / "recipe.json", add)
    command = ["factory", "run", "r.yaml", "--api-key", "abcdefgh12345", "sk-proj-0123456789abcdefABCDEF"]
    edit(copy / "manifest.json", lambda m: m | {"command": command})
    html = build_report(copy).read_text(encoding="utf-8")
    for leaked in ("hunter2secret", "abcdefgh12345", "0123456789abcdefABCDEF", typed, "horse&lt;battery"):
        assert leaked not in html
    assert "MY_KEY" in html and "[redacted]" in html


def test_durations_are_written_as_people_say_them() -> None:
    written = [text.seconds(s) for s in (0.034, 9.999, 12.34, 59.96, 200, 3599.6, 7512, None)]
    assert written == ["0.03 s", "10.00 s", "12.3 s", "1 min 00 s", "3 min 20 s", "1 h 00 min", "2 h 05 min", "–"]


@pytest.mark.parametrize("harmless", ["--set train.max_tokens=16384", "models/sk-tiny", "hf_internal", "tokens: 5"])
def test_redaction_leaves_ordinary_words_alone(harmless: str) -> None:
    assert text.redact(harmless) == harmless


def test_huge_trace_is_cut_in_the_middle_and_says_by_how_much(copy: Path) -> None:
    path = stage_file(copy, "curate", "rows.parquet")
    table = pq.read_table(path)
    long = "<think>" + "x" * 100_000 + "</think>the end"
    column = pa.array([long] * table.num_rows, pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("response"), "response", column), path)
    page = page_of(copy)
    assert f"{len(long) - 16_000:,} characters are not shown" in page.said("examples")
    assert page.said("examples").count("</think>the end") >= 4
    assert (copy / "report.html").stat().st_size < 1_500_000


def test_bytes_that_are_not_text_do_not_stop_the_report(copy: Path) -> None:
    path = stage_file(copy, "curate", "rows.parquet")
    table = pq.read_table(path)
    raw = pa.array([b"\xff\xfe broken"] * table.num_rows, pa.binary())
    broken = pa.StringArray.from_buffers(table.num_rows, *raw.buffers()[1:])
    pq.write_table(table.set_column(table.schema.get_field_index("response"), "response", broken), path)
    kept, dropped, _ = data.examples(RunFolder.open(copy))
    assert kept and {row["response"] for group in (kept, *dropped) for row in group.rows} == {"\ufffd\ufffd broken"}


# --- the same run gives the same page ---


def test_equal_runs_give_equal_bytes_wherever_they_are(whole_html: str, copy: Path) -> None:
    first = whole_html.encode()
    assert build_report(copy).read_bytes() == first
    assert build_report(copy).read_bytes() == first
    assert sorted(p.name for p in copy.iterdir() if "report" in p.name) == ["report.html"]


def test_examples_do_not_depend_on_the_order_of_rows(copy: Path) -> None:
    before = data.examples(RunFolder.open(copy))
    path = stage_file(copy, "curate", "rows.parquet")
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), path, row_group_size=50)
    assert data.examples(RunFolder.open(copy)) == before


# --- what it says ---

BENCHMARK = {
    "name": "heldout", "role": "in_domain", "num_questions": 160, "num_samples": 4, "minimum_detectable_gain": 0.052,
    "models": {"base": {"avg_at_k": {"value": 0.4}}, "sft": {"avg_at_k": {"value": 0.5}}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "low", "high", "kind", "title"),
    [
        (0.1, 0.04, 0.16, "better", "The sft student is better than the base model by 10.0 points"),
        (-0.1, -0.16, -0.04, "worse", "The sft student is worse than the base model by 10.0 points"),
        (0.03, -0.02, 0.08, "none", "No difference shown between the sft student and the base model"),
        (0.03, 0.0, 0.06, "none", "No difference shown between the sft student and the base model"),
        (-0.03, -0.06, 0.0, "none", "No difference shown between the sft student and the base model"),
        (0.0, 0.0, 0.0, "none", "No difference shown between the sft student and the base model"),
        (None, None, None, "none", "No difference shown between the sft student and the base model"),
    ],
)
def test_headline_follows_the_interval(
    value: float | None, low: float | None, high: float | None, kind: str, title: str
) -> None:
    said = results.verdict(
        BENCHMARK, {"model": "sft", "against": "base", "value": value, "low": low, "high": high, "p_value": 0.04}, "95%"
    )
    assert (said.kind, said.title) == (kind, title)
    assert ("includes zero" in said.sentence) == (kind == "none" and value is not None)
    assert "a true gain of 5.2 points would be found" in said.sentence


def test_headline_gives_scores_interval_and_p_value(whole_page: Page) -> None:
    said = whole_page.said("verdict")
    assert (
        "base model answers 41.2% correctly and the sft student 55.0%: a difference of +13.8 percentage points" in said
    )
    assert "(95% interval +9.1 to +18.4, p < 0.001)" in said
    assert (
        "phrases (retention), sft student: no difference shown (−1.4 points, interval −4.4 to +1.6, p = 0.310)" in said
    )


def test_no_difference_is_said_in_words(tmp_path: Path) -> None:
    run_dir = make_workspace(tmp_path, num_problems=12, gains={"sft": (0.013, -0.03, 0.05, 0.51)})
    page = page_of(run_dir)
    assert "No difference shown between the sft student and the base model" in page.said("verdict")
    assert "better" not in page.said("verdict").split("On the other benchmarks")[0].split("95% interval")[1]


def test_every_section_opens_with_a_sentence_that_explains_it(whole_html: str) -> None:
    leads = re.findall(r'<section id="\w+">\s*<h2>[^<]+</h2>\s*<p class="lead">([^<]+\.)</p>', whole_html)
    assert len(leads) == whole_html.count("<section ") == 10


def test_chosen_teacher_and_runner_up_are_named_with_the_reason(whole_page: Page) -> None:
    said = whole_page.said("teachers")
    assert "Chosen: steady; runner-up: wordy. Reason: steady's student scores 51.2%" in said
    assert "139 of 150" in said and "45.7% to 56.7%" in said and "+9.0 to +23.0; p < 0.001" in said


def test_teachers_that_were_not_compared_need_no_trial_figures(copy: Path) -> None:
    row = {"name": "steady", "model": "models/steady", "engine": "transformers", "student_score": None}
    evidence = {
        "selected": "steady",
        "select": "first",
        "rule": "the first candidate",
        "reason": "it is the only candidate",
    }
    write_json(stage_file(copy, "teachers", "teachers.json"), evidence | {"student_base": None, "candidates": [row]})
    body = results.teachers(RunFolder.open(copy), "95%")
    assert isinstance(body, dict) and not body["smoke"] and "picture" not in body
    assert body["table"].rows[0][0].main == "steady" and {cell.main for cell in body["table"].rows[0][1:]} == {"–"}


def test_counts_beside_accuracy_are_there(whole_page: Page) -> None:
    said = whole_page.said("scores")
    assert "8 of 636" in said and "16 of 636" in said and "3 unverifiable, 1 error" in said
    assert "out-of-domain: how far the skill reaches" in said


def test_losses_that_are_not_numbers_are_counted_not_drawn() -> None:
    rows = [{"step": s, "loss": float("nan") if s == 2 else 1.0 / 2**s, "tokens": 10 * s} for s in range(1, 4)]
    assert data.curve(rows) == data.Curve([10.0, 30.0], [0.5, 0.125], 1, 1)


def test_long_curves_are_averaged_not_cut() -> None:
    line = data.curve([{"step": s, "loss": 2.0, "tokens": s} for s in range(1, 1001)])
    assert line.steps_per_point == 4 and len(line.loss) == 250 and line.tokens[-1] == 1000.0


# --- the funnel adds up ---


def test_funnel_runs_from_problems_to_the_set_and_adds_up(whole: Path) -> None:
    steps = data.funnel(RunFolder.open(whole))
    assert data.funnel_faults(steps) == []
    assert [s.name for s in steps[:2]] == ["problems read", "teacher asked"]
    asked, last = steps[1], steps[-1]
    assert asked.rows_in == last.kept + sum(n for s in steps[2:] for _, n in s.drops)
    assert last.kept == json.loads((whole / "manifest.json").read_text())["stages"]["curate"]["ledger"]["kept"]


def test_funnel_without_curation_ends_at_the_verdicts(tmp_path: Path) -> None:
    run = RunFolder.open(make_workspace(tmp_path, until="rollouts", num_problems=12))
    steps = data.funnel(run)
    assert [s.name for s in steps] == ["problems read", "teacher asked", "verified"]
    assert data.funnel_faults(steps) == []


def test_funnel_that_does_not_add_up_is_said(copy: Path) -> None:
    path = stage_file(copy, "curate", "funnel.json")

    def lose_a_row(steps: list[dict[str, Any]]) -> None:
        steps[1]["kept"] -= 1

    edit(path, lose_a_row)
    said = page_of(copy).said("funnel")
    assert "do not add up" in said and "shape" in said


def test_histograms_hold_every_row(whole: Path) -> None:
    run = RunFolder.open(whole)
    rates, lengths = data.pass_rates(run), data.trace_lengths(run)
    assert rates and rates.per_k and sum(n for _, n in rates.counts) == rates.num_problems == 60
    assert lengths and sum(lengths.kept) + sum(lengths.dropped) == 240


def test_never_and_always_solved_stay_apart_where_problems_were_tried_differently_often(copy: Path) -> None:
    counts = [(0, 2), (0, 9), (1, 16), (1, 3), (7, 10), (15, 16), (3, 3), (0, 0)]
    path = stage_file(copy, "difficulty", "pass_rates.parquet")
    rows = [{"problem_id": str(i), "k": k, "n": n} for i, (k, n) in enumerate(counts)]
    pq.write_table(pa.Table.from_pylist(rows, schema=PASS_RATE_SCHEMA), path)
    rates = data.pass_rates(RunFolder.open(copy))
    assert rates and (rates.num_problems, rates.not_judged, rates.per_k) == (8, 1, False)
    found = {label: count for label, count in rates.counts if count}
    assert found == {"0/n": 2, "0\u201310%": 1, "30\u201340%": 1, "70\u201380%": 1, "90\u2013100%": 1, "n/n": 1}
    assert "2 of 7 problems are at 0/n, 1 at n/n" in page_of(copy).said("difficulty")


def test_licences_and_sources_cover_the_kept_rows(whole: Path, whole_page: Page) -> None:
    run = RunFolder.open(whole)
    by_licence, by_source = data.licences(run)
    kept = data.funnel(run)[-1].kept
    assert {name for name, _ in by_licence} == {"Apache-2.0", "unknown"}
    assert sum(n for _, n in by_licence) == kept
    assert by_source == [("arithmetic num=1000 seed=0 split=train", kept)]  # the row's number is left out
    assert "nobody has checked it for you" in whole_page.said("reproduce")


def test_labels_in_pictures_are_text_whatever_they_hold() -> None:
    label = "$x^{ <b>&\u202e\x00"
    svg = plots.forest("f", label, [(label, [plots.Bar(label, 1.0, 0.5, 1.5)])], xlabel="x")
    page = Page(svg)
    assert "b" not in page.tags and page.tags["svg"] == 1
    assert "".join(page.text).count("$x^{ <b>&⟨U+202E⟩⟨U+0000⟩") == 2


# --- runs that did not get to the end ---


@pytest.mark.parametrize(
    ("until", "missing"),
    [
        ("problems", {"verdict", "teachers", "difficulty", "examples", "training", "scores"}),
        ("rollouts", {"verdict", "difficulty", "training", "scores"}),
        ("train/sft", {"verdict", "scores"}),
    ],
)
def test_missing_stages_are_said_not_run(tmp_path: Path, until: str, missing: set[str]) -> None:
    page = page_of(make_workspace(tmp_path, until=until, num_problems=12))
    for section in page.sections.keys() - {""}:
        assert ("Not run:" in page.said(section).split("Sources and licences")[0]) == (section in missing), section
    assert "stopped before the end of the recipe; not run:" in page.said("run")


def test_run_without_any_stage_has_a_report(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "empty"
    run_dir.mkdir(parents=True)
    write_json(run_dir / "manifest.json", {"format": 1, "recipe": "empty", "stages": {}})
    page = page_of(run_dir)
    assert "No verdict yet. Not run" in page.said("verdict")
    assert "recipe.json cannot be read" in page.said("run")


def test_limit_and_until_are_said_where_the_result_is_read(tmp_path: Path) -> None:
    run_dir = make_workspace(tmp_path, until="teachers", num_problems=12, limit=4)
    edit(run_dir / "manifest.json", lambda m: m | {"command": ["factory", "run", "r.yaml", "--until", "teachers"]})
    said = page_of(run_dir).said("run")
    assert "--limit 4" in said and "stopped as asked with --until; not run: rollouts" in said


@pytest.mark.parametrize(
    ("stage", "name", "section"),
    [
        ("curate", "rows.parquet", "examples"),
        ("difficulty", "pass_rates.parquet", "difficulty"),
        ("scores", "scores.json", "scores"),
        ("teachers", "teachers.json", "teachers"),
    ],
)
def test_damaged_file_costs_one_section_only(copy: Path, stage: str, name: str, section: str) -> None:
    stage_file(copy, stage, name).write_bytes(b"PAR1 not what it was \x00\xff")
    page = page_of(copy)
    assert f"{stage}: " in page.said("run") and "cannot be read" in page.said("run") or name in page.said("run")
    assert "cannot be read" in page.said(section) or "Not run" in page.said(section)
    assert "Trained students" in page.said("training")


def test_file_of_another_shape_costs_one_section_only(copy: Path) -> None:
    edit(stage_file(copy, "scores", "scores.json"), lambda s: s | {"benchmarks": [{"name": "x"}]})
    page = page_of(copy)
    assert "Cannot be shown: KeyError" in page.said("scores") and "Cannot be shown: KeyError" in page.said("verdict")
    assert "Chosen: steady" in page.said("teachers")


def test_store_that_is_gone_is_said(copy: Path) -> None:
    shutil.rmtree(copy.parent.parent / "store")
    said = page_of(copy).said("run")
    assert "is not there" in said and "scores" in said


def test_run_without_manifest_is_an_error_that_helps(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="manifest.json: not the manifest of a run .* WORKSPACE/runs/"):
        build_report(tmp_path)


def test_importing_the_report_is_cheap() -> None:
    code = "import sys, factory.report; print(sorted({'matplotlib', 'pyarrow', 'jinja2', 'numpy'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
