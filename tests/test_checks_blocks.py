"""Chapter 6: each check accepts right answers, however written, and names each mistake."""

import math
from itertools import combinations, product

import pytest
import torch
import torch.nn.functional as F
from judging import judged
from torch import nn
from torchvision.models import resnet as reference

from resnet_lib import checks, models
from resnet_lib.blocks import BasicBlock, PlainBlock


def parameters(
    c, w, stride, option, first=None, second=None, norms=2, path_norm=2, bias=0, when=None
):
    """The solution, with numbers to spoil."""
    branch = 9 * w * (first or c) + 9 * w * (second or w) + norms * 2 * w + bias * 2 * w
    changes = (when or (lambda c, w, s: s != 1 or c != w))(c, w, stride)
    projects = option == "C" or (option == "B" and changes)
    return branch + projects * (c * w + path_norm * w + bias * w)


def parameters_of_a_block(c, w, stride, option):
    return torch.tensor(models.parameter_count(BasicBlock(c, w, stride, option)))


def test_block_parameters():
    judged(
        checks.check_block_parameters,
        right=[parameters, parameters_of_a_block],
        wrong=[
            (lambda *a: parameters(*a, path_norm=0), "no batch norm after the projection: 32 par"),
            (lambda *a: parameters(*a, norms=0), "no batch norms in the branch: 64 parameters"),
            (lambda *a: parameters(*a, norms=1), "two batch norms in the branch: 32 parameters"),
            (lambda *a: parameters(*a, norms=0, path_norm=0), "no batch norms in the branch"),
            (lambda *a: parameters(*a, norms=4, path_norm=4), "running statistics are buffers"),
            (lambda *a: parameters(*a, bias=1), "have no bias"),
            (lambda *a: parameters(*a, first=a[1]), "has in_channels inputs, not width"),
            (lambda *a: parameters(*a, second=a[0]), "has width inputs, not in_channels"),
            (lambda *a: parameters(*a, when=lambda c, w, s: c != w), "a stride changes the shape"),
            (lambda *a: parameters(*a, when=lambda c, w, s: s != 1), "without a stride"),
            (lambda *a: parameters(*a[:3], "C"), "option B projects only where"),
            (lambda *a: parameters(*a[:3], a[3].replace("C", "B")), "option C projects always"),
            (lambda *a: parameters(*a[:3], a[3].replace("A", "B")), "it has no parameters"),
            (lambda *a: parameters(*a[:3], "A"), "a stride changes the shape"),
            (lambda *a: parameters(*a) + 1, "parameters(16, 16, 1, 'B') is 4,673, 1 too large"),
            (lambda *a: 4672, "a stride changes the shape"),
            (BasicBlock, "the function parameters itself"),
        ],
        seeds=[0],
    )


def compare(block_class, training=True, shape_only=False, stride=2):
    """The solution, with parts to spoil."""
    torch.manual_seed(0)
    projection = nn.Sequential(nn.Conv2d(8, 16, 1, stride, bias=False), nn.BatchNorm2d(16))
    theirs = reference.BasicBlock(8, 16, stride, projection).train(training)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    ours = block_class(8, 16, stride).train(training)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 8, 8, 8)
    if shape_only:
        assert ours(x).shape == theirs(x).shape
    else:
        torch.testing.assert_close(ours(x), theirs(x))


def by_gradient(block_class):
    """Also right: returns a bool, and compares gradients with our own block's, by position."""
    torch.manual_seed(1)
    ours, theirs = BasicBlock(4, 6, 2).double(), block_class(4, 6, 2).double()
    if len(list(ours.parameters())) != len(list(theirs.parameters())):
        return False
    x = torch.randn(5, 4, 6, 6).double().requires_grad_()
    with torch.no_grad():
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.copy_(torch.randn_like(one))
            other.copy_(one)
    seen = [torch.autograd.grad(b(x).square().sum(), x)[0] for b in (ours, theirs)]
    return torch.allclose(*seen)


def count_only(block_class):
    sizes = [models.parameter_count(b(8, 16, 2)) for b in (BasicBlock, block_class)]
    assert sizes[0] == sizes[1]


def same_name(block_class):
    assert block_class is BasicBlock


def test_block_check():
    judged(
        checks.check_block_check,
        right=[compare, by_gradient],
        wrong=[
            (lambda b: compare(b, shape_only=True), "whose last ReLU comes before the addition"),
            (count_only, "whose last ReLU comes before the addition"),
            (lambda b: compare(b, stride=1), "whose second convolution strides"),
            (lambda b: None, "accepts all four faults"),
            (lambda b: False, "rejects BasicBlock (it returns False)"),
            (same_name, "rejects a basic block that is right, and written differently"),
            (lambda: None, "rejects BasicBlock (TypeError"),
            (BasicBlock, "hand in the function check itself"),
        ],
    )


def changed(block, x, target, clone=True, wanted=lambda now, then: not torch.equal(now, then)):
    optimizer = torch.optim.SGD(block.parameters(), lr=0.01)
    found = []
    for _ in range(2):
        named = list(block.named_parameters())
        before = {name: p.clone() if clone else p for name, p in named}
        optimizer.zero_grad()
        (block(x) - target).square().sum().backward()
        optimizer.step()
        found.append({name for name, p in named if wanted(p, before[name])})
    return found


def changed_by_hand(block, x, target):
    """Also right: no optimizer, and the names are lists."""
    found = []
    for _ in range(2):
        names, tensors = zip(*block.named_parameters(), strict=True)
        gradients = torch.autograd.grad(F.l1_loss(block(x), target), tensors)
        with torch.no_grad():
            for tensor, gradient in zip(tensors, gradients, strict=True):
                tensor.sub_(0.1 * gradient)
        pairs = zip(names, gradients, strict=True)
        found.append([name for name, gradient in pairs if gradient.any()])
    return tuple(found)


ALL = ["conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias"]


def test_changed():
    judged(
        checks.check_changed,
        right=[changed, changed_by_hand],
        wrong=[
            (lambda *a: changed(*a, clone=False), "a copy (clone)"),
            (lambda *a: changed(*a, wanted=torch.equal), "*not* changed"),
            (lambda *a: [set(changed(*a)[1])] * 2, "the first step of a BasicBlock from zero: bn1"),
            (
                lambda *a: [set(changed(*a)[0])] * 2,
                "the second step of a BasicBlock from zero: bn1",
            ),
            (lambda *a: [{"bn2.weight", "bn2.bias"}, set(ALL)], "downsample"),
            (lambda *a: [{0, 1}, {0}], "is not a parameter's name"),
            (lambda *a: changed(*a)[0], "return 2 values; it returns a set"),
            (lambda *a: (3, 4), "expected a set of names, got an int"),
            ({"bn2.weight"}, "hand in the function changed"),
        ],
    )


def routes(matrices, x, order=1, skip=()):
    terms = []
    for entered in product((False, True), repeat=len(matrices)):
        term = x
        for A, enter in list(zip(matrices, entered, strict=True))[::order]:
            term = A @ term if enter else term
        if sum(entered) not in skip:
            terms.append(term)
    return terms


def routes_by_sets(matrices, x):
    """Also right: a dictionary, and products of matrices first."""
    found = {}
    for k in range(len(matrices) + 1):
        for chosen in combinations(range(len(matrices)), k):
            path = torch.eye(len(x), dtype=x.dtype)
            for index in chosen:
                path = matrices[index] @ path
            found[chosen] = path @ x
    return found


def test_routes():
    judged(
        checks.check_routes,
        right=[routes, routes_by_sets, lambda m, x: torch.stack(routes(m, x))],
        wrong=[
            (lambda m, x: routes(m, x, order=-1), "the first acts first"),
            (lambda m, x: routes(m, x, skip=[0]), "enters no block is one, too"),
            (lambda m, x: routes(m, x)[: len(m)], "in every combination"),
            (
                lambda m, x: [sum(routes(m, x)), *[0 * x] * (2 ** len(m) - 1)],
                "not the single routes",
            ),
            (lambda m, x: [2 * t for t in routes(m, x)], "don't add up"),
            (lambda m, x: [A @ t for A in m[:1] for t in routes(m, x)], "don't add up"),
            (lambda m, x: [t[:2] for t in routes(m, x)], "should have the shape of x, (4,)"),
            (lambda m, x: x.sum().item(), "expected a list of the terms, got a float"),
            (routes(torch.ones(1, 2, 2), torch.ones(2)), "hand in the function routes itself"),
        ],
    )


@pytest.fixture(scope="module")
def rows():
    """Measured with the plain stack of the exercise's solution."""
    return [one_step(PlainBlock, seed) for seed in range(5)]


def one_step(block, seed):
    torch.manual_seed(seed)
    blocks = nn.Sequential(*(block(16, 16) for _ in range(32)))
    models.initialise(blocks)
    head = nn.Linear(16, 10)
    x, labels = torch.randn(32, 16, 8, 8).relu(), torch.randint(10, (32,))
    optimizer = torch.optim.SGD([*blocks.parameters(), *head.parameters()], lr=0.1)
    first, last = blocks[0].conv1.weight, blocks[-1].conv1.weight
    size, ratios = first.norm().item(), []
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(head(blocks(x).mean((2, 3))), labels).backward()
        ratios.append((first.grad.norm() / last.grad.norm()).item())
        if len(ratios) == 1:
            optimizer.step()
    return *ratios, first.norm().item() / size


def test_one_step(rows):
    judged(
        checks.check_one_step,
        right=[rows, list(map(list, rows)), torch.tensor(rows)],
        wrong=[
            ([one_step(BasicBlock, seed) for seed in range(5)], "is no explosion"),
            ([(1 / b, 1 / a, g) for b, a, g in rows], "is not the smaller one"),
            ([(a, b, g) for b, a, g in rows], "row 1"),
            ([(b, b, g) for b, a, g in rows], "the step changes nothing"),
            ([(b, b / 5, g) for b, a, g in rows], "the ratio is smaller"),
            ([(b, a, 1 / g) for b, a, g in rows], "many times that before it"),
            ([rows[0]] * 5, "two rows are equal"),
            (rows[:3], "five rows, one for each seed; got 3"),
            ([row[:2] for row in rows], "row 1 should be 3 numbers; there are 2"),
            ([math.nan] * 5, "should be a list of numbers; it is a float"),
            ([(math.nan, 1, 2)] * 5, "is nan, not a finite number"),
        ],
        seeds=[0],
    )  # fmt: skip


def factor(seed, norm=nn.BatchNorm1d, power=1.0, depth=12, width=384):
    torch.manual_seed(seed)
    h, normalised = torch.randn(width, width), []
    for _ in range(depth):
        z = norm(width)(nn.Linear(width, width, bias=False)(h))
        z.retain_grad()
        normalised.append(z)
        h = z.relu()
    (h * torch.randn_like(h)).sum().backward()
    squares = [z.grad.square().sum().item() for z in normalised]
    return (squares[0] / squares[-1]) ** (power / (depth - 1))


def factor_from_neighbours(seed):
    """Also right: the median of the factors from layer to layer, by hooks."""
    torch.manual_seed(seed)
    layers = [nn.Sequential(nn.Linear(384, 384), nn.BatchNorm1d(384), nn.ReLU()) for _ in range(10)]
    squares = []
    for layer in layers:
        layer[1].register_full_backward_hook(lambda m, i, o: squares.append(o[0].pow(2).sum()))
    y = nn.Sequential(*layers)(torch.randn(384, 384))
    y.backward(torch.randn_like(y))
    squares = torch.stack(squares)
    return (squares[1:] / squares[:-1]).median()


def test_gradient_growth():
    judged(
        checks.check_gradient_growth,
        right=[factor, factor_from_neighbours],
        wrong=[
            (lambda seed: factor(seed, power=0.5), "this is the growth of the norm"),
            (lambda seed: factor(seed, power=2), "over two layers"),
            (lambda seed: factor(seed, power=-1), "the gradient goes back"),
            (lambda seed: math.pi / (math.pi - 1), "is it measured?"),
            (lambda seed: factor(seed, norm=nn.Identity), "the mean factor of three seeds"),
            (lambda seed: factor(seed) + 0.3, "the mean factor of three seeds is"),
            (lambda seed: None, "factor(0) should be a number; it is None"),
            (1.467, "hand in the function factor"),
        ],
        seeds=[0],
    )
