import pytest

from alexnet_cli.doctor import checks
from alexnet_cli.doctor.checks import Check, Examination

WORKING = Check("devices", "cpu", True, "2 threads", needed=True)
OPTIONAL = Check("devices", "cuda", False, "no driver", "Install a driver.")
BROKEN = Check("images", "jpeg", False, "broken", "Reinstall it.", needed=True)


@pytest.fixture
def found(monkeypatch):
    """Make the report known; returns the list of its checks."""
    rows = [WORKING, OPTIONAL]
    monkeypatch.setattr(checks, "examine", lambda progress: Examination(rows))
    return rows


def test_report_names_what_does_not_work_and_its_remedy(found, shown):
    text = shown("doctor")
    for words in ("2 threads", "no driver", "cuda: Install a driver."):
        assert words in text


def test_remedy_of_several_is_printed_once(found, shown):
    found.append(Check("devices", "cuda:1", False, "no driver", "Install a driver."))
    assert "cuda, cuda:1: Install a driver." in shown("doctor")


def test_report_is_one_json_object(found, answer):
    result = answer("doctor")
    assert [check["name"] for check in result["checks"]] == ["cpu", "cuda"]
    assert result["missing"] == []


def test_what_every_command_needs_is_exit_4_if_it_does_not_work(found, alexnet):
    found.append(BROKEN)
    result = alexnet("doctor")
    assert result.exit_code == 4
    assert "these do not work here: jpeg." in result.stderr
    assert "Reinstall it." in result.stdout


def test_option_is_exit_4_only_if_it_is_required(found, alexnet):
    assert alexnet("doctor").exit_code == 0
    assert alexnet("doctor", "--require", "cpu").exit_code == 0
    assert alexnet("doctor", "--require", "cuda").exit_code == 4
