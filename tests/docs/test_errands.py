"""The project's errands reuse the environment that is there."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import load_script

ROOT = Path(__file__).parents[2]


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, which installs nothing here; ``done`` holds what it would have done."""
    task = load_script("tools", "task")
    task.done = []

    def create(target: Path) -> Path:
        task.done.append("create")
        for stamp in target.glob("*"):
            stamp.unlink()
        return task.interpreter(target)

    monkeypatch.setattr(task, "create", create)
    monkeypatch.setattr(task, "run", lambda *command, **_: task.done.append(str(command[-1])))
    return task


def test_what_holds_more_serves_for_less(task: ModuleType, tmp_path: Path) -> None:
    task.install(ROOT, tmp_path, "[dev]")
    task.done.clear()

    for extras in ("", "[dev]", ""):
        assert task.install(ROOT, tmp_path, extras) == task.interpreter(tmp_path)
    assert task.done == []


def test_what_holds_less_is_added_to_and_not_made_anew(task: ModuleType, tmp_path: Path) -> None:
    task.install(ROOT, tmp_path, "")
    assert task.done[0] == "create"
    task.done.clear()

    task.install(ROOT, tmp_path, "[dev]")
    assert "create" not in task.done
    assert task.done[-1] == f"{ROOT}[dev]"
    task.done.clear()
    task.install(ROOT, tmp_path, "")
    assert task.done == []


def test_an_environment_of_other_pins_is_made_anew(
    task: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.install(ROOT, tmp_path, "[dev]")
    task.done.clear()
    pins = tmp_path.with_name("constraints.txt")
    pins.write_text("other==1\n", encoding="utf-8")
    monkeypatch.setattr(task, "CONSTRAINTS", pins)

    task.install(ROOT, tmp_path, "")
    assert task.done[0] == "create"


def test_quiet_command_says_something_only_when_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    task = load_script("tools", "task")
    script = "import sys; print('detail'); sys.exit(int(sys.argv[1]))"
    task.run(sys.executable, "-c", script, "0", quiet=True)
    assert "\ndetail" not in "".join(capfd.readouterr())
    with pytest.raises(subprocess.CalledProcessError):
        task.run(sys.executable, "-c", script, "3", quiet=True)
    assert "\ndetail" in f"\n{capfd.readouterr().err}"
