"""The rules of the layout, read from the source: layers, and where libraries are used."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "alexnet_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*FILES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "tools").rglob("*.py"))]

# A module imports from its own layer or from those below it.
LAYERS = [
    ("errors", "io"),
    ("recipes", "types"),
    ("data", "model"),
    ("onnx", "distributed"),
    ("prep", "training", "inference", "pretrained"),
    ("", "figures", "bench", "reproduce", "doctor"),
    ("cli", "commands", "__main__"),
]
LAYER_OF = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}
FENCES = [("data", "model"), ("model", "data")]
ONLY_IN = {"rich": {"cli", "commands"}, "typer": {"cli", "commands"}, "click": set()}
STANDARD = sys.stdlib_module_names


def name_of(path: Path) -> str:
    """Return the dotted name inside the package, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(nodes) -> set[str]:
    """Return the full names that some statements import; of `from a import b`, a and a.b."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the package"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def own_imports(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, at its top or inside functions."""
    names = imported(ast.walk(tree_of(path)))
    inside = {name.removeprefix("alexnet_cli.") for name in names if name.startswith("alexnet_cli")}
    # Modules import the package itself only for its version.
    return {name for name in inside if name in MODULES}


def top_part(name: str) -> str:
    return name.partition(".")[0]


def libraries(nodes) -> set[str]:
    return {top_part(name) for name in imported(nodes)}


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_only_from_its_layer_and_below(name):
    layer = LAYER_OF[top_part(name)]
    for other in own_imports(MODULES[name]):
        assert LAYER_OF[top_part(other)] <= layer, f"{name} imports {other}"


@pytest.mark.parametrize("name", MODULES)
def test_data_and_model_never_import_each_other(name):
    for other in own_imports(MODULES[name]):
        assert (top_part(name), top_part(other)) not in FENCES, f"{name} imports {other}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("commands.")])
def test_commands_never_import_each_other(name):
    others = {other for other in own_imports(MODULES[name]) if other.startswith("commands")}
    assert not others


def test_imports_form_no_circle():
    remaining = {name: own_imports(path) - {name, ""} for name, path in MODULES.items()}
    while free := [name for name, needs in remaining.items() if not needs & set(remaining)]:
        for name in free:
            del remaining[name]
    assert not remaining


@pytest.mark.parametrize(("library", "folders"), ONLY_IN.items())
def test_library_of_the_command_line_stays_in_its_folders(library, folders):
    users = {n for n, path in MODULES.items() if library in libraries(ast.walk(tree_of(path)))}
    assert {top_part(name) for name in users} <= folders


COMMAND_LINE = [name for name in MODULES if top_part(name) in LAYERS[-1]]


@pytest.mark.parametrize("name", COMMAND_LINE)
def test_command_line_loads_nothing_heavy(name):
    light = {*STANDARD, "alexnet_cli", "typer", "rich"}
    assert libraries(tree_of(MODULES[name]).body) <= light
    below = {other for other in imported(tree_of(MODULES[name]).body) if "alexnet_cli." in other}
    parts = {top_part(other.removeprefix("alexnet_cli.")) for other in below}
    assert parts <= {*LAYERS[-1], "errors", "io", "__version__"}


LOWEST = [name for name in MODULES if top_part(name) in ("errors", "io", "recipes")]


@pytest.mark.parametrize("name", LOWEST)
def test_lowest_layers_load_the_standard_library_only(name):
    allowed = {*STANDARD, "alexnet_cli", "filelock"}
    assert libraries(ast.walk(tree_of(MODULES[name]))) <= allowed


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("data")])
def test_data_loads_torch_only_where_pixels_become_tensors(name):
    is_for_tensors = name in ("data.transforms", "data.torch_dataset")
    assert is_for_tensors or "torch" not in libraries(tree_of(MODULES[name]).body)


def test_source_is_ascii():
    assert [str(path) for path in SOURCES if not path.read_bytes().isascii()] == []


BELOW = [name for name in MODULES if top_part(name) not in LAYERS[-1]]
OPTION = re.compile(r"(?<![\w-])--[a-z]")


@pytest.mark.parametrize("name", BELOW)
def test_options_are_named_by_the_command_line_only(name):
    text = MODULES[name].read_text()
    found = [line for line in text.splitlines() if OPTION.search(line)]
    assert not found, f"{name} names an option: {found[0].strip()}"


def texts_of(node: ast.AST) -> list[str]:
    """Return the literal parts of every string in an expression."""
    return [
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]


@pytest.mark.parametrize("name", MODULES)
def test_errors_are_raised_as_fields_of_one_line_each(name):
    for node in ast.walk(tree_of(MODULES[name])):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            assert not any("\n" in text for text in texts_of(node.exc)), f"line {node.lineno}"


@pytest.mark.parametrize("name", BELOW)
def test_errors_are_never_cut_apart_or_typed_again(name):
    text = MODULES[name].read_text()
    assert '.split("\\n")[' not in text
    assert not re.search(r"type\(\w*error\w*\)\(", text)


@pytest.mark.parametrize("name", MODULES)
def test_no_work_or_check_is_lost_under_python_minus_o(name):
    """`python -O` leaves assertions out, so nothing may be called in them."""
    for node in ast.walk(tree_of(MODULES[name])):
        if isinstance(node, ast.Assert):
            calls = [part for part in ast.walk(node.test) if isinstance(part, ast.Call)]
            assert not calls, f"line {node.lineno} of {name} does work in an assertion"
        assert not (isinstance(node, ast.Name) and node.id == "__debug__")
