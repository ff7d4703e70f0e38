"""Which columns of a parquet file are the image and the label: by schema, name or type."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet_cli.errors import SourceError, UsageError, hint, on_one_line

BINARY = ("binary", "large_binary", "binary_view")
TEXT = ("string", "large_string", "string_view")
IMAGE_NAMES = ("image", "img")
LABEL_NAMES = (
    *("label", "labels", "fine_label", "coarse_label", "class", "class_id", "class_label"),
    *("class_name", "label_id", "label_name", "category", "target", "cls", "y"),
    *("breed", "species", "wnid", "synset"),
)
NO_LABELS = ("id", "idx", "index", "image_id", "width", "height", "size", "__index_level_0__")
FORM = "image=NAME,label=NAME"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file.

    Attributes:
        label: "" if there is none, as in a test set.
        leaves: the columns that are read, as parquet names them: the bytes of the image first.
        path: the column of the images' names, as parquet names it, if there is one.
        notes: for people, if the columns have other names than the usual ones.
    """

    image: str
    label: str
    leaves: list[str]
    path: str | None
    has_text_labels: bool
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"columns {self.image} and {self.label}"


def find_columns(path: Path, schema: Any, wanted: str | None, *, needs_label: bool) -> Columns:
    """Return the columns of image and label.

    They are those that the user names; else `image` and `label`; else those that the schema's
    metadata or types say, if there is one of each.

    Args:
        schema: the Arrow schema.
        wanted: "image=NAME,label=NAME"; None if the user names none.
        needs_label: whether a file without labels is refused.

    Raises:
        SourceError: if there are none or several, or a column is of another type.
        UsageError: if `wanted` has another form.
    """
    names = _parse(wanted)
    features = _features(schema)
    image = names.get("image") or _choose(path, schema, "image", _images(schema, features))
    found = _labels(schema, features)
    label = names.get("label") or _choose(
        path, schema, "label", found, needed=needs_label, image=image
    )
    for name in filter(None, (image, label)):
        if (count := len(schema.get_all_field_indices(name))) != 1:
            many = f"{count} columns are named {name}" if count else f"no column {name}"
            raise SourceError(f"{path}: {many}; it has {_described(schema)}.")
    kind = schema.field(image).type
    parts = {part.name: str(part.type) for part in _parts(kind)}
    if str(kind) not in BINARY and parts.get("bytes") not in BINARY:
        raise SourceError(
            f"{path}: column {image} is {_kind(kind)}, not the bytes of an image file.",
            hint=hint("name_columns", image="NAME", label=label or "NAME"),
        )
    leaves = [image if str(kind) in BINARY else f"{image}.bytes"]
    kind_of_path = parts.get("path", "null")  # null if no row has one
    if kind_of_path not in (*TEXT, "null"):
        raise SourceError(f"{path}: {image}.path is {kind_of_path}, not a text.")
    path_leaf = f"{image}.path" if kind_of_path in TEXT else None
    leaves += [leaf for leaf in (path_leaf, label) if leaf]
    has_text_labels = False
    if label:
        kind = schema.field(label).type
        has_text_labels = _is_text(kind)
        if not has_text_labels and not _is_whole(kind):
            raise SourceError(
                f"{path}: column {label} is {_kind(kind)}, not a whole number or a text.",
                hint=hint("name_columns", image=image, label="NAME"),
            )
    is_usual = label in ("", "label") and image == "image"
    notes = () if is_usual else (f"images are in the column {image}, labels in {label}",)
    return Columns(image, label, leaves, path_leaf, has_text_labels, notes)


def class_names(schema: Any, label: str) -> list[str] | None:
    """Return the class names that Hugging Face's datasets library puts into a schema."""
    names = _features(schema).get(label, {}).get("names")
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if listed and names else None


def _parse(wanted: str | None) -> dict[str, str]:
    pairs = [part.partition("=") for part in (wanted or "").split(",") if part]
    names = {key.strip(): name.strip() for key, _, name in pairs}
    if not names.keys() <= {"image", "label"} or not all(names.values()):
        raise UsageError(f"columns {wanted!r}: not {FORM}.")
    return names


def _features(schema: Any) -> dict[str, dict]:
    """Return what Hugging Face's metadata says of each column; nothing without it."""
    try:
        found = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    except (TypeError, KeyError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: about for name, about in found.items() if isinstance(about, dict)}


def _images(schema: Any, features: dict[str, dict]) -> list[str]:
    """Return the columns that may be the images, only the usual one if it is there."""
    found = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    found = found or [f.name for f in schema if _holds_bytes(f.type)]
    return next(([name] for name in IMAGE_NAMES if name in found), list(dict.fromkeys(found)))


def _labels(schema: Any, features: dict[str, dict]) -> list[str]:
    """Return the columns that may be the labels, whatever their types."""
    names = dict.fromkeys(schema.names)
    found = [n for n in names if features.get(n, {}).get("_type") == "ClassLabel" or n == "label"]
    found = found or [name for name in names if name.lower() in LABEL_NAMES]
    whole = (field.name for field in schema if _is_whole(field.type))
    return found or [name for name in whole if name.lower() not in NO_LABELS]


def _choose(
    path: Path, schema: Any, what: str, found: list[str], *, needed: bool = True, image: str = ""
) -> str:
    """Return the only column, or the one with the usual name; "" if there is none."""
    if what in found or (what in schema.names and not found):
        return what
    if len(found) == 1 or not (found or needed):
        return "".join(found)
    several = f"{len(found)} columns may be the {what}: {', '.join(found)}"
    example = (*found, "NAME")[0]
    raise SourceError(
        f"{path}: {several if found else f'no column is known as the {what}'}; "
        f"it has {_described(schema)}.",
        hint=hint("name_columns", image=image or example, label=example if image else "NAME"),
    )


def _parts(kind: Any) -> list:
    """Return the fields of a struct, none of any other type."""
    is_struct = str(kind).startswith("struct<")
    return [kind.field(i) for i in range(kind.num_fields)] if is_struct else []


def _holds_bytes(kind: Any) -> bool:
    return str(kind) in BINARY or any(
        part.name == "bytes" and str(part.type) in BINARY for part in _parts(kind)
    )


def _is_whole(kind: Any) -> bool:
    return str(kind).startswith(("int", "uint"))


def _is_text(kind: Any) -> bool:
    is_dictionary = str(kind).startswith("dictionary<")
    return str(kind.value_type if is_dictionary else kind) in TEXT


def _kind(kind: Any) -> str:
    return on_one_line(str(kind))[:60]


def _described(schema: Any) -> str:
    """Return the columns with their types."""
    return on_one_line(", ".join(f"{f.name} ({_kind(f.type)})" for f in schema))[:300]
