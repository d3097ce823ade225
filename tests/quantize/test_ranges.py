"""Ranges: every method means what its name says, whatever the batches."""

import numpy as np
import pytest

from hwgen.errors import QuantizationError
from hwgen.quantize.options import QuantizeOptions, RangeMethod
from hwgen.quantize.ranges import BINS, Observer, choose_range

MINMAX, PERCENTILE, MSE = (QuantizeOptions(ranges=method) for method in (RangeMethod.MINMAX, RangeMethod.PERCENTILE, RangeMethod.MSE))


def observed(x, pieces=1):
    observer = Observer("v")
    for piece in np.array_split(np.asarray(x, np.float32), pieces):
        observer.add(piece)
    return observer


def test_minmax_includes_zero():
    assert choose_range(observed([1.0, 3.0]), MINMAX) == (0.0, 3.0)
    assert choose_range(observed([-2.0, -1.0]), MINMAX) == (-2.0, 0.0)


def test_percentile_is_that_of_the_data_and_not_minmax():
    x = np.random.default_rng(0).normal(size=200_000)
    low, high = choose_range(observed(x), QuantizeOptions(ranges=RangeMethod.PERCENTILE, percentile=99.0))
    expected = np.percentile(x, [0.5, 99.5])
    np.testing.assert_allclose([low, high], expected, atol=2 * 8 / BINS + 1e-3)
    assert choose_range(observed(x), QuantizeOptions(ranges=RangeMethod.PERCENTILE, percentile=100)) == choose_range(observed(x), MINMAX)


def test_mse_beats_minmax_on_heavy_tails_and_keeps_uniform_data():
    rng = np.random.default_rng(1)
    tailed = rng.standard_t(2, size=50_000)
    low, high = choose_range(observed(tailed), MSE)
    assert 0 > low > tailed.min() and 0 < high < tailed.max()

    def error(a, b):
        scale = (b - a) / 255
        return float(((np.rint(np.clip(tailed, a, b) / scale) * scale - tailed) ** 2).mean())

    assert error(low, high) < 0.9 * error(tailed.min(), tailed.max())
    uniform = rng.uniform(0, 1, 50_000)
    assert choose_range(observed(uniform), MSE)[1] > 0.97


@pytest.mark.parametrize("method", [MINMAX, PERCENTILE, MSE])
def test_ragged_batches_give_the_same_range(method):
    x = np.random.default_rng(2).normal(size=10_007) * np.linspace(0.001, 40, 10_007)
    assert choose_range(observed(x), method) == choose_range(observed(x, 7), method) == choose_range(observed(x[::-1], 3), method)


@pytest.mark.parametrize("method", [MINMAX, PERCENTILE, MSE])
@pytest.mark.parametrize("x", [[], [0.0, 0.0], [1e-38, 0.0], [3e38, -3e38], [5.0], [-1e-20]])
def test_extreme_data_have_a_finite_range_around_zero(method, x):
    low, high = choose_range(observed(x), method)
    assert np.isfinite([low, high]).all() and low <= 0 <= high


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_value(bad):
    with pytest.raises(QuantizationError, match=r"value 'v': calibration must give finite values, not .* \.\. .*; check the inputs and the weights"):
        observed([1.0, bad])
