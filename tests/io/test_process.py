"""Limits of processes on systems that have them, and on those that do not say."""

import resource

import pytest

from alexnet_cli.io import process


def test_limit_of_open_files_is_raised_and_halved():
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, most))
        assert process.max_open_files(10) == 50
        assert process.max_open_files(90) == 90
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 180
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes(monkeypatch, system, unit):
    monkeypatch.setattr(process.sys, "platform", system)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert process.peak_memory() == pytest.approx(peak * unit, rel=0.1)


def test_system_without_limits(monkeypatch):
    monkeypatch.setattr(process, "resource", None)
    assert process.peak_memory() is None
    assert process.max_open_files(10) == 10
    assert process.max_open_files(10**6) == process.OPEN_FILES_OF_WINDOWS
    monkeypatch.setattr(process.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert process.start_method() == "spawn"
