"""Chapter 1: each check accepts right answers, however written, and names each mistake."""

import copy

import torch
from judging import judged
from torch import nn

from resnet_lib import checks


def named_layers(blocks, convolutions_per_block):
    return 1 + convolutions_per_block * sum(blocks) + 1


def layers_by_loop(blocks, convolutions_per_block):
    count = 2
    for depth in blocks:
        for _ in range(depth):
            count += convolutions_per_block
    return torch.tensor(count)


def test_named_layers():
    judged(
        checks.check_named_layers,
        right=[named_layers, layers_by_loop],
        wrong=[
            (lambda b, c: c * sum(b), "resnet18: the first convolution and the linear layer"),
            (lambda b, c: c * sum(b) + 1, "one layer is missing"),
            (lambda b, c: c * sum(b) + 2 + len(b), "a projection runs beside"),
            (lambda b, c: 3 * sum(b) + 2, "convolutions_per_block is given"),
            (lambda b, c: 2 * sum(b) + 2, "resnet50: convolutions_per_block is given"),
            (lambda b, c: c * len(b) + 2, "a stage has several blocks"),
            (lambda b, c: 50, "resnet18 is 50, 32 too large"),
            (lambda b, c: str(c), "should be a number; it is a str"),
            (50, "hand in the function named_layers"),
        ],
    )


RULES = {"coin": 0.5, "shares": 0.9608, "healthy": 0.98}


def test_blind_rules():
    judged(
        checks.check_blind_rules,
        right=[RULES, RULES | {"shares": torch.tensor(0.9608, dtype=torch.float64)}],
        wrong=[
            (RULES | {"coin": 0.02}, "half of the ill"),
            (RULES | {"shares": 0.98}, "mostly wrong"),
            (RULES | {"shares": 0.9604}, "the ill whom it happens to name"),
            (RULES | {"shares": 0.5}, "that is the accuracy of the coin"),
            (RULES | {"healthy": 1.0}, "wrong for the 20"),
            (RULES | {"healthy": 98}, "not in percent"),
            (RULES | {"coin": 0.6}, "the accuracy of 'coin' is 0.6, 0.1 too large"),
            ({"coin": 0.5}, "has no entry 'shares'"),
            ([0.5, 0.9608, 0.98], "should be a dictionary"),
        ],
        seeds=[0],
    )


def copying(channels, relu=True, padding=1, spoil=0.0, bias=True):
    conv = nn.Conv2d(channels, channels, 3, padding=padding)
    nn.init.dirac_(conv.weight)
    if bias:
        nn.init.zeros_(conv.bias)
    with torch.no_grad():
        conv.weight.add_(spoil)
    return [conv, nn.ReLU()] if relu else [conv]


def append_copies(shallow, count, **options):
    channels = shallow[-2].out_channels
    return nn.Sequential(*shallow, *(m for _ in range(count) for m in copying(channels, **options)))


class Stacked(nn.Module):
    """Also right: a module of its own, with weights set by index and a copy of the shallow net."""

    def __init__(self, shallow, count):
        super().__init__()
        channels = shallow(torch.zeros(1, 3, 8, 8).double()).shape[1]
        self.first = copy.deepcopy(shallow)
        self.more = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False) for _ in range(count)
        )
        for conv in self.more:
            conv.weight.data.zero_()
            conv.weight.data[range(channels), range(channels), 1, 1] = 1

    def forward(self, x):
        x = self.first(x)
        for conv in self.more:
            x = torch.relu(conv(x))
        return x


def in_front(shallow, count):
    return nn.Sequential(*(m for _ in range(count) for m in copying(3)), *shallow)


def changing(shallow, count):
    deep = append_copies(shallow, count)
    shallow[0].weight.data.mul_(2)
    return deep


def test_append_copies():
    judged(
        checks.check_append_copies,
        right=[
            append_copies,
            lambda s, n: Stacked(s, n),
            lambda s, n: append_copies(s, n, relu=False),
        ],
        wrong=[
            (in_front, "the copies come first"),
            (lambda s, n: append_copies(s, n, bias=False), "does each new layer copy"),
            (lambda s, n: append_copies(s, n, padding=0), "needs a padding of 1"),
            (lambda s, n: append_copies(s, n, spoil=1e-9), "nearly, but not exactly"),
            (lambda s, n: append_copies(s, n, spoil=0.1), "does each new layer copy its input?"),
            (lambda s, n: append_copies(s, n - 1), "has 7 convolutions, expected 8"),
            (lambda s, n: s, "has 3 convolutions, expected 8"),
            (changing, "the shallow network itself has changed"),
            (lambda s, n: s(torch.zeros(1, 3, 8, 8).double()), "it returns a Tensor"),
            (nn.Sequential(), "hand in the function append_copies"),
        ],
    )


ACCURACIES = [0.102, 0.1, 0.086, 0.128, 0.1, 0.158, 0.09, 0.104, 0.052, 0.1]


def test_untrained():
    judged(
        checks.check_untrained,
        right=[ACCURACIES, torch.tensor(ACCURACIES)],
        wrong=[
            ([100 * a for a in ACCURACIES], "not in percent"),
            ([0.1] * 10, "does the seed come before"),
            ([a + 0.0007 for a in ACCURACIES], "a multiple of 1/500"),
            ([0.5 + a for a in ACCURACIES], "the chance level 0.1 is outside"),
            ([0.1, *(0.2 + a for a in ACCURACIES[1:])], "too far from the chance level"),
            (ACCURACIES[:5], "should be 10 numbers; there are 5"),
            ([-0.1, *ACCURACIES[1:]], "is not negative"),
            ({"mean": 0.1}, "should be a list of numbers; it is a dict"),
        ],
        seeds=[0],
    )  # fmt: skip


def diagnose(shallow, deep, margin=0.005, train_first=True, names=("degradation", "over-fitting")):
    (train, test), other = (d - s for s, d in zip(shallow, deep, strict=True)), "no difference"
    first, second = (train, names[0]), (test, names[1])
    for change, name in (first, second) if train_first else (second, first):
        if change > margin:
            return name
    return "better" if test < -margin else other


def diagnose_by_ratio(shallow, deep):
    """Also right: margins relative to the shallow network's errors."""
    if deep[0] / shallow[0] > 1.05:
        return "degradation"
    ratio = deep[1] / shallow[1]
    if ratio > 1.02:
        return "over-fitting"
    return "better" if ratio < 0.98 else "I can't tell"


def test_diagnose():
    judged(
        checks.check_diagnose,
        right=[diagnose, diagnose_by_ratio],
        wrong=[
            (lambda s, d: diagnose(s, d, train_first=False), "the pattern of He et al."),
            (lambda s, d: diagnose(s[::-1], d[::-1]), "is not right"),
            (lambda s, d: diagnose(d, s), "is not right"),
            (lambda s, d: diagnose((9, s[1]), (0, d[1])), "the training error rises"),
            (lambda s, d: diagnose(s, d, names=("over-fitting", "degradation")), "is not right"),
            (lambda s, d: diagnose(s, d, margin=-1e-9), "two equal networks are diagnosed as"),
            (lambda s, d: "degradation", "both errors fall: 'degradation' is not right"),
            (lambda s, d: None, "should return a text; it returns None"),
            ("better", "hand in the function diagnose"),
        ],
    )
