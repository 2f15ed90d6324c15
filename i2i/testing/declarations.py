"""What a class says of itself: its attributes, its models, and where its source yields."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator

from pydantic import BaseModel

from i2i.errors import PluginError
from i2i.testing.subject import Subject, fault
from i2i.translator import Translator
from i2i.types import Fit, Inputs


def check_class(family: type[Translator]) -> None:
    """Check the class attributes, before anything is built."""
    if not (isinstance(family, type) and issubclass(family, Translator)):
        raise PluginError(
            f"{family!r} is no family",
            where="check_translator",
            expected="a subclass of i2i.Translator",
            remedy="pass the class itself",
        )
    _check_attributes(family)
    _check_model(family, "Options", family.Options)
    _check_descriptions(family, "Options", family.Options)
    _check_model(family, "Request", family.Request)
    for name, field in family.Request.model_fields.items():
        if field.is_required():
            wrong = f"has no default for {name!r}"
            expected = "a default for each field, so that a request may be empty"
            raise fault(family, "Request", wrong, expected, f"give {name!r} a default")
    if not inspect.isgeneratorfunction(family.training_step):
        expected = "a generator function, which yields an Update a move"
        raise fault(family, "training_step", "yields nothing", expected, "yield each move")
    for function, line in _yields_inside_with(family):
        raise fault(
            family,
            function,
            f"yields inside a 'with' block (line {line} of the function)",
            "every 'with' block closed before a yield, for other players move there",
            "end the block first and yield what was computed in it",
        )


def _check_attributes(family: type[Translator]) -> None:
    missing = [each for each in ("name", "Options", "Request", "inputs", "exported")
               if not hasattr(family, each)]  # fmt: skip
    missing += sorted(family.__abstractmethods__)
    if missing:
        expected, remedy = "all that i2i.translator asks for", f"define {missing[0]!r}"
        raise fault(family, missing[0], f"lacks {', '.join(missing)}", expected, remedy)
    if not (isinstance(family.name, str) and re.fullmatch(r"\w[\w.-]*", family.name)):
        expected, remedy = "letters, digits, '_', '-' and '.'", "choose such a name"
        raise fault(family, "name", f"is called {family.name!r}", expected, remedy)
    inputs = family.inputs
    if not isinstance(inputs, Inputs) or not inputs.images:
        expected, remedy = "Inputs with an image role at least", "name what a batch brings"
        raise fault(family, "inputs", f"declares {inputs!r}", expected, remedy)
    names = [*inputs.images, *inputs.labels]
    if len(set(names)) < len(names):
        expected, remedy = "each role and label once", "rename one"
        raise fault(family, "inputs", f"declares {names}", expected, remedy)
    exported = family.exported
    if not isinstance(exported, tuple) or not exported:
        expected, remedy = "a tuple of submodule names", "name what translate needs"
        raise fault(family, "exported", f"declares {exported!r}", expected, remedy)


def _check_model(family: type[Translator], place: str, model: type[BaseModel]) -> None:
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        expected, remedy = "a pydantic model", "subclass pydantic.BaseModel"
        raise fault(family, place, f"is {model!r}", expected, remedy)
    for key, wanted in (("frozen", True), ("extra", "forbid")):
        if model.model_config.get(key) != wanted:
            raise fault(
                family,
                place,
                f"is not {'frozen' if key == 'frozen' else 'strict about unknown keys'}",
                f"a pydantic model with {key}={wanted!r}",
                'set model_config = ConfigDict(frozen=True, extra="forbid")',
            )


def _check_descriptions(family: type[Translator], place: str, model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        if not field.description:
            expected, remedy = "a description of every field", "add Field(..., description=...)"
            raise fault(family, place, f"does not describe {name!r}", expected, remedy)
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            _check_model(family, f"{place}.{name}", nested)
            _check_descriptions(family, f"{place}.{name}", nested)


def _yields_inside_with(family: type[Translator]) -> Iterator[tuple[str, int]]:
    """Yield each function of the class that yields inside ``with``, and the line in it.

    Where there is no source to read, the engine's check at run time is all there is.
    """
    for kind in family.__mro__[: family.__mro__.index(Translator)]:
        for name, function in vars(kind).items():
            if not inspect.isgeneratorfunction(function):
                continue
            try:
                source = textwrap.dedent(inspect.getsource(function))
            except (OSError, TypeError):
                continue
            for line in _lines_inside_with(ast.parse(source).body[0], inside=False):
                yield name, line


def _lines_inside_with(node: ast.AST, *, inside: bool) -> Iterator[int]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.Lambda):
            continue
        if inside and isinstance(child, ast.Yield | ast.YieldFrom):
            yield child.lineno
        yield from _lines_inside_with(child, inside=inside or isinstance(child, ast.With))


def check_stages(translator: Translator) -> None:
    """Check the names of the stages and the kind of ``fit``."""
    family, stages = type(translator), translator.stages
    names_them = isinstance(stages, tuple) and all(isinstance(name, str) for name in stages)
    if not names_them or not stages or len(set(stages)) < len(stages):
        expected, remedy = "a tuple of different names", "name each stage once"
        raise fault(family, "stages", f"is {stages!r}", expected, remedy)
    _check_fit(family, translator.fit)


def _check_fit(family: type[Translator], fit: Fit) -> None:
    if not isinstance(fit, Fit):
        expected, remedy = "an i2i.Fit", "return Fit(...)"
        raise fault(family, "fit", f"is {fit!r}", expected, remedy)
    for name in ("multiple", "scale", "smallest", "channels_in", "channels_out"):
        if getattr(fit, name) < 1:
            wrong = f"has {name} = {getattr(fit, name)}"
            raise fault(family, "fit", wrong, "a positive number", f"correct {name!r}")
    if fit.halo < 0:
        raise fault(family, "fit", f"has halo = {fit.halo}", "0 or more pixels", "correct 'halo'")


def check_exported(subject: Subject, translator: Translator) -> None:
    """Check that what is exported is there once every stage has begun."""
    modules = dict(translator.named_modules())
    for name in subject.family.exported:
        if name not in modules:
            raise fault(
                subject.family,
                "exported",
                f"names {name!r}, which is no submodule",
                f"submodules such as {', '.join(n for n, _ in translator.named_children())}",
                "name the modules that translate needs",
            )
