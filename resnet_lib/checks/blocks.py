"""Checks of chapter 6, the residual block."""

import copy
import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib.blocks import BasicBlock, Bottleneck, conv1x1, conv3x3, zero_branches
from resnet_lib.checks.answers import (
    Mistakes,
    function,
    kind,
    near,
    number,
    numbers,
    returned,
    same_number,
    tensor,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check

ROUTE_LAYERS = (2, 3, 5)  # of exercise 6.4
GROWTH = math.pi / (math.pi - 1)  # of exercise 6.6


def _parameter_mistakes(c: int, w: int, stride: int, option: str) -> Mistakes:
    convolutions, norms, changes = 9 * c * w + 9 * w * w, 4 * w, stride != 1 or c != w
    projects = option == "C" or (option == "B" and changes)
    path = projects * (c * w + 2 * w)
    total = convolutions + norms + path
    yield (
        total - projects * 2 * w,
        f"no batch norm after the projection: {2 * w} parameters too few",
    )
    yield convolutions + path, f"no batch norms in the branch: {norms} parameters too few"
    yield total - 2 * w, f"there are two batch norms in the branch: {2 * w} parameters too few"
    yield total - norms // 2, "a batch norm has a scale and a shift for each channel"
    yield total - 9 * c * w + 9 * w * w, "the first convolution has in_channels inputs, not width"
    yield total - 9 * w * w + 9 * c * w, "the second convolution has width inputs, not in_channels"
    yield total + norms + projects * 2 * w, "running statistics are buffers, not parameters"
    yield total + 2 * w + projects * w, "the convolutions have no bias: a batch norm follows"
    yield total + 2 * w, "the convolutions have no bias: a batch norm follows"
    if option == "A" and changes:
        yield total + c * w + 2 * w, "option A pads with zeros: it has no parameters"
    if option == "B" and not changes:
        yield total + c * w + 2 * w, "option B projects only where the shape changes"
    if option == "C" and not changes:
        yield convolutions + norms, "option C projects always, also where the shape stays"
    if projects and c == w:
        yield convolutions + norms, "a stride changes the shape, even if the channels stay"
    if projects and stride == 1:
        yield convolutions + norms, "another number of channels changes the shape, without a stride"
    if projects:
        yield convolutions + norms, "the projection is missing"


@check
def check_block_parameters(parameters: Callable) -> str:
    """Exercise 6.1: parameters(in_channels, width, stride, option) of a basic block."""
    call = "parameters(in_channels, width, stride, option)"
    parameters = function(parameters, call)
    shapes = [(c, w) for c, w in product((16, 24, 64), (16, 24, 64)) if c <= w]
    cases = [(c, w, s, o) for o, (c, w), s in product("BCA", shapes, (1, 2))]
    for case in cases:
        c, w, stride, option = case
        changes = stride != 1 or c != w
        path = c * w + 2 * w if option == "C" or (option == "B" and changes) else 0
        expected = 9 * c * w + 9 * w * w + 4 * w + path
        what = f"parameters({c}, {w}, {stride}, {option!r})"
        same_number(parameters(*case), expected, what, _parameter_mistakes(*case))
    return f"the number of parameters is right for {len(cases)} blocks"


class _ReluBefore(BasicBlock):
    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x)) + self.downsample(x)


class _NoNorm(BasicBlock):
    def __init__(self, in_channels: int, width: int, stride: int = 1, option: str = "B"):
        super().__init__(in_channels, width, stride, option)
        if isinstance(self.downsample, nn.Sequential):
            self.downsample = nn.Sequential(conv1x1(in_channels, width, stride))


class _LateStride(BasicBlock):
    def __init__(self, in_channels: int, width: int, stride: int = 1, option: str = "B"):
        super().__init__(in_channels, width, stride, option)
        self.conv1, self.conv2 = conv3x3(in_channels, width), conv3x3(width, width, stride)


class _NoRelu(BasicBlock):
    def branch(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(x))))


class _Rewritten(BasicBlock):
    """The same block in other words."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return torch.clamp(self.downsample(x) + self.bn2(self.conv2(y)), min=0)


FAULTS = {
    _ReluBefore: "whose last ReLU comes before the addition",
    _NoNorm: "without a batch norm after its projection",
    _LateStride: "whose second convolution strides instead of the first",
    _NoRelu: "without a ReLU between its convolutions",
}


def _rejected(judge: Callable, block: type) -> str:
    """Why the learner's check rejects the block; empty where it accepts it."""
    try:
        return "it returns False" if judge(block) is False else ""
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@check
def check_block_check(check: Callable) -> str:
    """Exercise 6.2: check(block_class), which raises an error for a wrong block."""
    check = function(check, "check(block_class)")
    for block, words in (
        (BasicBlock, "BasicBlock"),
        (_Rewritten, "a basic block that is right, and written differently"),
    ):
        if reason := _rejected(check, block):
            raise Mismatch(f"your check rejects {words} ({reason})")
    missed = [words for block, words in FAULTS.items() if not _rejected(check, block)]
    if len(missed) == len(FAULTS):
        raise Mismatch("your check accepts all four faults: does it compare anything?")
    if missed:
        raise Mismatch(f"your check accepts a block {missed[0]}")
    return "your check accepts two right blocks and rejects four wrong ones"


def _changed(block: nn.Module, x: Tensor, target: Tensor) -> list[set[str]]:
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    found = []
    for _ in range(2):
        before = {name: p.detach().clone() for name, p in block.named_parameters()}
        optimizer.zero_grad()
        F.mse_loss(block(x), target).backward()
        optimizer.step()
        named = block.named_parameters()
        found.append({name for name, p in named if not torch.equal(p, before[name])})
    return found


@check
def check_changed(changed: Callable, *, draw: Draw) -> str:
    """Exercise 6.3: changed(block, x, target) -> names changed by the first, the second step."""
    call = "changed(block, x, target)"
    changed = function(changed, call)
    for kind_of_block, zero in ((BasicBlock, True), (Bottleneck, True), (BasicBlock, False)):
        block = kind_of_block(8, 8 // kind_of_block.expansion * 2, 2).double()
        if zero:
            zero_branches(block)
        x = draw.normal(6, 8, 6, 6).relu()
        target = draw.normal(*block(x).shape)
        names = {name for name, _ in block.named_parameters()}
        expected = _changed(copy.deepcopy(block), x, target)
        answer = returned(changed(copy.deepcopy(block), x.clone(), target.clone()), 2, call)
        case = f"a {kind_of_block.__name__} {'from zero' if zero else 'not started from zero'}"
        for step, found, right in zip(("first", "second"), answer, expected, strict=True):
            _same_names(found, right, names, f"the {step} step of {case}")
    return "the changed parameters of both steps are right for three blocks"


def _same_names(answer: Any, right: set[str], names: set[str], what: str) -> None:
    if not isinstance(answer, (set, frozenset, list, tuple)):
        raise Mismatch(f"{what}: expected a set of names, got {kind(answer)}")
    found = set(answer)
    if found == right:
        return
    if not found:
        raise Mismatch(
            f"{what}: nothing has changed. Are the values before the step a copy (clone), "
            "or the parameters themselves?"
        )
    if foreign := found - names:
        raise Mismatch(f"{what}: {sorted(map(str, foreign))[0]!r} is not a parameter's name")
    if found == names - right:
        raise Mismatch(f"{what}: these are the parameters that have *not* changed")
    if extra := found - right:
        raise Mismatch(f"{what}: {sorted(extra)[0]} does not change")
    raise Mismatch(f"{what}: {sorted(right - found)[0]} changes, too")


def _routes(matrices: Tensor, x: Tensor, backwards: bool = False) -> Tensor:
    terms = [x]
    for A in matrices.flip(0) if backwards else matrices:
        terms += [A @ term for term in terms]
    return torch.stack(terms)


@check
def check_routes(routes: Callable, *, draw: Draw) -> str:
    """Exercise 6.4: routes(matrices, x) -> the 2 ** L terms, in any order."""
    routes = function(routes, "routes(matrices, x)")
    for layers in ROUTE_LAYERS:
        matrices, x = draw.normal(layers, 4, 4), draw.normal(4)
        answer = routes(matrices.clone(), x.clone())
        answer = list(answer.values()) if isinstance(answer, Mapping) else answer
        if not isinstance(answer, (list, tuple, Tensor)):
            raise Mismatch(f"expected a list of the terms, got {kind(answer)}")
        expected = _routes(matrices, x)
        if len(answer) != len(expected):
            words = {
                len(expected) - 1: ": the route that enters no block is one, too",
                layers: ": blocks can be entered in every combination",
            }.get(len(answer), "")
            raise Mismatch(
                f"{layers} blocks have {len(expected)} routes, yours are {len(answer)}{words}"
            )
        found = torch.stack([tensor(term, "a term").view(-1) for term in answer])
        if found.shape != expected.shape:
            raise Mismatch(f"a term should have the shape of x, {tuple(x.shape)}")
        _same_terms(found, expected, _routes(matrices, x, backwards=True))
    return "all routes are there and right, for {}, {} and {} blocks".format(*ROUTE_LAYERS)


def _same_terms(found: Tensor, expected: Tensor, backwards: Tensor) -> None:
    def same(one: Tensor, other: Tensor) -> bool:
        distances = (one[:, None] - other[None]).abs().amax(2)
        scale = 1e-8 * expected.abs().max()
        return bool((distances.amin(0) < scale).all() and (distances.amin(1) < scale).all())

    if same(found, expected):
        return
    if same(found, backwards):
        raise Mismatch("the matrices are multiplied in the wrong order: the first acts first")
    if near(found.sum(0), expected.sum(0)):
        raise Mismatch("the terms add up to the output, but they are not the single routes")
    raise Mismatch("the terms don't add up to the output of the blocks")


@check
def check_one_step(rows: list) -> str:
    """Exercise 6.5: five rows (before, after, growth), one for each seed."""
    if not isinstance(rows, (list, tuple, Tensor)) or len(rows) != 5:
        got = len(rows) if isinstance(rows, (list, tuple, Tensor)) else kind(rows)
        raise Mismatch(f"expected five rows, one for each seed; got {got}")
    table = [numbers(row, f"row {index}", 3) for index, row in enumerate(rows, 1)]
    if len(set(map(tuple, table))) < 5:
        raise Mismatch("two rows are equal: the seed does not reach the weights or the batch")
    for index, (before, after, growth) in enumerate(table, 1):
        if before < 1:
            raise Mismatch(
                f"row {index}: before the step, the first gradient is not the smaller one"
            )
        if before < 100:
            raise Mismatch(
                f"row {index}: a ratio of {before:.0f} before the step is no explosion. Is this "
                "the plain stack of 32 blocks, in training mode, at initialisation?"
            )
        if abs(after / before - 1) < 1e-3:
            raise Mismatch(f"row {index}: the step changes nothing: is it taken in between?")
        if after > before / 10:
            raise Mismatch(f"row {index}: after one step at learning rate 0.1 the ratio is smaller")
        if growth < 3:
            raise Mismatch(
                f"row {index}: the norm of the first weights after the step is many times that "
                f"before it, not {growth:.3g} times"
            )
    return "the explosion is there before the step and gone after it, for five seeds"


@check
def check_gradient_growth(factor: Callable) -> str:
    """Exercise 6.6: factor(seed) -> growth of the squared gradient norm per layer, measured."""
    factor = function(factor, "factor(seed)")
    values = [number(factor(seed), f"factor({seed})") for seed in range(3)]
    if len(set(values)) == 1:
        raise Mismatch("the factor is the same for each seed: is it measured?")
    mean = sum(values) / len(values)
    mistakes = [
        (GROWTH**0.5, "this is the growth of the norm; square it"),
        (GROWTH**2, "this is the growth over two layers"),
        (1 / GROWTH, "this is the factor from a layer to the next; the gradient goes back"),
        (GROWTH**-0.5, "this is the factor of the norm from a layer to the next"),
        (2.0, "this is the factor without the mean of the ReLU: is batch norm in training mode?"),
        (1.0, "the gradient does not grow: is there a batch norm before each ReLU?"),
    ]
    same_number(mean, GROWTH, "the mean factor of three seeds", mistakes, tolerance=0.04)
    return f"a mean factor of {mean:.3f} over three seeds; π / (π - 1) is {GROWTH:.3f}"
