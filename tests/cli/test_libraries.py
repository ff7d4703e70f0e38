"""Warnings and logs of libraries do not reach stderr; ours and those of --debug do."""

import subprocess
import sys

import pytest

PROGRAM = """
import logging, os, sys, warnings
from alexnet_cli.cli.libraries import silence_libraries
sys.argv = ["alexnet", *sys.argv[1:]]
silence_libraries()
warnings.warn("of a library")
logging.getLogger("some.library").warning("of a log")
exec(compile("import warnings; warnings.warn('of ours')", "ours.py", "exec"),
     {"__name__": "alexnet_cli.ours"})
"""


@pytest.mark.parametrize(
    ("options", "arguments", "shown"),
    [
        ((), ("info",), {"of ours"}),
        ((), ("--debug", "info"), {"of ours", "of a library", "of a log"}),
        (("-W", "default"), ("info",), {"of ours", "of a library", "of a log"}),
    ],
)
def test_libraries_are_silent_unless_asked(options, arguments, shown):
    command = [sys.executable, *options, "-c", PROGRAM, *arguments]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert {text for text in ("of ours", "of a library", "of a log") if text in said} == shown
