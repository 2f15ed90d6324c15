"""The project's errands, for people with make and without: ``python tools/task.py NAME``.

``demo`` installs i2i into .venv, turns two horses into zebras and enlarges four pictures, ``test``
installs it and runs everything that CI runs, ``check`` formats, lints, checks types and runs the
quick tests, ``pin`` writes constraints.txt anew. Needs nothing but Python.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "constraints.txt"
BUILD_TOOLS = ("pip", "setuptools")
EVERYTHING = "[dev]"
PINNED_BY_HAND = "torch==2.13.0"  # the newest with a CPU build on CI's machines
PLATFORM_BOUND = re.compile(r"(nvidia-|cuda-|triton\b)")  # come with torch where it has them


def main() -> None:
    """Run one errand; the exit status is that of its first command that fails."""
    errands = {"demo": demo, "test": test, "check": check, "pin": pin}
    parser = argparse.ArgumentParser(description=__doc__, prog="task.py")
    parser.add_argument("errand", choices=errands)
    errand = errands[parser.parse_args().errand]
    if sys.version_info < (3, 11):  # noqa: UP036 - run by whatever Python is there
        sys.exit(f"i2i needs Python 3.11 or newer, and this is {sys.version.split()[0]}.")
    os.chdir(ROOT)
    try:
        errand()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


def demo() -> None:
    """Translate the sample pictures into demo-out/, and enlarge some into demo-out/large."""
    python = install(ROOT, VENV, extras="")
    samples, out = Path("docs", "samples"), Path("demo-out")
    translate = (python, "-m", "i2i", "translate")
    run(*translate, samples / "horses", "-o", out, "--recipe", "horse2zebra", "--sheet")
    run(*translate, samples / "small", "-o", out / "large", "--recipe", "superres-x4")
    sheet, large = (ROOT / out / name for name in ("contact-sheet.png", "large"))
    print(f"\nHorses beside their zebras: {sheet}")  # noqa: T201 - a script for people
    print(f"Small pictures, four times as large: {large}")  # noqa: T201


def test() -> None:
    """Run everything that CI runs; pytest comes last, so its closing lines do too."""
    python = install(ROOT, VENV, extras=EVERYTHING)
    run(python, "-m", "ruff", "check")
    run(python, "-m", "ruff", "format", "--check")
    run(python, "-m", "mypy")
    run(python, "-m", "pytest")


def check() -> None:
    """Format, lint, check types and run the tests that take seconds."""
    python = install(ROOT, VENV, extras=EVERYTHING)
    run(python, "-m", "ruff", "format")
    run(python, "-m", "ruff", "check", "--fix")
    run(python, "-m", "mypy")
    run(python, "-m", "pytest", "-m", "not slow")


def pin() -> None:
    """Write constraints.txt from what a new environment resolves to."""
    with tempfile.TemporaryDirectory() as folder:
        python = create(Path(folder))
        run(python, "-m", "pip", "install", "--quiet", "--upgrade", *BUILD_TOOLS)
        options = ("--quiet", "--no-build-isolation", PINNED_BY_HAND)
        run(python, "-m", "pip", "install", *options, "--editable", f"{ROOT}[dev]")
        freeze = (python, "-m", "pip", "freeze", "--all", "--exclude-editable")
        frozen = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
    pins = [
        line.partition("+")[0]  # a local label such as +cpu names a build that not all can get
        for line in frozen.splitlines()
        if not PLATFORM_BOUND.match(line)
    ]
    heading = "# The exact set that CI uses; 'python tools/task.py pin' writes it.\n"
    CONSTRAINTS.write_text(heading + "\n".join(pins) + "\n", encoding="utf-8")


def install(source: Path, target: Path, extras: str) -> Path:
    """Install the project into the environment ``target`` unless it is; return its Python.

    An environment with more than is asked for will do; to one with less, the rest is added.
    """
    described = (source / "pyproject.toml").read_bytes() + CONSTRAINTS.read_bytes()
    state = f"{hashlib.sha256(described).hexdigest()} {sys.version}"
    stamps = {each: target / f"installed{each}" for each in (extras, "", EVERYTHING)}
    current = {
        each
        for each, stamp in stamps.items()
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == state
    }
    if current & {extras, EVERYTHING}:
        return interpreter(target)
    python = interpreter(target) if current else create(target)
    pip = (python, "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS)
    run(*pip, "--upgrade", *BUILD_TOOLS, quiet=True)
    run(*pip, "--no-build-isolation", "--editable", f"{source}{extras}", quiet=True)
    stamps[extras].write_text(state, encoding="utf-8")
    return python


def create(target: Path) -> Path:
    """Make a virtual environment and return its Python."""
    try:
        venv.create(target, with_pip=True, clear=True)
    except subprocess.CalledProcessError:
        sys.exit(
            "This Python cannot make virtual environments with pip in them; "
            "on Debian and Ubuntu, install the package python3-venv."
        )
    return interpreter(target)


def interpreter(target: Path) -> Path:
    """Return the Python of a virtual environment."""
    return target / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*command: str | Path, quiet: bool = False) -> None:
    """Show and run a command; raises CalledProcessError when it fails.

    A ``quiet`` one says something only then: builds warn of much that is as it should be.
    """
    shown = [part.name if isinstance(part, Path) else part for part in command]
    print("$", *shown, flush=True)  # noqa: T201 - a script for people
    pipe = subprocess.PIPE if quiet else None
    done = subprocess.run([str(part) for part in command], stdout=pipe, stderr=pipe, text=True)
    if done.returncode:
        print(done.stdout or "", done.stderr or "", file=sys.stderr)  # noqa: T201
        raise subprocess.CalledProcessError(done.returncode, shown)


if __name__ == "__main__":
    main()
