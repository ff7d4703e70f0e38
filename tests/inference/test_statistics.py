"""Intervals and tests against scipy's and statsmodels' values, and against simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from alexnet_cli.inference.statistics import difference_interval, mcnemar_p, wilson_interval

COUNTS = [(0, 1), (1, 1), (0, 30), (3, 10), (254, 1000), (999, 1000), (20350, 50000)]


@pytest.mark.parametrize(("wrong", "num"), COUNTS)
def test_interval_of_a_rate_is_that_of_scipy_and_statsmodels(wrong, num):
    found = wilson_interval(wrong / num, num)

    expected = binomtest(wrong, num).proportion_ci(method="wilson")
    assert found == pytest.approx((expected.low, expected.high), rel=1e-12, abs=1e-15)
    theirs = proportion_confint(wrong, num, method="wilson")
    assert found == pytest.approx(theirs, rel=1e-12, abs=1e-15)


def test_interval_of_shared_credit_lies_between_those_of_whole_images():
    low, high = wilson_interval(10.5 / 100, 100)

    below, above = wilson_interval(0.10, 100), wilson_interval(0.11, 100)
    assert below[0] < low < above[0]
    assert below[1] < high < above[1]


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (1, 0), (0, 7), (5, 5), (12, 30), (900, 1000), (2100, 1900)]
)
def test_p_of_mcnemars_exact_test_is_that_of_scipy_and_statsmodels(first, second):
    found = mcnemar_p(first, second)

    table = [[50, first], [second, 20]]
    if first + second:
        assert found == pytest.approx(binomtest(first, first + second).pvalue, rel=1e-9)
        assert found == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)
    else:
        assert found == 1.0


def test_p_that_floats_cannot_hold_is_zero():
    assert mcnemar_p(0, 5000) == 0.0


@pytest.mark.parametrize(("first", "second", "num"), [(0, 0, 20), (3, 9, 40), (25, 0, 25)])
def test_interval_of_a_difference_is_agresti_and_mins(first, second, num):
    """Written with counts, as in the paper: half an image is added to each cell of the table."""
    differences = np.array([1.0] * first + [-1.0] * second + [0.0] * (num - first - second))

    low, high = difference_interval(differences)

    b, c, total = first + 0.5, second + 0.5, num + 2
    middle = (b - c) / total
    half = 1.959963984540054 * ((b + c) - (b - c) ** 2 / total) ** 0.5 / total
    assert low == pytest.approx(max(-1, middle - half))
    assert high == pytest.approx(min(1, middle + half))


@pytest.mark.parametrize(("only_first", "only_second"), [(0.05, 0.02), (0.2, 0.2), (0.004, 0.0)])
def test_interval_of_a_difference_holds_the_true_one_about_19_times_in_20(only_first, only_second):
    rng, num, trials = np.random.default_rng(0), 400, 2000
    odds = [only_first, only_second, 1 - only_first - only_second]
    held = 0
    for a, b, _ in rng.multinomial(num, odds, trials):
        differences = np.repeat([1.0, -1.0, 0.0], [a, b, num - a - b])
        low, high = difference_interval(differences)
        held += low <= only_first - only_second <= high

    assert 0.93 < held / trials <= 1.0
