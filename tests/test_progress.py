"""Progress: plain lines where nobody can see a bar move, a bar on a terminal, nothing when quiet."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from factory import progress
from factory.progress import Progress

ROOT = Path(__file__).parents[1]


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)


@pytest.mark.usefixtures("every_step")
def test_without_a_terminal_it_writes_plain_lines_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as shown:
        shown.line("verify  in=3 correct=[2]")
        with shown.task("rollouts", 4) as task:
            task.advance()
            task.advance(2, note="loss 0.5")
            task.advance()
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "verify  in=3 correct=[2]"
    assert lines[1].startswith("  rollouts: 1/4, ") and lines[1].endswith("s left")
    assert lines[2].startswith("  rollouts: 3/4, ") and lines[2].endswith("s left loss 0.5")
    assert len(lines) == 3 and "\x1b" not in err


def test_plain_lines_are_rare(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(plain=True) as shown, shown.task("rollouts", 1000) as task:
        for _ in range(1000):
            task.advance()
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("every_step")
def test_quiet_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(quiet=True) as shown, shown.task("rollouts", 3) as task:
        shown.line("a")
        task.advance()
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_names_and_notes_are_shown_as_they_are() -> None:
    code = (
        "import time\n"
        "from factory.progress import Progress\n"
        "with Progress() as shown:\n"
        "    with shown.task('smoke/[b]', 2) as task:\n"
        "        task.advance(1, note='[/x] half')\n"
        "        time.sleep(0.5)\n"
        "    shown.line('[red]done')\n"
    )
    main, terminal = pty.openpty()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=terminal, env={**os.environ, "TERM": "xterm"})
    os.close(terminal)
    text = b""
    try:
        while chunk := os.read(main, 65536):
            text += chunk
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(main)
    assert done.returncode == 0
    assert b"smoke/[b]" in text and b"[red]done" in text and b"1/2" in text and b"[/x] half" in text
