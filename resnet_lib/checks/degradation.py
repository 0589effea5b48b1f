"""Checks of chapter 5, the degradation problem."""

import copy
from collections.abc import Callable, Iterable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import cifar, models, signals
from resnet_lib.blocks import BasicBlock
from resnet_lib.checks.answers import (
    Mistakes,
    function,
    kind,
    near,
    numbers,
    returned,
    same_number,
    same_tensor,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check

# As exercise 5.5 gives it: 97.5 % of Student's t with 4 degrees of freedom lie below it.
T_OF_FOUR = 2.776
MODES = ((False, "evaluation"), (True, "training"))  # this order: training moves statistics
LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)


def _of(model: nn.Module, kinds: type | tuple[type, ...]) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, kinds)]


def _blocks(model: cifar.CifarNet) -> list[nn.Module]:
    return [block for stage in (model.layer1, model.layer2, model.layer3) for block in stage]


def _shaken(model: nn.Module, draw: Draw) -> nn.Module:
    """All weights and statistics drawn anew, so that no two layers look alike; float64."""
    for module in _of(model.double(), LAYERS):
        for name, values in module.state_dict().items():
            if name in ("bias", "running_mean"):
                values.copy_(0.2 * draw.normal(*values.shape))
            elif name == "running_var" or values.ndim == 1:
                values.copy_(0.7 + 0.6 * draw.normal(*values.shape).sigmoid())
            elif name == "weight":
                values.copy_(draw.normal(*values.shape) * (2 / values[0].numel()) ** 0.5)
    return model


def _parameter_counts(n: int, w: int, c: int, k: int) -> Mistakes:
    first = 9 * c * w
    inside = 9 * w * w * (2 * n) * (1 + 4 + 16)  # as if every stage kept its channels
    widening = 9 * w * w * (2 + 8)  # what the first convolution of stages 2 and 3 has less
    norms, head = 2 * (w + 2 * n * (w + 2 * w + 4 * w)), 4 * w * k + k
    total = first + inside - widening + norms + head
    projection = w * 2 * w + 2 * w * 4 * w
    yield total, "right"
    yield total - norms, "the batch norms are missing: a scale and a shift for each channel"
    yield total - norms // 2, "a batch norm has two numbers a channel, a scale and a shift"
    yield total + norms, "running means and variances are buffers, not parameters"
    yield total + norms // 2, "the convolutions have no bias: a batch norm follows"
    yield total - k, "the linear layer has a bias"
    yield total - head, "the linear layer is missing"
    yield total - first, "the first convolution is missing"
    yield total - first - 2 * w, "the first convolution and its batch norm are missing"
    halved = "the first convolution of stages 2 and 3 has half as many channels coming in"
    yield total + widening, halved
    yield total + projection, "the shortcuts of option A have no parameters"
    yield total + projection + 2 * 6 * w, "the shortcuts of option A have no parameters"


@check
def check_cifar_parameters(parameters: Callable) -> str:
    """Exercise 5.1: parameters(depth, width, in_channels, num_classes) of a CifarNet."""
    parameters = function(parameters, "parameters(depth, width, in_channels, num_classes)")
    cases = list(product((8, 20, 56), (16, 24), (1, 3), (10, 100)))
    for depth, width, channels, classes in cases:
        right, *mistakes = _parameter_counts((depth - 2) // 6, width, channels, classes)
        what = f"parameters({depth}, {width}, {channels}, {classes})"
        found = parameters(depth, width, channels, classes)
        same_number(found, right[0], what, mistakes)
    return f"the number of parameters is right for {len(cases)} networks"


def _same_layers(mine: nn.Module, reference: nn.Module, depth: int) -> None:
    """Mismatch unless both have the same convolutions, batch norms and linear layers, in order."""
    for layer, words in zip(LAYERS, ("convolutions", "batch norms", "linear layers"), strict=True):
        found, expected = _of(mine, layer), _of(reference, layer)
        if len(found) != len(expected):
            raise Mismatch(
                f"the network of depth {depth} has {len(found)} {words}, expected {len(expected)}"
            )
        for number, (ours, theirs) in enumerate(zip(found, expected, strict=True), 1):
            what = f"number {number} of the {words} of depth {depth}"
            if (ours.bias is None) != (theirs.bias is None):
                has = "no bias" if ours.bias is None else "a bias, though a batch norm follows it"
                raise Mismatch(f"{what} has {has}")
            if ours.weight.shape != theirs.weight.shape:
                raise Mismatch(
                    f"{what} has a weight of shape {tuple(ours.weight.shape)}, "
                    f"expected {tuple(theirs.weight.shape)}"
                )
            if (strides := getattr(ours, "stride", 0)) != getattr(theirs, "stride", 0):
                raise Mismatch(
                    f"{what} has stride {strides[0]}, expected {theirs.stride[0]}: only the first "
                    "convolution of stages 2 and 3 strides"
                )


def _order(model: nn.Module, x: Tensor) -> list[nn.Module]:
    """The convolutions and batch norms in the order in which a signal meets them."""
    calls: list[nn.Module] = []
    hooks = [m.register_forward_hook(lambda m, *_: calls.append(m)) for m in _of(model, LAYERS)]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return calls


def _without_last_relus(model: cifar.CifarNet, x: Tensor) -> Tensor:
    x = model.relu(model.bn1(model.conv1(x)))
    for block in _blocks(model):
        x = block.branch(x)
    return model.fc(x.mean((2, 3)))


@check
def check_plain_network(plain_network: Callable, *, draw: Draw) -> str:
    """Exercise 5.2: plain_network(depth, width, in_channels, num_classes), names left free."""
    call = "plain_network(depth, width, in_channels, num_classes)"
    if isinstance(plain_network, nn.Module) or not callable(plain_network):
        raise Mismatch(f"hand in what makes the network, to be called as {call}")
    for depth, width, channels, classes in ((8, 4, 1, 3), (20, 4, 2, 5)):
        arguments = {"num_classes": classes, "width": width, "in_channels": channels}
        plain = _shaken(cifar.CifarNet(depth, False, **arguments), draw)
        residual = cifar.CifarNet(depth, True, **arguments).double()
        residual.load_state_dict(plain.state_dict())
        mine = plain_network(depth, width, channels, classes)
        if not isinstance(mine, nn.Module):
            raise Mismatch(f"{call} should be an nn.Module; it is {kind(mine)}")
        _same_layers(mine.double(), plain, depth)
        for layer in LAYERS:
            for ours, theirs in zip(_of(mine, layer), _of(plain, layer), strict=True):
                ours.load_state_dict(theirs.state_dict())
        x = draw.normal(6, channels, 8, 8)
        for model in (mine, plain):
            model.eval()
        met = _order(mine, x)
        if sorted(map(id, met)) != sorted(map(id, _of(mine, LAYERS))):
            raise Mismatch("a signal does not meet every layer exactly once")
        if list(map(type, met)) != list(map(type, _order(plain, x))):
            raise Mismatch("the order should be convolution, batch norm, and so on; linear at last")
        for mode, name in MODES:
            models_ = [model.train(mode) for model in (mine, plain, residual)]
            with torch.no_grad():
                found, expected, added = (model(x) for model in models_)
                mistakes = [
                    (added, "this is the residual network: a plain block does not add its input"),
                    (_without_last_relus(plain, x), "the ReLU at the end of each block is missing"),
                ]
            same_tensor(found, expected, f"the output in {name} mode", mistakes)
    return "the plain network has the right layers, strides and outputs, at two depths"


@check
def check_deepen(deepen: Callable, *, draw: Draw) -> str:
    """Exercise 5.3: deepen(resnet18) -> a ResNet-34 with the same outputs."""
    deepen = function(deepen, "deepen(model)")
    arguments = {"num_classes": 5, "width": 4, "stem": "small", "in_channels": 2}
    shallow = _shaken(models.build("resnet18", **arguments), draw)
    before = copy.deepcopy(shallow.state_dict())
    deep = deepen(shallow)
    if not isinstance(deep, nn.Module):
        raise Mismatch(f"deepen(model) should be an nn.Module; it is {kind(deep)}")
    deep.double()
    after = shallow.state_dict()
    if list(after) != list(before) or not all(torch.equal(after[n], before[n]) for n in before):
        raise Mismatch("the ResNet-18 itself has changed: work on a copy")
    wanted = {f"layer{number}": count for number, count in enumerate((3, 4, 6, 3), 1)}
    for name, count in wanted.items():
        if (found := len(getattr(deep, name, ()))) != count:
            raise Mismatch(f"{name} has {found} blocks; a ResNet-34 has {count} there")
    if len(set(map(id, _of(deep, BasicBlock)))) != 16:
        raise Mismatch("one block stands in several places, so the places would share its weights")
    if set(map(id, _of(deep, LAYERS))) & set(map(id, _of(shallow, LAYERS))):
        raise Mismatch("the networks share layers: training one would change the other")
    with torch.device("meta"):
        keys = models.build("resnet34", **arguments).state_dict()
    if odd := sorted(set(keys) ^ set(deep.state_dict())):
        raise Mismatch(f"the names of weights are not those of a ResNet-34: see {odd[0]}")
    x = draw.normal(4, 2, 16, 16)
    for mode, name in MODES:
        with torch.no_grad():
            found, expected = (model.train(mode)(x) for model in (deep, shallow))
        same_tensor(found, expected, f"the output in {name} mode")
    return "a ResNet-34 with the outputs of the ResNet-18, in both modes"


def _gradients(model: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """The mean loss's gradient by each block's output, in the mode that the model is in."""
    x, outputs = model.relu(model.bn1(model.conv1(images))), []
    for block in _blocks(model):
        x = block(x)
        outputs.append(x)
    loss = F.cross_entropy(model.fc(x.mean((2, 3))), labels)
    return list(torch.autograd.grad(loss, outputs))


def _gradient_mistakes(model: nn.Module, images: Tensor, labels: Tensor) -> Mistakes:
    count, right = len(images), signals.block_signals(model, images, labels)
    sizes = torch.tensor(right["gradient"])
    by_output = _gradients(copy.deepcopy(model).train(), images, labels)
    lengths = torch.stack([gradient.norm() for gradient in by_output])
    calm = _gradients(copy.deepcopy(model).eval(), images, labels)
    yield sizes.flip(0), "the order is reversed: the gradient meets the last block first"
    yield sizes / count, f"multiply by the number of images, here {count}"
    yield sizes * count, "the loss is the mean over the images, not their sum"
    yield torch.tensor(right["activation"]), "these are the sizes of outputs, not of gradients"
    for factor in (1, count):
        yield lengths * factor, "these are lengths; a root mean square divides by a root"
    evaluated = torch.tensor([signals.rms(gradient) * count for gradient in calm])
    yield evaluated, "the batch norms are in evaluation mode; set the model to training mode"


@check
def check_gradient_sizes(gradient_sizes: Callable, *, draw: Draw) -> str:
    """Exercise 5.4: gradient_sizes(model, images, labels) -> a number a block."""
    gradient_sizes = function(gradient_sizes, "gradient_sizes(model, images, labels)")
    for depth, residual in ((14, False), (8, True)):
        model = cifar.build(depth, residual, num_classes=3, width=4, in_channels=1)
        _shaken(model, draw).eval()
        images, labels = draw.normal(6, 1, 8, 8), draw.integers(0, 2, 6)
        before = copy.deepcopy(model.state_dict())
        right = torch.tensor(signals.block_signals(model, images, labels)["gradient"])
        mistakes = _gradient_mistakes(model, images, labels)  # computed only where needed
        answer = gradient_sizes(model, images.clone(), labels.clone())
        found = torch.tensor(numbers(answer, "gradient_sizes(…)", len(right)))
        same_tensor(found, right, "the list of sizes", mistakes, tolerance=1e-5)
        after = model.state_dict()
        if not all(torch.equal(after[name], value) for name, value in before.items()):
            raise Mismatch("the sizes are right, but the running statistics moved: use a copy")
        if any(p.grad is not None for p in model.parameters()):
            raise Mismatch("the sizes are right, but the model's parameters keep their gradients")
        if any(m._forward_hooks or m._backward_hooks for m in model.modules()):
            raise Mismatch("the sizes are right, but hooks stay on the model: remove them")
    return "the gradient has the right size at every block of two networks"


def _interval_mistakes(a: Tensor, b: Tensor) -> Iterable[tuple[float, str]]:
    error = ((a - b).std() / 5**0.5).item()
    alone = ((a.var() + b.var()) / 5).sqrt().item()
    yield 1.96 * error, "1.96 belongs to the normal distribution; five seeds need t"
    yield error, "this is the standard error alone; multiply it by t"
    yield T_OF_FOUR * error * 5**0.5, "this is the spread of the seeds; divide it by the root of n"
    yield T_OF_FOUR * error / 5**0.5, "divide by the root of n, not by n"
    yield T_OF_FOUR * error * 0.8**0.5, "the standard deviation divides by n - 1, not by n"
    yield T_OF_FOUR * alone, "take the differences first, then their standard deviation"


@check
def check_paired_interval(paired_interval: Callable, *, draw: Draw) -> str:
    """Exercise 5.5: paired_interval(a, b) -> mean, low and high of a - b for five seeds."""
    call = "paired_interval(a, b)"
    paired_interval = function(paired_interval, call)
    for _ in range(3):
        common = 5 * draw.normal(5)  # what a seed does to both runs
        a, b = common + draw.normal(5) + 3, common + draw.normal(5)
        answer = returned(paired_interval(a.clone(), b.clone()), 3, call)
        mean, low, high = numbers(list(answer), call, 3)
        center = (a - b).mean().item()
        same_number(mean, center, "the mean", [(-center, "this is b - a, not a - b")], 1e-6)
        half = T_OF_FOUR * ((a - b).std() / 5**0.5).item()
        if low > high:
            raise Mismatch("low is above high")
        mistakes = list(_interval_mistakes(a, b))
        same_number((high - low) / 2, half, "half the interval's width", mistakes, 1e-3)
        if abs((low + high) / 2 - mean) > 1e-6:
            raise Mismatch("the interval should lie evenly around the mean")
    return "mean and interval are right for three times five pairs"


@check
def check_copy_start(copy_start: Callable, *, draw: Draw) -> str:
    """Exercise 5.6: copy_start(model, images) makes all blocks but each stage's first copy."""
    copy_start = function(copy_start, "copy_start(model, images)")
    model = _shaken(cifar.build(20, False, num_classes=3, width=4, in_channels=1), draw).train()
    before = copy.deepcopy(model)
    images = draw.normal(32, 1, 8, 8)
    answer = copy_start(model, images.clone())
    model = answer if isinstance(answer, nn.Module) else model
    with torch.no_grad():
        x = model.relu(model.bn1(model.conv1(images)))
        for stage in ("layer1", "layer2", "layer3"):
            pairs = zip(getattr(model, stage), getattr(before, stage), strict=True)
            for number, (block, old) in enumerate(pairs, 1):
                calm, y, what = block.eval()(x), block.train()(x), f"block {number} of {stage}"
                if number == 1 and not near(y, old(x)):
                    raise Mismatch(f"{what} is the first of its stage and should stay as it was")
                if number > 1:
                    if near(y, old(x)):
                        raise Mismatch(f"{what} is unchanged; every block but the first copies")
                    hint = "only in evaluation mode: batch norm uses the batch in training mode"
                    mistakes = [(y, f"{what} copies {hint}")] if near(calm, x) else []
                    same_tensor(y, x, f"the output of {what}", mistakes, tolerance=1e-2)
                x = y
    return "in training mode every block but the first of its stage returns its input"
