"""The house rules, read from the source with `ast`: floors, and where a library may be used."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "alexnet_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*FILES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "tools").rglob("*.py"))]

# A module imports from its own floor or from those below it.
FLOORS = [
    ("", "errors", "metrics", "atomic", "cores", "disk", "progress", "limits", "events", "signals"),
    ("recipe",),
    ("recipes", "settings", "plot"),
    ("data", "model"),
    ("engine",),
    ("commands",),
    (
        "cli",
        "cli_data",
        "cli_training",
        "children",
        "openmp",
        "report",
        "report_bench",
        "report_training",
        "report_verify",
        "console",
        "face",
        "options",
        "options_training",
        "__main__",
    ),
]
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
FENCES = [("data", "model"), ("model", "data")]
ONLY_IN = {
    "rich": {"console.py", "report.py", "report_bench.py", "report_training.py"},
    "typer": {
        "cli.py",
        "cli_data.py",
        "cli_training.py",
        "face.py",
        "options.py",
        "options_training.py",
    },
    "click": set(),
}
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
    # The package itself is only ever imported for its version.
    return {name for name in inside if name in MODULES}


def top_part(name: str) -> str:
    return name.partition(".")[0]


def libraries(nodes) -> set[str]:
    return {top_part(name) for name in imported(nodes)}


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_only_from_its_floor_and_below(name):
    floor = FLOOR_OF[top_part(name)]
    for other in own_imports(MODULES[name]):
        assert FLOOR_OF[top_part(other)] <= floor, f"{name} imports {other}"


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


@pytest.mark.parametrize(("library", "files"), ONLY_IN.items())
def test_library_of_the_face_stays_in_its_files(library, files):
    users = {path.name for path in FILES if library in libraries(ast.walk(tree_of(path)))}
    assert users == files


FACE = [*(part for part in FLOORS[-1] if part != "__main__"), "errors", "signals", "__main__", ""]


@pytest.mark.parametrize("name", FACE)
def test_face_loads_nothing_heavy(name):
    light = {*STANDARD, "alexnet_cli", "typer", "rich"}
    assert libraries(tree_of(MODULES[name]).body) <= light
    below = {other for other in imported(tree_of(MODULES[name]).body) if "alexnet_cli." in other}
    parts = {top_part(other.removeprefix("alexnet_cli.")) for other in below}
    assert parts <= {*FLOORS[-1], "errors", "signals", "__version__"}


@pytest.mark.parametrize("name", ["recipe", *FLOORS[0][1:]])
def test_lowest_floors_need_numpy_at_most(name):
    allowed = {*STANDARD, "alexnet_cli", *(() if name == "recipe" else ("numpy",))}
    assert libraries(ast.walk(tree_of(MODULES[name]))) <= allowed


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("data")])
def test_data_loads_torch_only_where_pixels_become_tensors(name):
    assert name == "data.augment" or "torch" not in libraries(tree_of(MODULES[name]).body)


def test_source_is_ascii():
    assert [str(path) for path in SOURCES if not path.read_bytes().isascii()] == []


def test_changelog_has_a_place_for_the_next_release():
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", MODULES)
def test_no_work_or_check_is_lost_under_python_minus_o(name):
    """`python -O` leaves assertions out, so nothing may be called in them."""
    for node in ast.walk(tree_of(MODULES[name])):
        if isinstance(node, ast.Assert):
            calls = [part for part in ast.walk(node.test) if isinstance(part, ast.Call)]
            assert not calls, f"line {node.lineno} of {name} does work in an assertion"
        assert not (isinstance(node, ast.Name) and node.id == "__debug__")
