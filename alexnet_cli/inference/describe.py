"""`alexnet info`: what a recipe, checkpoint, ONNX model or dataset is (paper section 3.5)."""

from dataclasses import asdict, dataclass
from pathlib import Path

from alexnet_cli.data.pixel_stats import FILE_NAME
from alexnet_cli.data.remote.cache import open_files
from alexnet_cli.data.remote.files import check_url, is_url
from alexnet_cli.data.shards.index import Index, read_index
from alexnet_cli.errors import UsageError, did_you_mean
from alexnet_cli.model.architecture import RGB, layers_of
from alexnet_cli.model.checkpoint import read_header
from alexnet_cli.pretrained.names import is_onnx
from alexnet_cli.recipes.catalog import NAMED_RECIPES, RECIPES, find_recipe, is_recipe_file
from alexnet_cli.recipes.overrides import with_settings
from alexnet_cli.recipes.recipe import Recipe

PAPER_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """A network, and its origin.

    Attributes:
        kind: "recipe", "checkpoint" or "onnx".
        input: channels, rows and columns of the crop that the network reads.
        layers: name, output shape and number of parameters of each layer.
        about: origin and errors of a checkpoint or model.
    """

    kind: str
    name: str
    recipe: str
    classes: int
    input: tuple[int, int, int]
    parameters: int
    layers: list[dict]
    about: dict


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A prepared dataset: counts by split, and how it was made."""

    kind: str
    name: str
    classes: int
    splits: dict[str, dict[str, int]]
    about: dict


def info(
    thing: str, *, settings: list[str] | None = None, num_classes: int = PAPER_CLASSES
) -> NetworkInfo | DatasetInfo:
    """Describe a recipe, a dataset folder or URL, a checkpoint or its run folder, or an ONNX model.

    Args:
        settings: changes of the fields of a recipe.
        num_classes: of the network of a recipe.

    Raises:
        UsageError: if `thing` is nothing of the kind, or settings are given for a file.
        InputError: if the file or folder is damaged.
        MachineError: if the URL cannot be reached.
    """
    path = Path(thing)
    if thing in RECIPES or (is_recipe_file(thing) and path.is_file()):
        recipe = with_settings(find_recipe(thing), settings or [])
        return _describe("recipe", thing, recipe, num_classes, {})
    if settings:
        raise UsageError(f"{thing} is not a recipe, so no field of it can be set.")
    if (path / "best.safetensors").is_file():
        return _describe_checkpoint(path)
    if path.is_dir():
        return _describe_dataset(thing, path, read_index(path))
    if is_url(thing):
        files = open_files(check_url(thing))
        files.fetch_stats()
        return _describe_dataset(thing, files.folder, files.index)
    if not path.is_file():
        raise UsageError(
            f"{thing}: no such file, folder or recipe.",
            hint=did_you_mean(thing, RECIPES, "alexnet recipes lists the recipes."),
        )
    return _describe_onnx(path) if is_onnx(path) else _describe_checkpoint(path)


def published_results(model: Path) -> list[dict]:
    """Return what was published of imported weights, errors as fractions; none of trained ones.

    Raises:
        CheckpointError: if the file is neither a checkpoint nor an exported model.
    """
    if is_onnx(model):
        from alexnet_cli.onnx.model_file import open_onnx_file

        exported = open_onnx_file(model).info
        recipe, num_classes = exported.recipe.name, len(exported.classes)
        is_imported = "init_from_file" in exported.origin
    else:
        header = read_header(model)
        recipe, num_classes = header["recipe"]["name"], len(header["classes"])
        is_imported = "file" in header["init_from"]
    if not is_imported or num_classes != PAPER_CLASSES or recipe not in NAMED_RECIPES:
        return []
    return [asdict(result.as_fractions()) for result in NAMED_RECIPES[recipe].published]


def _describe(kind: str, name: str, recipe: Recipe, num_classes: int, about: dict) -> NetworkInfo:
    layers = layers_of(recipe, num_classes)
    rows = [
        {"name": layer.name, "output": layer.output, "parameters": layer.num_parameters}
        for layer in layers
    ]
    parameters = sum(layer.num_parameters for layer in layers)
    size = (RGB, recipe.crop_size, recipe.crop_size)
    return NetworkInfo(kind, name, recipe.name, num_classes, size, parameters, rows, about)


def _describe_checkpoint(path: Path) -> NetworkInfo:
    from alexnet_cli.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    about = {**checkpoint.origin(), "best": checkpoint.train_state.best}
    return _describe("checkpoint", str(path), checkpoint.recipe, len(checkpoint.classes), about)


def _describe_onnx(path: Path) -> NetworkInfo:
    from alexnet_cli.onnx.model_file import open_onnx_file

    model = open_onnx_file(path).info
    about = {**model.origin, "views": model.views, "image_size": model.image_size}
    return _describe("onnx", str(path), model.recipe, len(model.classes), about)


def _describe_dataset(name: str, path: Path, index: Index) -> DatasetInfo:
    splits = {
        name: {**split.counts(), "bytes": sum(shard.num_bytes for shard in split.shards)}
        for name, split in index.splits.items()
    }
    about = {**index.options, **index.source, "tool": index.tool}
    about |= {"dataset": index.fingerprint(), "pixel_stats": (path / FILE_NAME).is_file()}
    return DatasetInfo("dataset", name, len(index.classes), splits, about)
