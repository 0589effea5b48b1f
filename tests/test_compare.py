import pytest
import torch
from scipy import stats

from resnet_lib import UserError, compare


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 30, 500])
@pytest.mark.parametrize("share", [0.6, 0.9, 0.975, 0.995])
def test_quantiles_equal_scipys(freedom, share):
    want = stats.t.ppf(share, freedom)
    assert compare.t_quantile(freedom, share) == pytest.approx(want, rel=2e-4)


def test_the_median_is_zero():
    assert compare.t_quantile(4, 0.5) == 0


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_interval_equals_scipys(confidence):
    values = torch.tensor([0.83, 0.84, 0.81, 0.85, 0.83])
    want = stats.ttest_1samp(values.double().numpy(), 0).confidence_interval(confidence)
    assert compare.t_interval(values, confidence) == pytest.approx(tuple(want), rel=1e-5)


def test_interval_covers_the_mean_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    draws = 3 + torch.randn(2000, 5, generator=generator, dtype=torch.float64)
    t = compare.t_quantile(4, 0.975)
    half = t * draws.std(1) / 5**0.5
    assert compare.t_interval(draws[0])[1] == pytest.approx((draws[0].mean() + half[0]).item())
    covered = ((draws.mean(1) - 3).abs() < half).double().mean().item()
    assert 0.935 < covered < 0.965


@pytest.mark.parametrize(("one", "two"), [(0, 0), (3, 0), (5, 5), (12, 3), (3, 12), (300, 240)])
def test_mcnemar_equals_the_binomial_test(one, two):
    right = torch.tensor([True] * one + [False] * two + [True] * 7 + [False] * 9)
    other = torch.tensor([False] * one + [True] * two + [True] * 7 + [False] * 9)
    a, b, p = compare.mcnemar(right, other)
    assert (a, b) == (one, two)
    want = stats.binomtest(one, one + two).pvalue if one + two else 1.0
    assert p == pytest.approx(want, rel=1e-9)


def test_mcnemar_rejects_a_true_hypothesis_no_more_often_than_it_says():
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(400, 2, 60, generator=generator) < 0.8
    small = sum(compare.mcnemar(a, b)[2] < 0.05 for a, b in draws)
    assert 0 < small <= 24


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare.t_interval(torch.tensor([1.0])), "at least two finite values"),
        (lambda: compare.t_interval(torch.tensor([1.0, float("nan")])), "at least two finite"),
        (lambda: compare.t_interval(torch.rand(4), 1.0), "confidence must be between"),
        (lambda: compare.t_quantile(0, 0.9), "freedom >= 1"),
        (lambda: compare.t_quantile(3, 1.0), "share < 1"),
        (lambda: compare.mcnemar(torch.rand(3), torch.rand(3)), "right or wrong, bool"),
        (
            lambda: compare.mcnemar(torch.ones(3).bool(), torch.ones(4).bool()),
            "for the same images",
        ),
    ],
)
def test_bad_input_gets_one_clear_line(call, message):
    with pytest.raises(UserError, match=message):
        call()
