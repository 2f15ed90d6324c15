"""The frame of the command line: help, start-up, errors, statuses."""

import importlib.metadata
import json
import subprocess
import sys
import types

import click
import pytest
from click.testing import CliRunner

from i2i import cli
from i2i.errors import DataError, UsageError

HEAVY = ("torch", "numpy", "albumentations", "cv2", "PIL", "tensorboard", "scipy")


@pytest.fixture
def runs(monkeypatch):
    """Run the group with one command whose body is given."""

    def runs(body, *arguments):
        module = types.ModuleType("i2i.cli.probe")
        module.command = click.command("probe")(body)
        monkeypatch.setitem(cli.COMMANDS, "probe", "A probe.")
        monkeypatch.setitem(sys.modules, "i2i.cli.probe", module)
        return CliRunner().invoke(cli.main, [*arguments, "probe"])

    return runs


def raising(error):
    def body():
        raise error

    return body


def test_help_names_every_command_with_its_line(i2i):
    done = i2i("--help")

    assert done.returncode == 0
    for name, line in cli.COMMANDS.items():
        assert f"{name} " in done.stdout
        assert line in done.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there_and_explains_itself(i2i, name):
    done = i2i(name, "--help")

    assert done.returncode == 0, done.stderr
    assert f"i2i {name}" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("recipes",),
        ("plugins",),
        ("plugins", "--names"),
        *((name, "--help") for name in cli.COMMANDS),
    ],
    ids=" ".join,
)
def test_looking_around_imports_nothing_heavy(arguments, environment, tmp_path):
    script = f"""
import json, sys
from i2i.cli import main
try:
    main({list(arguments)!r})
finally:
    print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout
    assert json.loads(done.stderr.splitlines()[-1]) == []


def test_listing_imports_no_pydantic(environment):
    script = """
import sys
from i2i.cli import main
try:
    main(["recipes"])
finally:
    print("pydantic" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stderr.strip() == "False"


def test_help_imports_no_command(environment):
    script = """
import sys
from i2i.cli import main
try:
    main(["--help"])
finally:
    print(sorted(name for name in sys.modules if name.startswith("i2i")), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stderr.strip() == "['i2i', 'i2i.cli', 'i2i.errors']"


def test_the_version_is_that_of_the_distribution(i2i):
    assert importlib.metadata.version("i2i-gan") in i2i("--version").stdout


def test_an_unknown_command_suggests_the_nearest(i2i):
    done = i2i("trian")

    assert done.returncode == 2
    assert "there is no command 'trian'; did you mean 'train'?" in done.stderr


def test_an_unknown_command_that_is_near_to_none_lists_them(i2i):
    assert "choose one of translate, train, evaluate, recipes" in i2i("zzz").stderr


@pytest.mark.parametrize(("kind", "status"), [(DataError, 1), (UsageError, 2)])
def test_an_error_of_ours_is_one_message_and_its_status(runs, kind, status):
    error = kind("it broke", where="here", expected="peace", remedy="mend it")

    done = runs(raising(error))

    assert done.exit_code == status
    assert done.stderr == f"Error: {error}\n"
    assert done.stdout == ""


def test_debug_keeps_the_traceback_of_an_error_of_ours(runs):
    error = DataError("it broke", where="here", expected="peace", remedy="mend it")

    assert runs(raising(error), "--debug").exception is error


def test_any_other_exception_is_a_bug_and_keeps_its_traceback(runs):
    error = ZeroDivisionError("a bug")

    assert runs(raising(error)).exception is error


def test_an_interruption_is_status_130(runs):
    done = runs(raising(KeyboardInterrupt()))

    assert (done.exit_code, done.stderr) == (130, "Interrupted.\n")


def test_a_commands_own_status_is_kept(runs):
    assert runs(raising(SystemExit(7))).exit_code == 7
