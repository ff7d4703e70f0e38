"""How OpenMP threads wait: limited by the `alexnet` command, left alone where the user set it."""

import os
import re
import subprocess
import sys

import pytest

from alexnet_cli.cli.openmp import SPIN_COUNT, WAITING_VARIABLES, limit_busy_waiting

INFO = "import sys; sys.argv = ['alexnet', 'info', 'paper']; from alexnet_cli.cli.app import main\n"


def run_python(code: str, **variables: str) -> subprocess.CompletedProcess:
    """Run code in a fresh process in which no variable of the outer one decides how to wait."""
    environment = {k: v for k, v in os.environ.items() if k not in WAITING_VARIABLES}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment | variables, capture_output=True, text=True, check=True
    )


def spin_count_of_runtime(code: str, **variables: str) -> str:
    """Return the spin count that the OpenMP runtime prints when it is loaded."""
    output = run_python(code, OMP_DISPLAY_ENV="verbose", **variables)
    found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", output.stderr)
    if not found:
        pytest.skip("torch's OpenMP runtime is not GNU's")
    return found[1]


def test_runtime_loaded_by_a_command_has_the_limited_spin_count():
    assert spin_count_of_runtime(INFO + "main()") == str(SPIN_COUNT)


@pytest.mark.parametrize(
    ("variables", "spin_count"),
    [
        ({"GOMP_SPINCOUNT": "4321"}, "4321"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "0"),
    ],
)
def test_runtime_loaded_by_a_command_has_the_spin_count_of_the_user(variables, spin_count):
    assert spin_count_of_runtime(INFO + "main()", **variables) == spin_count


@pytest.mark.parametrize("name", WAITING_VARIABLES)
def test_environment_is_left_alone_if_the_user_set_how_threads_wait(name):
    environment = {name: "1"}
    limit_busy_waiting(environment)
    assert environment == {name: "1"}


def test_importing_the_package_changes_no_environment_variable():
    code = "import os; before = dict(os.environ); import alexnet_cli.training.trainer\n"
    run_python(code + "import alexnet_cli.cli.app\nassert dict(os.environ) == before")
