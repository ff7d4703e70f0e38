"""The version and the changelog agree."""

import re
from pathlib import Path

from alexnet_cli import __version__

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"


def test_version_is_the_newest_released_one_of_the_changelog():
    headings = re.findall(r"^## \[(.+?)\]", CHANGELOG.read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", __version__]
