"""Who may import whom, and which words the core may not say."""

import ast
import importlib.util
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LAYERS = [
    "lazy",
    "errors",
    "counts",
    "types",
    "files",
    "downloads",
    "imaging",
    "provenance",
    "signing",
    "nn",
    "losses",
    "augment",
    "adversary",
    "metrics",
    "data",
    "translator",
    "importer",
    "hookspecs",
    "builtin",
    "switches",
    "offers",
    "plugins",
    "recipe",
    "model_file",
    "foreign",
    "importing",
    "store",
    "engine",
    "testing",
    "cli",
    "__main__",
]
CORE = sorted((ROOT / "i2i").rglob("*.py"))
LAYERED = [path for path in CORE if path != ROOT / "i2i" / "__init__.py"]  # test_public has that
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
FAMILIES = re.compile(r"cyclegan|pix2pix|srgan|face_aging", re.IGNORECASE)


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT / "i2i").with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports anywhere, except for the type checker alone."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for node in running(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{name.name}" for name in node.names)


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what can run: not the body of ``if TYPE_CHECKING``."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    for child in ast.iter_child_nodes(node):
        yield from running(child)


def above(path: Path) -> list[str]:
    """Return the imports of a core module that reach to the right of its own layer."""
    own = LAYERS.index(layer_of(path))
    ours = [name.split(".") for name in imports(path) if name.startswith("i2i.")]
    return [".".join(name) for name in ours if name[1] in LAYERS[own + 1 :]]


@pytest.mark.parametrize("path", LAYERED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_core_module_imports_only_what_stands_to_its_left(path):
    assert layer_of(path) in LAYERS
    assert above(path) == []


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_plugin_imports_neither_the_engine_nor_the_command_line(path):
    forbidden = ("i2i.engine", "i2i.cli")

    assert [name for name in imports(path) if f"{name}.".startswith(forbidden)] == []


def named(source: str) -> list[str]:
    """Return the tokens that spell a family's name; docstrings may name papers."""
    docstrings = {
        (node.body[0].lineno, node.body[0].col_offset)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node) is not None
    }
    return [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if FAMILIES.search(token.string) and token.start not in docstrings
    ]


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_names_no_family(path):
    assert named(path.read_text(encoding="utf-8")) == []


def test_the_walk_sees_what_it_should():
    """The rules above can fail: each is shown a module that breaks it."""
    assert named('"""CycleGAN."""\nx = "cyclegan"  # pix2pix\n') == ['"cyclegan"', "# pix2pix"]
    assert "i2i.errors.PluginError" in set(imports(ROOT / "i2i" / "plugins.py"))
    assert "i2i.translator.Translator" in set(imports(ROOT / "i2i" / "plugins.py"))
    assert LAYERS.index("plugins") < LAYERS.index("recipe") < LAYERS.index("engine")
