"""Runs that are killed, interrupted and resumed, as real processes."""

import json
import os
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.engine.helpers import (
    assert_same_state,
    call,
    log_without_time,
    resume_arguments,
    train_arguments,
)

KILLER = """
import os, signal
from i2i.hookspecs import hookimpl

HOOK, _, STEP = os.environ.get("KILL_AT", "").partition("@")

def act(hook, run):
    if HOOK == hook and run.total_step == int(STEP):
        os.kill(os.getpid(), signal.SIGKILL)

@hookimpl
def i2i_step_finished(run):
    act("step", run)

@hookimpl
def i2i_preview(run):
    act("preview", run)

@hookimpl
def i2i_checkpoint_saving(run):
    act("saving", run)

@hookimpl
def i2i_checkpoint_saved(run):
    act("saved", run)
"""


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A real plugin, found through its entry point, that kills its process where it is told."""
    site = tmp_path_factory.mktemp("site")
    (site / "i2i_test_killer.py").write_text(KILLER)
    info = site / "i2i_test_killer-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: i2i-test-killer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[i2i]\nkiller = i2i_test_killer\n")
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, recipe, and a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = call(train_arguments(folder, folder / "run"))
    assert done.returncode == 0, done.stderr
    return folder


def assert_same_run(run: Path, reference: Path) -> None:
    states = [torch.load(r / "checkpoint.pt", weights_only=True) for r in (run, reference)]
    for state in states:
        del state["logs"]  # lengths differ by the digits of times
    assert_same_state(*states)
    assert log_without_time(run) == log_without_time(reference)
    ours, theirs = (r / "model.safetensors" for r in (run, reference))
    assert ours.read_bytes() == theirs.read_bytes()
    assert steps_in_events(run) == steps_in_events(reference)


def steps_in_events(run: Path) -> list[tuple[str, int]]:
    """Read every event file raw: (tag, step) in order, nothing purged by a clever reader."""
    from tensorboard.compat.proto.event_pb2 import Event

    found = []
    for path in sorted((run / "tensorboard").iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            found += [(value.tag, event.step) for value in event.summary.value]
            place += 12 + length + 4
    return found


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_run_resumes_bit_identically(
    whole: Path, tmp_path: Path, killer: dict[str, str], workers: int
) -> None:
    run = tmp_path / "run"
    points = ["step@2", "saving@4", "step@7", "preview@12", "saved@16", "step@23"]
    points = points if workers == 0 else points[2:4]
    command = train_arguments(whole, run, workers=workers)
    for point in points:
        killed = call(command, env=killer | {"KILL_AT": point})
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        command = resume_arguments(run, workers)
    done = call(command, env=killer)
    assert done.returncode == 0, done.stderr
    assert_same_run(run, whole / "run")


def test_log_and_tensorboard_hold_no_step_twice(whole: Path) -> None:
    steps = [line["step"] for line in log_without_time(whole / "run")]
    assert steps == [5, 10, 15, 20, 24]
    events = steps_in_events(whole / "run")
    assert len(events) == len(set(events))
    assert ("terms/cycle_a", 24) in events
    assert [step for tag, step in events if tag == "preview"] == [12, 24]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_exits_130_and_the_resumed_run_is_the_same(
    whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    # checkpoints are due only at the end, so the one that is found was saved by the signal
    command = train_arguments(whole, run, "run.checkpoint_every=1000", "run.log_every=1")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("train 2/"):
                process.send_signal(number)
                break
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert f"i2i train --resume {run} goes on" in rest
    step = torch.load(run / "checkpoint.pt", weights_only=True)["step"]
    assert 2 <= step < 24
    assert len(log_without_time(run)) == step
    assert call(resume_arguments(run)).returncode == 0
    ours = torch.load(run / "checkpoint.pt", weights_only=True)
    theirs = torch.load(whole / "run" / "checkpoint.pt", weights_only=True)
    for part in ("modules", "optimizers", "averages"):
        assert_same_state(ours[part], theirs[part], part)


def test_finished_run_is_left_alone(whole: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (whole / "run").rglob("*")}
    done = call(resume_arguments(whole / "run"))
    assert done.returncode == 0
    assert "finished" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in (whole / "run").rglob("*")} == before


def test_run_folder_that_holds_something_is_refused(whole: Path) -> None:
    refused = call(train_arguments(whole, whole / "run"))
    assert refused.returncode == 2
    assert "--resume" in refused.stderr


def test_damaged_checkpoint_is_named(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_bytes((whole / "run" / "recipe.toml").read_bytes())
    (run / "checkpoint.pt").write_bytes((whole / "run" / "checkpoint.pt").read_bytes()[:5000])
    failed = call(resume_arguments(run))
    assert failed.returncode == 1
    assert "checkpoint.pt" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_diverging_run_names_term_and_step_and_keeps_its_checkpoint(
    whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    rate = "stages.train.players.generators.learning_rate=1e38"
    failed = call(train_arguments(whole, run, rate))
    assert failed.returncode == 1
    assert "became nan" in failed.stderr or "became inf" in failed.stderr
    assert "stage 'train', step 1" in failed.stderr
    kept = torch.load(run / "checkpoint.pt", weights_only=True)
    assert all(torch.isfinite(t).all() for t in kept["modules"].values())


def test_bfloat16_and_accumulating_run_resumes_bit_identically(
    tmp_path: Path, killer: dict[str, str]
) -> None:
    settings = ("stages.train.precision=bfloat16", "stages.train.batch_size=3")
    settings += ("stages.train.micro_batches=2", "stages.train.images=15", "model.game.pool_size=4")
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert call(train_arguments(tmp_path, whole, *settings)).returncode == 0
    killed = call(train_arguments(tmp_path, run, *settings), env=killer | {"KILL_AT": "step@3"})
    assert killed.returncode == -signal.SIGKILL
    assert call(resume_arguments(run)).returncode == 0
    assert_same_run(run, whole)


@pytest.mark.slow
def test_run_killed_at_random_moments_resumes_bit_identically(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = train_arguments(whole, run)
    started = time.monotonic()
    for attempt in range(60):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            code = process.wait(timeout=2.0 + 0.37 * (attempt % 13))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        else:
            assert code == 0
            break
        if (run / "recipe.toml").exists():
            command = resume_arguments(run)
        assert time.monotonic() - started < 500
    assert_same_run(run, whole / "run")


def test_log_lines_hold_terms_rates_and_speed(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "run" / "log.jsonl").read_text().splitlines()]
    assert set(lines[0]["time"]) == {"at", "images_per_second"}
    assert {"cycle_a", "identity_a", "judge_b"} <= set(lines[0]["terms"])
    assert lines[1]["learning_rates"]["generators"] == 2e-4
    assert lines[4]["learning_rates"]["generators"] == pytest.approx(2e-4 * (1 - 11 / 12))
    assert lines[4]["measured"]["gradient_norm_generators"] > 0


def test_second_process_in_a_run_folder_is_refused(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = train_arguments(whole, run, "stages.train.images=100000", "run.log_every=1")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        next(line for line in first.stderr if line.startswith("train 1/"))
        second = call(resume_arguments(run))
        first.kill()
    assert second.returncode == 2
    assert "another process is training in it" in second.stderr
