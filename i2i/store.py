"""Models ready for use: shipped, or fetched or given and imported into the user's cache."""

from pathlib import Path

from i2i.downloads import Remote, Watcher, cache_folder, fetch, is_offline, sha256_of
from i2i.errors import ModelFileError, UsageError, suggest
from i2i.foreign import is_foreign
from i2i.importing import UNKNOWN_LICENCE, Asked, import_model
from i2i.plugins import Plugins
from i2i.recipe import Recipe, Weights, list_recipes, remote_of


def model_path(
    path: Path, recipe: Recipe, plugins: Plugins, watcher: Watcher | None = None
) -> Path:
    """Return the model file of the recipe at ``path``, fetched and imported the first time.

    Raises ModelFileError for a recipe without a model, DownloadError, and the errors of
    ``import_model`` where another program wrote the file.
    """
    weights = recipe.weights
    if weights is None:
        raise _without(path, "the recipe comes with no model", plugins)
    remote = remote_of(path.stem, weights.model_dump())
    if remote is None:
        file = path.parent / str(weights.file)
        if not file.is_file():
            raise _without(path, f"the recipe's model file {file} is missing", plugins)
        return file
    if weights.importer is None:
        return fetch(remote, watcher)
    return _imported(remote, recipe, weights, weights.importer, plugins, watcher)


def given(path: Path, plugins: Plugins) -> tuple[Path, tuple[str, ...]]:
    """Return the model file at ``path``, or what a checkpoint of another program there becomes.

    That lies in the cache under the hash of the checkpoint, with notes when it is made. Raises the
    errors of ``import_model``.
    """
    if not is_foreign(path):
        return path, ()
    out = cache_folder() / f"{path.stem}-{sha256_of(path)[:16]}.i2i.safetensors"
    if out.is_file():
        return out, ()
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        made = import_model(path, out, plugins, Asked())
    except UsageError as error:
        raise UsageError(
            error.wrong,
            where=error.where,
            expected=error.expected,
            remedy=f"{error.remedy}: 'i2i models import' takes it and makes a model file",
        ) from error
    imported = f"{path} is imported as {made.header.family} to {out}, licence {UNKNOWN_LICENCE}"
    return out, (imported, *made.notes)


def _imported(
    remote: Remote,
    recipe: Recipe,
    weights: Weights,
    importer: str,
    plugins: Plugins,
    watcher: Watcher | None,
) -> Path:
    """Return the model file that the fetched checkpoint became, beside it in the cache."""
    source = fetch(remote, watcher)
    out = source.with_name(f"{source.stem}.i2i.safetensors")
    if not out.is_file():
        asked = Asked(
            importer=importer,
            options=recipe.model.model_dump(mode="json", exclude_unset=True),
            licence=weights.licence or recipe.licence or UNKNOWN_LICENCE,
            translate=recipe.translate.model_dump(mode="json"),
        )
        import_model(source, out, plugins, asked)
    return out


def _without(path: Path, wrong: str, plugins: Plugins) -> ModelFileError:
    """Return the error for a recipe without a model, with one that has it."""
    listed = list_recipes(plugins)
    known = [each.name for each in listed if each.has_weights and _is_ready(each.remote)]
    train = f"train one with 'i2i train --recipe {path.stem}' and give it as --model"
    return ModelFileError(
        wrong,
        where=str(path),
        expected=f"a recipe with a model, such as {', '.join(known[:3])}" if known else "a model",
        remedy=suggest(path.stem, known, train),
    )


def _is_ready(remote: Remote | None) -> bool:
    return remote is None or remote.path.is_file() or not is_offline()
