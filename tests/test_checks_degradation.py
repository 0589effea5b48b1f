"""Chapter 5: each check accepts right answers, however written, and names each mistake."""

import copy

import pytest
import torch
import torch.nn.functional as F
from judging import judged
from torch import nn

from resnet_lib import blocks, checks, cifar, models, signals


def parameters(depth, width, in_channels, num_classes, norm=2, bias=0, head=True, stem=True):
    total, channels = 0, in_channels
    for stage, layers in enumerate([1, *[(depth - 2) // 3] * 3]):
        out = width * 2 ** max(0, stage - 1)
        for _ in range(layers):
            if stage or stem:
                total += 9 * channels * out + (norm + bias) * out
            channels = out
    return total + head * (channels * num_classes + num_classes)


def in_one_formula(depth, width, in_channels, num_classes):
    n = (depth - 2) // 6
    convolutions = 9 * in_channels * width + 9 * width**2 * (42 * n - 10)
    return convolutions + 2 * width * (1 + 14 * n) + 4 * width * num_classes + num_classes


@pytest.mark.parametrize("case", [(8, 16, 3, 10), (20, 24, 1, 7)])
def test_the_formula_is_that_of_the_package(case):
    depth, width, in_channels, num_classes = case
    with torch.device("meta"):
        model = cifar.CifarNet(depth, False, num_classes, width, in_channels)
    assert parameters(*case) == in_one_formula(*case) == models.parameter_count(model)


def changed_by(amount):
    return lambda d, w, c, k: parameters(d, w, c, k) + amount(d, w, c, k)


def test_cifar_parameters():
    wrong = [
        (lambda *a: parameters(*a, norm=0), "the batch norms are missing"),
        (lambda *a: parameters(*a, norm=1), "two numbers a channel"),
        (lambda *a: parameters(*a, norm=4), "buffers, not parameters"),
        (lambda *a: parameters(*a, bias=1), "no bias: a batch norm follows"),
        (lambda *a: parameters(*a, head=False), "the linear layer is missing"),
        (lambda *a: parameters(*a, stem=False), "first convolution and its batch norm"),
        (changed_by(lambda d, w, c, k: -9 * c * w), "the first convolution is missing"),
        (changed_by(lambda d, w, c, k: -k), "the linear layer has a bias"),
        (changed_by(lambda d, w, c, k: 90 * w * w), "half as many channels coming in"),
        (changed_by(lambda d, w, c, k: 10 * w * w), "option A have no parameters"),
        (changed_by(lambda d, w, c, k: 10 * w * w + 12 * w), "option A have no parameters"),
        (changed_by(lambda d, w, c, k: 7), "7 too large"),
        (12, "hand in the function parameters itself"),
    ]
    judged(checks.check_cifar_parameters, right=[parameters, in_one_formula], wrong=wrong)


class Plain(nn.Module):
    """Layers in three lists, without blocks. ``fault`` names what is wrong with it."""

    def __init__(self, depth, width, in_channels, num_classes, fault=""):
        super().__init__()
        self.fault, n, channels = fault, (depth - 2) // 6 + (fault == "deep"), in_channels
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for index in range(1 + 6 * n):
            stage = max(0, index - 1) // (2 * n)
            first = stage > 0 and (index - 1) % (2 * n) == 0
            if fault == "stride in stage 1":
                first = index > 0 and (index - 1) % (2 * n) == 0
            late = stage > 0 and (index - 1) % (2 * n) == 1
            stride = 1 + (late if fault == "late stride" else first)
            out = width if fault == "narrow" else width * 2**stage
            self.convs.append(nn.Conv2d(channels, out, 3, stride, 1, bias=fault == "bias"))
            self.norms.append(nn.BatchNorm2d(out) if fault != "no norm" else nn.Identity())
            channels = out
        pixels = 4 if fault == "flat" else 1
        self.fc = nn.Linear(pixels * channels, num_classes, bias=fault != "no bias")

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return self.fc(x.flatten(1) if self.fault == "flat" else x.mean((2, 3)))


class WithoutLastReLUs(Plain):
    def forward(self, x):
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            x = x if index and index % 2 == 0 else F.relu(x)
        return self.fc(x.mean((2, 3)))


class NormAfterReLU(Plain):
    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(F.relu(conv(x)))
        return self.fc(x.mean((2, 3)))


class NormFirst(Plain):
    """Batch norm before the convolution, wherever the channels allow it."""

    def forward(self, x):
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            later = index + 1 < len(self.convs) and conv.weight.shape[:2] == norm.weight.shape * 2
            x = F.relu(conv(norm(x)) if index and later else norm(conv(x)))
        return self.fc(x.mean((2, 3)))


class Shared(Plain):
    """Uses one of its layers twice and another never."""

    def forward(self, x):
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.relu(norm(self.convs[1](x) if index == 2 else conv(x)))
        return self.fc(x.mean((2, 3)))


def faulty(fault):
    return lambda *arguments: Plain(*arguments, fault=fault)


def by_the_package(depth, width, in_channels, num_classes, residual=False):
    return cifar.CifarNet(depth, residual, num_classes, width, in_channels)


def in_sequence(depth, width, in_channels, num_classes):
    layers, channels = [], in_channels
    for index in range(depth - 1):
        n = (depth - 2) // 6
        stage = 0 if index == 0 else (index - 1) // (2 * n)
        stride = 2 if stage and (index - 1) % (2 * n) == 0 else 1
        out = width << stage
        layers += [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)]
        layers += [nn.ReLU()]
        channels = out
    pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, *pool, nn.Linear(channels, num_classes))


def test_plain_network():
    wrong = [
        (lambda *a: by_the_package(*a, residual=True), "this is the residual network"),
        (faulty("deep"), "the network of depth 8 has 13 convolutions, expected 7"),
        (faulty("no norm"), "has 0 batch norms, expected 7"),
        (faulty("bias"), "has a bias, though a batch norm follows"),
        (faulty("no bias"), "number 1 of the linear layers of depth 8 has no bias"),
        (faulty("stride in stage 1"), "number 2 of the convolutions of depth 8 has stride 2"),
        (faulty("late stride"), "has stride 1, expected 2"),
        (faulty("narrow"), "expected (8, 4, 3, 3)"),
        (faulty("flat"), "expected (3, 16)"),
        (WithoutLastReLUs, "the ReLU at the end of each block is missing"),
        (NormAfterReLU, "the output in evaluation mode differs"),
        (NormFirst, "the order should be convolution, batch norm"),
        (Shared, "does not meet every layer exactly once"),
        (lambda *a: None, "should be an nn.Module; it is None"),
        (Plain(8, 4, 1, 3), "hand in what makes the network"),
    ]
    judged(checks.check_plain_network, right=[Plain, in_sequence, by_the_package], wrong=wrong)


def deepen(model, extra=(1, 2, 4, 1), silence=True, same=False, in_front=False, copied=True):
    deep = copy.deepcopy(model) if copied else model
    for number, count in enumerate(extra, 1):
        layers = getattr(deep, f"layer{number}")
        channels = layers[-1].conv2.out_channels
        made = [blocks.BasicBlock(channels, channels) for _ in range(count)]
        for block in made[:1] * count if same else made:
            if silence:
                nn.init.zeros_(block.bn2.weight)
            layers.insert(0 if in_front else len(layers), block)
    return deep


def by_loading(model, prepare=blocks.zero_branches):
    """Another way: a whole ResNet-34 whose branches are zero, then the weights of the other."""
    deep = models.build("resnet34", **{k: v for k, v in model.spec.items() if k != "name"})
    prepare(deep)
    deep.load_state_dict(model.state_dict(), strict=False)
    return deep


def silent_convolutions(model):
    deep = deepen(model, silence=False)
    for number, count in enumerate((2, 2, 2, 2), 1):
        for block in getattr(deep, f"layer{number}")[count:]:
            nn.init.zeros_(block.conv2.weight)
    return deep


class Other(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.inner = deepen(model)
        for number in range(1, 5):
            setattr(self, f"layer{number}", getattr(self.inner, f"layer{number}"))


def sharing(model):
    deep = deepen(model)
    deep.layer1[0] = model.layer1[0]
    return deep


def trained_a_little(model):
    model(torch.zeros(2, 2, 8, 8, dtype=torch.float64))
    return deepen(model)


def test_deepen():
    wrong = [
        (lambda m: deepen(m, silence=False), "the output in evaluation mode differs"),
        (lambda m: by_loading(m, lambda deep: None), "the output in evaluation mode differs"),
        (lambda m: deepen(m, extra=(1, 2, 3, 1)), "layer3 has 5 blocks; a ResNet-34 has 6"),
        (lambda m: deepen(m, same=True), "one block stands in several places"),
        (lambda m: deepen(m, copied=False), "the ResNet-18 itself has changed"),
        (trained_a_little, "the ResNet-18 itself has changed"),
        (sharing, "the networks share layers"),
        (lambda m: Other(m), "the names of weights are not those of a ResNet-34"),
        (lambda m: None, "should be an nn.Module; it is None"),
        (models.build("resnet18", 5), "hand in the function deepen itself"),
    ]
    judged(checks.check_deepen, right=[deepen, by_loading, silent_convolutions], wrong=wrong)


def of_blocks(model):
    return [block for stage in (model.layer1, model.layer2, model.layer3) for block in stage]


def gradient_sizes(model, images, labels, mode=True, times=None, reduction="mean", copied=True):
    model = (copy.deepcopy(model) if copied else model).train(mode)
    outputs = []
    hooks = [b.register_forward_hook(lambda m, i, o: outputs.append(o)) for b in of_blocks(model)]
    loss = F.cross_entropy(model(images), labels, reduction=reduction)
    for hook in hooks:
        hook.remove()
    found = torch.autograd.grad(loss, outputs)
    times = len(images) if times is None else times
    return [gradient.square().mean().sqrt().item() * times for gradient in found]


def by_retained_gradients(model, images, labels, backwards=False, hooks_stay=False, clean=True):
    state, mode = copy.deepcopy(model.state_dict()), model.training
    outputs = []

    def keep(module, inputs, output):
        output.retain_grad()
        outputs.append(output)

    hooks = [block.register_forward_hook(keep) for block in of_blocks(model)]
    F.cross_entropy(model.train()(images), labels).backward()
    if not hooks_stay:
        for hook in hooks:
            hook.remove()
    sizes = torch.stack([output.grad.norm() / output.numel() ** 0.5 for output in outputs])
    if clean:
        model.zero_grad()
    model.load_state_dict(state)
    model.train(mode)
    return (sizes.flip(0) if backwards else sizes) * len(images)


def lengths(model, images, labels, times=1):
    sizes = torch.tensor(gradient_sizes(model, images, labels))
    counts = []
    x = model.relu(model.bn1(model.conv1(images)))
    for block in of_blocks(copy.deepcopy(model)):
        x = block(x)
        counts.append(x.numel())
    return sizes * torch.tensor(counts).sqrt() / len(images) * times


def activations(model, images, labels):
    return signals.block_signals(model, images, labels)["activation"]


def test_gradient_sizes():
    def keeps_gradients(*arguments):
        return by_retained_gradients(*arguments, clean=False)

    wrong = [
        (lambda *a: by_retained_gradients(*a, backwards=True), "the order is reversed"),
        (lambda *a: gradient_sizes(*a, times=1), "multiply by the number of images, here 6"),
        (lambda *a: gradient_sizes(*a, reduction="sum"), "the mean over the images"),
        (lambda *a: gradient_sizes(*a, mode=False), "the batch norms are in evaluation mode"),
        (lengths, "these are lengths"),
        (lambda *a: lengths(*a, times=6), "these are lengths"),
        (activations, "sizes of outputs, not of gradients"),
        (lambda *a: gradient_sizes(*a, copied=False), "the running statistics moved"),
        (keeps_gradients, "parameters keep their gradients"),
        (lambda *a: by_retained_gradients(*a, hooks_stay=True), "hooks stay on the model"),
        (lambda *a: gradient_sizes(*a)[1:], "should be 6 numbers; there are 5"),
        (lambda *a: [2 * size for size in gradient_sizes(*a)], "the list of sizes differs"),
        ([1.0], "hand in the function gradient_sizes itself"),
    ]
    right = [gradient_sizes, by_retained_gradients]
    judged(checks.check_gradient_sizes, right=right, wrong=wrong)


def paired_interval(a, b, t=2.776, ddof=1, root=5**0.5, shift=0.0):
    d = a - b
    half = t * d.std(correction=ddof) / root
    return d.mean(), d.mean() - half + shift, d.mean() + half + shift


def by_sums(a, b):
    d = [float(x) - float(y) for x, y in zip(a, b, strict=True)]
    mean = sum(d) / 5
    error = (sum((x - mean) ** 2 for x in d) / 20) ** 0.5
    return mean, mean - 2.7764451 * error, mean + 2.7764451 * error


def unpaired(a, b):
    half = 2.776 * ((a.var() + b.var()) / 5) ** 0.5
    return (a - b).mean(), (a - b).mean() - half, (a - b).mean() + half


def test_paired_interval():
    def swapped(a, b):
        mean, low, high = paired_interval(a, b)
        return mean, high, low

    wrong = [
        (lambda a, b: paired_interval(b, a), "this is b - a"),
        (lambda a, b: paired_interval(a, b, t=1.96), "belongs to the normal distribution"),
        (lambda a, b: paired_interval(a, b, t=1), "the standard error alone"),
        (lambda a, b: paired_interval(a, b, root=1), "the spread of the seeds"),
        (lambda a, b: paired_interval(a, b, root=5), "by the root of n, not by n"),
        (lambda a, b: paired_interval(a, b, ddof=0), "divides by n - 1"),
        (lambda a, b: paired_interval(a, b, t=2.571), "half the interval's width"),
        (lambda a, b: paired_interval(a, b, shift=0.1), "evenly around the mean"),
        (unpaired, "take the differences first"),
        (swapped, "low is above high"),
        (lambda a, b: (a - b).mean(), "should return 3 values"),
        (3.0, "hand in the function paired_interval itself"),
    ]
    judged(checks.check_paired_interval, right=[paired_interval, by_sums], wrong=wrong)


@torch.no_grad()
def copy_start(model, images, first=(1, 1, 1), mode=True, unbiased=False):
    x = model.relu(model.bn1(model.conv1(images)))
    for stage, start in zip((model.layer1, model.layer2, model.layer3), first, strict=True):
        for index, block in enumerate(stage):
            if index >= start:
                mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=unbiased)
                if not mode:
                    mean, variance = torch.zeros_like(mean), torch.ones_like(mean)
                for conv, bn in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
                    nn.init.dirac_(conv.weight)
                    bn.weight.copy_((variance + bn.eps).sqrt())
                    bn.bias.copy_(mean)
                    if not mode:
                        bn.reset_running_stats()
            x = block.train(mode)(x)


def by_a_copy(model, images):
    """Another way: hooks that set a block when its input arrives, on a copy that is returned."""
    model = copy.deepcopy(model)

    def prepare(block, inputs):
        x = inputs[0].detach()
        spread = ((x - x.mean((0, 2, 3), keepdim=True)) ** 2).mean((0, 2, 3))
        eye = torch.eye(x.shape[1])[:, :, None, None]
        for conv, bn in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
            conv.weight.data = F.pad(eye, (1, 1, 1, 1)).to(x)
            bn.weight.data, bn.bias.data = (spread + bn.eps) ** 0.5, x.mean((0, 2, 3))

    stages = (model.layer1, model.layer2, model.layer3)
    hooks = [b.register_forward_pre_hook(prepare) for s in stages for b in list(s)[1:]]
    model(images)
    for hook in hooks:
        hook.remove()
    return model


def test_copy_start():
    wrong = [
        (
            lambda m, x: copy_start(m, x, first=(0, 1, 1)),
            "block 1 of layer1 is the first of its stage",
        ),
        (lambda m, x: copy_start(m, x, first=(1, 2, 1)), "block 2 of layer2 is unchanged"),
        (lambda m, x: copy_start(m, x, mode=False), "copies only in evaluation mode"),
        (lambda m, x: copy_start(m, x[:16]), "the output of block 2 of layer1 differs"),
        (lambda m, x: None, "block 2 of layer1 is unchanged"),
        (None, "hand in the function copy_start itself"),
    ]
    judged(
        checks.check_copy_start,
        right=[copy_start, by_a_copy, lambda m, x: copy_start(m, x, unbiased=True)],
        wrong=wrong,
    )


@pytest.mark.parametrize("name", ["plain_network", "deepen", "gradient_sizes", "copy_start"])
def test_an_error_of_the_learner_becomes_a_verdict(name):
    def answer(*arguments):
        raise RuntimeError("oh no")

    judged(getattr(checks, f"check_{name}"), wrong=[(answer, "your code raised RuntimeError")])
