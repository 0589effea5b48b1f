"""Chapter 7, costs: right numbers pass, and each mistake is named."""

import torch
from judging import judged
from torch import nn

from resnet_lib import checks, models
from resnet_lib.blocks import Bottleneck, shortcut

STAGE3 = {"convolutions": 1_114_112, "batch norms": 3_072, "multiply-adds": 218_365_952}


def test_stage3_block():
    w = 256
    judged(
        checks.check_stage3_block,
        right=[STAGE3, {name: torch.tensor(value) for name, value in STAGE3.items()}],
        wrong=[
            (STAGE3 | {"convolutions": 33 * w * w}, "has no projection"),
            (STAGE3 | {"convolutions": 9 * w * w}, "both 1×1 convolutions"),
            (STAGE3 | {"convolutions": 13 * w * w}, "one of the two 1×1 convolutions"),
            (STAGE3 | {"convolutions": 17 * w * w + 3072}, "asked for on their own"),
            (STAGE3 | {"batch norms": 6 * w}, "a scale and a shift"),
            (STAGE3 | {"batch norms": 24 * w}, "are buffers"),
            (STAGE3 | {"batch norms": 4 * w}, "there are three batch norms"),
            (STAGE3 | {"multiply-adds": 2 * 218_365_952}, "twice too many"),
            (STAGE3 | {"multiply-adds": 1_114_112 * 14}, "14 × 14 positions"),
            (STAGE3 | {"multiply-adds": 218_000_000}, "is 218,000,000, 365,952 too small"),
            ({}, "has no entry 'convolutions'"),
            ([1, 2, 3], "should be a dictionary; it is a list"),
        ],
    )


def test_projection_factors():
    judged(
        checks.check_projection_factors,
        right=[
            (33 / 17, 19 / 18),
            (1.9412, 1.0556),
            (torch.tensor(33 / 17), torch.tensor(19 / 18)),
        ],
        wrong=[
            ((19 / 18, 33 / 17), "the larger one, and comes first"),
            ((17 / 33, 18 / 36), "turn it round"),
            ((33 / 17, 18 / 19), "turn it round"),
            ((16 / 17, 1 / 18), "the share that the bottleneck gains"),
            ((21 / 17, 19 / 18), "from all 4w channels"),
            ((33 / 17, 27 / 18), "a 1×1 convolution"),
            ((2.0, 19 / 18), "the factor of the bottleneck is 2, 0.05882 too large"),
            (("33/17", 19 / 18), "should be a number; it is a str"),
        ],
    )


def parts(name, first=True, factor=1, size=224):
    """Right, by hooks; the projections may go to the wrong part."""
    with torch.device("meta"):
        model, image = models.build(name).eval(), torch.empty(1, 3, size, size)
    found = dict.fromkeys(("stem", "first blocks", "other blocks", "linear"), 0)
    for path, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            part = {"conv1": "stem", "fc": "linear"}.get(path)
            in_first = (
                ".0." in path.partition("layer")[2] and "." in path and path.split(".")[1] == "0"
            )
            if not first and "downsample" in path:
                in_first = False
            part = part or ("first blocks" if in_first else "other blocks")

            def note(layer, inputs, output, part=part):
                found[part] += factor * layer.weight.numel() * output.shape[2:].numel()

            module.register_forward_hook(note)
    model(image)
    return found


def parts_by_stage(name):
    """Also right: counts modules by torch's counter, and the stem is what remains."""
    with torch.device("meta"):
        model = models.build(name)
    found, size, channels = {"first blocks": 0, "other blocks": 0}, 56, 64
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        for index, block in enumerate(stage):
            part = "other blocks" if index else "first blocks"
            found[part] += models.multiply_adds(block, size, channels)
            last = [m for m in block.branch.__self__.modules() if isinstance(m, nn.BatchNorm2d)][-1]
            channels, size = (
                last.num_features,
                size // block.conv2.stride[0] // block.conv1.stride[0],
            )
    found["linear"] = model.fc.weight.numel()
    found["stem"] = models.multiply_adds(model, 224) - sum(found.values())
    return found


def test_parts():
    judged(
        checks.check_parts,
        right=[parts, parts_by_stage],
        wrong=[
            (lambda name: parts(name, factor=2), "twice too many"),
            (lambda name: parts(name, first=False), "the projections are part of the first blocks"),
            (lambda name: parts(name, size=192), "resnet34: 'stem' is"),
            (lambda name: parts("resnet34"), "resnet50: 'first blocks' is"),
            (lambda name: parts(name) | {"total": 1}, "'total' is a part too many"),
            (lambda name: {"stem": 1}, "has no entry 'first blocks'"),
            (lambda name: parts(name).values(), "should be a dictionary"),
            (parts("resnet18"), "hand in the function parts itself"),
        ],
        seeds=[0],
    )


def pairs(width, stride_in="1x1", copy=True):
    wide = 4 * width
    usual = nn.Sequential(
        Bottleneck(wide, width), Bottleneck(wide, 2 * width, stride=2, stride_in=stride_in)
    )
    cheap = nn.Sequential(Bottleneck(wide, width, stride=2), Bottleneck(wide, 2 * width))
    cheap[0].downsample = shortcut(wide, wide, stride=2, option="A")
    if copy:
        cheap.load_state_dict(usual.state_dict(), strict=True)
    return usual, cheap


class Late(Bottleneck):
    """Only its last convolution leaves positions out."""

    def __init__(self, in_channels, width):
        super().__init__(in_channels, width)
        self.conv3.stride = (2, 2)
        self.downsample = shortcut(in_channels, in_channels, 2, option="A")


def late_pairs(width):
    usual, cheap = pairs(width)
    return usual, nn.Sequential(Late(4 * width, width), cheap[1])


def early_pairs(width):
    usual, cheap = pairs(width)
    cheap[0].conv1.stride, cheap[0].conv2.stride = (2, 2), (1, 1)
    return usual, cheap


class Odd(nn.Module):
    def forward(self, x):
        return x[:, :, 1::2, 1::2]


def shifted_pairs(width):
    usual, cheap = pairs(width)
    cheap[0].downsample = Odd()
    return usual, cheap


class Tuned(nn.Module):
    """Also right: another class, with the usual block's modules and every second position."""

    def __init__(self, usual):
        super().__init__()
        for name, module in usual.named_children():
            setattr(self, name, module)

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = nn.functional.conv2d(y, self.conv2.weight, stride=2, padding=1)
        y = self.bn3(self.conv3(self.bn2(y).relu()))
        return (y + x[:, :, ::2, ::2]).relu()


def tuned_pairs(width):
    usual, cheap = pairs(width)
    return usual, nn.Sequential(Tuned(cheap[0]), cheap[1])


with torch.device("meta"):
    V1 = models.resnet50(stride_in="1x1")
SHARE = 39 * 64**2 * 56**2 * 3 / 4 / models.multiply_adds(V1, 224)


def test_computed_in_vain():
    judged(
        checks.check_computed_in_vain,
        right=[
            (pairs, SHARE),
            (tuned_pairs, round(SHARE, 3)),
            (lambda w: pairs(w, copy=False), SHARE),
        ],
        wrong=[
            ((lambda w: pairs(w)[:1] * 2, SHARE), "costs as much as the first"),
            ((late_pairs, SHARE), "the 3×3 can, too"),
            ((early_pairs, SHARE), "that the 3×3 reads"),
            ((shifted_pairs, SHARE), "the second pair's output in evaluation mode differs"),
            ((lambda w: pairs(w, stride_in="3x3"), SHARE), "the first pair takes"),
            ((lambda w: pairs(2 * w), SHARE), "your code raised RuntimeError"),
            ((lambda w: (pairs(w)[0], nn.Sequential(*pairs(w)[1], nn.BatchNorm2d(8 * w))), SHARE),
             "weights don't load into the second"),
            ((pairs, 100 * SHARE), "not in percent"),
            ((pairs, SHARE * 4 / 3), "a third too much"),
            ((pairs, SHARE * 4 / 13), "the 3×3 convolution computes in vain"),
            ((pairs, SHARE / 3), "yours is a third"),
            ((pairs, None), "the share should be a number; it is None"),
            ((lambda w: (1, 2), SHARE), "one is an int"),
            ((pairs(4), SHARE), "hand in the function pairs"),
        ],
    )  # fmt: skip


def test_pairs_stay_as_they_were():
    made = pairs(4), pairs(6)
    weights = [p.detach().clone() for pair in made for net in pair for p in net.parameters()]
    kept = dict(zip((4, 6), made, strict=True))
    assert checks.check_computed_in_vain(lambda width: kept[width], SHARE)
    after = [p for pair in made for net in pair for p in net.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(weights, after, strict=True))
    assert all(net.training for pair in made for net in pair)
