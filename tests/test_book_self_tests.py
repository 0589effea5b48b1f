"""The chapters' self-tests: well formed, fair, and true where a program can tell."""

import math
import re
from collections import Counter

import nbformat
import notebooks
import pytest
import self_tests
import torch
import torch.nn.functional as F
from torch import nn

from resnet_lib import cifar, latency, metrics, models, pyramid, scaling, train
from resnet_lib.augment import Mix
from resnet_lib.blocks import BasicBlock, Bottleneck, conv1x1, shortcut
from resnet_lib.device import seed_everything

CHAPTERS = notebooks.chapters()
BOOK = {path.stem: notebooks.read(path) for path in CHAPTERS}
QUESTIONS = {q.name: q for notebook in BOOK.values() for q in self_tests.questions(notebook)}

META = torch.device("meta")


def thousands(number):
    return f"{round(number):,}"


def shape(tensor):
    return f"({', '.join(map(str, tensor.shape))})"


def meta(build, *arguments, **options):
    with META:
        return build(*arguments, **options)


def level(size, name):
    """The shape of a stage's output for one image of that size, in ResNet-50."""
    return meta(models.resnet50).features(torch.empty(1, 3, size, size, device=META))[name]


def windows(size, *arguments, **options):
    """The output of a convolution on one channel of size x size pixels."""
    return meta(nn.Conv2d, 1, 1, *arguments, **options)(torch.empty(1, 1, size, size, device=META))


def untouched_mean():
    """Four rules that do not look, on five balanced classes: the share that the first has right."""
    answers = torch.tensor([0.0, 0.4, 0.0, 0.6, 0.0])
    return f"{100 * (answers * torch.full((5,), 1 / 5)).sum():.0f} %"


def accuracy_lines():
    """The option whose code gives the accuracy of made-up logits, where code tells."""
    generator = torch.Generator().manual_seed(1)
    names = {"logits": torch.randn(500, 10, generator=generator)}
    names["labels"] = torch.randint(10, (500,), generator=generator)
    true = sum(
        row.tolist().index(max(row.tolist())) == label
        for row, label in zip(names["logits"], names["labels"].tolist(), strict=True)
    )
    found = []
    for option in QUESTIONS["1.5"].options:
        try:
            value = eval(option.text.strip("`"), {}, dict(names)).item()
        except RuntimeError:  # shapes that don't fit
            continue
        if math.isclose(value, true / 500, rel_tol=1e-6):
            found.append(option.text)
    (text,) = found
    return text


def small_in_16_bits():
    gradient = torch.tensor(1e-9)
    half, brain = (gradient.to(dtype).item() for dtype in (torch.float16, torch.bfloat16))
    assert half == 0 and abs(brain - 1e-9) < 1e-11
    return "Zero in `float16`, and nearly the value in `bfloat16`."


def kept_by_resnet50(images, size):
    """Bytes of feature maps that ResNet-50 keeps for backward, as chapter 2 counts them."""
    kept = {}

    def keep(tensor):
        if tensor.dim() == 4 and not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        meta(models.resnet50)(torch.empty(images, 3, size, size, device=META))
    return sum(kept.values())


def memory_of_a_batch():
    assert round(kept_by_resnet50(1, 128) / 1e6) == 28
    return f"{kept_by_resnet50(32, 256) / 1e9:.1f} GB"


def memory_without_momentum():
    return f"{2 * 4 * models.parameter_count(meta(models.resnet50)) / 1e6:.0f} MB"


def stride_against_channels():
    small, large = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(128, 128, 3, stride=2, padding=1)
    assert models.multiply_adds(small, 56, 64) == models.multiply_adds(large, 56, 128)
    return "They stay the same."


def unfolded():
    image = torch.zeros(1, 3, 32, 32)
    assert F.unfold(image, 4, stride=4).numel() == image.numel()
    assert F.unfold(image, 4).numel() > 10 * image.numel()
    return "Not at all."


def shifted_by_two():
    x, weight = torch.randn(1, 1, 64, 64), torch.randn(1, 1, 3, 3)
    before = F.conv2d(x, weight, stride=4)
    after = F.conv2d(x.roll(2, 3), weight, stride=4)
    moved = [torch.allclose(after[..., 4:], before.roll(step, 3)[..., 4:]) for step in range(4)]
    assert not any(moved)
    assert torch.allclose(
        F.conv2d(x.roll(4, 3), weight, stride=4)[..., 4:], before.roll(1, 3)[..., 4:]
    )
    return "is another map in general."


def edge_with_one_pixel():
    """A 1x1 gives the same for a pixel wherever its neighbours are, so it sees no edge."""
    conv, image = conv1x1(1, 4), torch.tensor([0.0, 0, 1, 1, 0, 1]).view(1, 1, 1, 6)
    order = torch.tensor([2, 0, 5, 1, 3, 4])
    assert torch.equal(conv(image[..., order]), conv(image)[..., order])
    return "Find a vertical edge in a grey image."


def means_of_batch_norm():
    norm = nn.BatchNorm2d(64)
    norm(torch.randn(32, 64, 14, 14))
    return f"{norm.running_mean.numel()}, one for each channel"


def mean_after_two_batches():
    norm, ones = nn.BatchNorm2d(1, momentum=0.1), torch.ones(4, 1, 2, 2)
    norm(ones)
    norm(ones)
    return f"{norm.running_mean.item():.2f}"


def conv_and_norm(factor=1.0, bias=False):
    """Output of a convolution and a batch norm in training mode, and the convolution."""
    generator = torch.Generator().manual_seed(0)
    conv, norm = nn.Conv2d(2, 3, 3, bias=bias).double(), nn.BatchNorm2d(3).double()
    conv.weight.data = factor * torch.randn(conv.weight.shape, generator=generator).double()
    x = torch.randn(8, 2, 9, 9, generator=generator).double()
    output = norm(conv(x))
    output.backward(torch.randn(output.shape, generator=generator).double())
    return output.detach(), conv


def bias_before_norm():
    _, conv = conv_and_norm(bias=True)
    assert conv.bias.grad.abs().max() < 1e-10 < conv.weight.grad.abs().max()
    return "Zero, up to rounding."


def larger_weights():
    (output, conv), (other, larger) = conv_and_norm(), conv_and_norm(10)
    torch.testing.assert_close(output, other, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(larger.weight.grad, conv.weight.grad / 10, rtol=1e-3, atol=1e-3)
    return "The output stays the same, the gradient is a tenth."


def kept_by_dropout():
    values = nn.Dropout(0.2)(torch.full((1000,), 5.0)).unique()
    assert len(values) == 2 and values[0] == 0
    return f"{values[1]:g}"


def without_gradients():
    norm, x = nn.BatchNorm2d(1), torch.randn(8, 1, 4, 4) + 3
    with torch.no_grad():
        norm(x)
    assert norm.running_mean.item() > 0.1
    return "Their running statistics move."


def dropout_before_norm():
    seed_everything(0)
    layers = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(1))
    for _ in range(100):
        layers(torch.randn(64, 1, 16, 16).relu())
    assert layers.eval()(torch.randn(64, 1, 16, 16).relu()).std() < 0.8
    return "Less than 1"


def same_padding_of_the_stem():
    size, kernel, stride = 224, 3, 2
    total = (size // stride - 1) * stride + kernel - size
    return f"{total // 2} and {total - total // 2}"


def kernel_for_keras():
    """The option whose code gives (H, W, in, out), and each number its place."""
    weight = torch.arange(128 * 64 * 9).view(128, 64, 3, 3)
    found = []
    for option in QUESTIONS["19.3"].options:
        kernel = eval(option.text.strip("`"), {}, {"weight": weight})
        if kernel.shape == (3, 3, 64, 128) and kernel[1, 2, 5, 7] == weight[7, 5, 1, 2]:
            found.append(option.text)
    (text,) = found
    return text


def depths_of_the_family():
    found = []
    for option in QUESTIONS["5.1"].options:
        try:
            cifar.CifarNet(int(option.text), width=1)
        except ValueError:
            continue
        found.append(option.text)
    (text,) = found
    return text


def relu_before_addition():
    class Faulty(BasicBlock):
        def forward(self, x):
            return self.relu(self.branch(x)) + self.downsample(x)

    x = torch.randn(4, 8, 6, 6)
    assert (Faulty(8, 8)(x) >= x).all() and not (BasicBlock(8, 8)(x.relu()) >= x.relu()).all()
    return "No output is ever smaller than its input."


def silent_block():
    block, x = BasicBlock(8, 8), torch.randn(4, 8, 6, 6)
    nn.init.zeros_(block.bn2.weight)
    assert torch.equal(block(x), x.relu()) and not torch.equal(block(x), x)
    return "`relu(x)`"


def first_to_wake():
    block = BasicBlock(8, 8)
    nn.init.zeros_(block.bn2.weight)
    output = block(torch.randn(4, 8, 6, 6).relu())
    output.backward(torch.randn_like(output))
    awake = [name for name, parameter in block.named_parameters() if parameter.grad.any()]
    assert awake == ["bn2.weight", "bn2.bias"]
    return "Only the scale and the shift of that batch norm."


def ratio_of_gradients():
    factor = 100 ** (1 / (16 - 1))
    return f"About {thousands(factor ** (31 - 1))} times"


def weights_of_bottleneck():
    convolutions = (m for m in Bottleneck(512, 128).modules() if isinstance(m, nn.Conv2d))
    return thousands(sum(conv.weight.numel() for conv in convolutions))


def positions_read():
    x = torch.ones(1, 1, 8, 8, requires_grad=True)
    F.conv2d(x, torch.ones(1, 1, 1, 1), stride=2).sum().backward()
    return str(int(x.grad.count_nonzero()))


def versions_exchange_weights():
    old = models.build("resnet50", 10, width=4, stride_in="1x1").eval()
    new = models.build("resnet50", 10, width=4, stride_in="3x3").eval()
    new.load_state_dict(old.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 64)
    assert not torch.allclose(old(x), new(x), rtol=0.01)
    return "It loads, and computes something else."


def halved_ratio():
    narrow, wide = ((w * 256, 9 * w * w, 256 * w) for w in (64, 128))
    factors = [b / a for a, b in zip(narrow, wide, strict=True)]
    assert factors == [2, 4, 2]
    return "The 3×3 needs four times as many, each 1×1 twice as many."


def three_bottlenecks():
    layers = nn.Sequential(*(Bottleneck(4, 1) for _ in range(3)))
    side = pyramid.walk(layers, pyramid.Field()).size
    return f"{side} × {side}"


def name_of_the_network():
    return str(models.layer_count(meta(models.ResNet, Bottleneck, (2, 4, 12, 2))))


def place_of_the_stride():
    right, found = (
        models.multiply_adds(meta(models.build, "resnet50", stride_in=where), 224) / 1e9
        for where in ("3x3", "1x1")
    )
    assert (f"{found:.3f}", f"{right:.3f}") == ("3.858", "4.089")
    return "Its bottlenecks stride in the first 1×1."


def other_shapes():
    x = torch.empty(1, 3, 224, 224, device=META)
    few, many = (meta(models.build, name).features(x) for name in ("resnet50", "resnet101"))
    assert {name: y.shape for name, y in few.items()} == {n: y.shape for n, y in many.items()}
    return "None"


def smaller_head():
    large, small = (models.parameter_count(meta(models.resnet50, k)) for k in (1000, 100))
    return thousands(large - small)


def new_norm_does_nothing():
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(nn.BatchNorm2d(4).eval()(x), x, rtol=1e-4, atol=1e-4)
    return "So that a batch norm that is left out, or called in the wrong place, is noticed."


def two_more_bottlenecks():
    few, many = (
        pyramid.receptive_field(meta(models.ResNet, Bottleneck, depths))["C3"].size
        for depths in ((3, 4, 6, 3), (3, 6, 6, 3))
    )
    return str(many - few)


def heard_by_p4():
    module = pyramid.FeaturePyramid((4, 4, 4, 4), 4)
    sides = zip("2345", (16, 8, 4, 2), strict=True)
    maps = {f"C{k}": torch.randn(1, 4, side, side, requires_grad=True) for k, side in sides}
    module(maps)["P4"].sum().backward()
    return " and ".join(name for name, x in maps.items() if x.grad is not None)


def positions_of_c5():
    x = torch.empty(1, 3, 320, 320, device=META)
    side, scores = level(320, "C5").shape[-1], meta(models.resnet50)(x).shape[1]
    return f"C5 has {side} × {side} positions, and there are {scores} scores."


def seen_by_unit_ten():
    field = pyramid.receptive_field(meta(models.resnet50))["C3"]
    assert (field.size, field.jump, field.offset) == (91, 8, 0)
    return "{} to {}".format(*field.span(10))


def mean_by_examples():
    losses = torch.tensor([1.0] * 90 + [3.0] * 10)
    return f"{losses.mean():.1f}"


def rate_half_way():
    return f"{0.1 * train.warmup_cosine(550, 1000, 100):g}"


def in_the_state_dict():
    assert "bn1.running_mean" in models.resnet18(width=4).state_dict()
    return "The running statistics of the batch norms"


def memory_with_adamw():
    layer = nn.Linear(999, 1000)  # a million parameters
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.zeros(1, 999)).sum().backward()
    optimizer.step()
    parameters = sum(p.nbytes for p in layer.parameters())
    state = sum(v.nbytes for values in optimizer.state.values() for v in values.values())
    return f"{25 * (2 * parameters + state) / 1e6:.0f} MB"


def smoothed_best():
    logits = torch.zeros(1, 10, requires_grad=True)
    for _ in range(500):
        loss = F.cross_entropy(logits, torch.tensor([3]), label_smoothing=0.1)
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - gradient).detach().requires_grad_()
    return f"{logits.softmax(1)[0, 3]:.2f}"


def share_of_equal_partners():
    mix, generator = Mix(cutmix=1.0), torch.Generator().manual_seed(0)
    _, shares = mix(torch.rand(2, 1, 10, 10), torch.tensor([3, 3]), 10, generator)
    return f"{shares[0, 3]:g}"


def sent_around_a_ring():
    return f"{scaling.ring_bytes(100, 8):g}"


MATRIX = torch.tensor([[8, 2, 0], [1, 9, 0], [0, 3, 7]])


def precision_of_the_middle():
    column = MATRIX[:, 1]
    assert math.isclose(metrics.precision(MATRIX)[1], 9 / 14)
    return f"{column[1]} / {column.sum()}"


def always_cat():
    matrix = torch.tensor([[950, 0], [50, 0]])
    return f"{metrics.accuracy(matrix):g} and {metrics.mean_accuracy(matrix):g}"


def lower_log_loss():
    labels = torch.tensor([0] * 95 + [1] * 5)
    rows = {p: torch.tensor([[p, 1 - p]]).log().expand(100, 2) for p in (0.99, 0.8)}
    losses = {p: metrics.log_loss(logits, labels) for p, logits in rows.items()}
    assert [round(loss, 2) for loss in losses.values()] == [0.24, 0.29]
    return f"That of the one who says {100 * min(losses, key=losses.get):.0f} %."


def calibrated_and_ignorant():
    labels = torch.arange(10).repeat(100)
    assert metrics.expected_calibration_error(torch.zeros(1000, 10), labels) < 1e-6
    return "It can't be said from this."


def warmer():
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(logits.argsort(1), (logits / 1.5).argsort(1))
    assert ((logits / 1.5).softmax(1).amax(1) < logits.softmax(1).amax(1)).all()
    return "The confidence, and no prediction."


def gains_on_two_scales():
    odds = [share / (1 - share) for share in (0.40, 0.50, 0.90, 0.95)]
    assert 0.50 - 0.40 > 0.95 - 0.90 and odds[1] / odds[0] < odds[3] / odds[2]
    return "In points on the small ones, in log-odds on the large ones"


def overwritten_in_place():
    layers = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(inplace=True))
    kept = []
    layers[0].register_forward_hook(lambda module, inputs, output: kept.append(output))
    layers(torch.randn(8, 2, 4, 4))
    assert kept[0].min() == 0
    return "The next layer, a ReLU, works in place on the tensor that you kept."


def exact_stage():
    """The logits from the last stage's maps, whose weights are the means of the gradients."""
    model = models.resnet18(10, width=4).eval()
    x = torch.randn(2, 3, 64, 64)
    features = model.features(x)["C5"]
    logits = model.fc(model.avgpool(features).flatten(1))
    (gradient,) = torch.autograd.grad(logits[:, 3].sum(), features)
    maps = (gradient.mean((2, 3), keepdim=True) * features).sum(1)
    torch.testing.assert_close(maps.sum((1, 2)) + model.fc.bias[3], model(x)[:, 3])
    return "C5, since only a mean and a linear layer follow"


def first_two_cells():
    field = pyramid.receptive_field(meta(models.resnet50))["C4"]
    assert (field.jump, field.offset) == (16, 0)
    middles = (sum(field.span(index)) / 2 for index in (0, 1))
    return "At {:g} and {:g}".format(*middles)


# Question -> a function that works out the text of the right option.
def zero_point():
    low, high = -1, 3
    return str(round(-low / ((high - low) / 255)))


def mean_and_p95():
    waits = [1] * 390 + [41] * 10
    return f"{sum(waits) / len(waits):.0f} ms and {latency.percentile(waits, 0.95):.0f} ms"


COMPUTED = {
    "17.4": lambda: thousands(models.parameter_count(nn.Linear(512, 10))),
    "1.4": untouched_mean,
    "1.5": accuracy_lines,
    "1.7": lambda: shape(level(320, "C4")),
    "2.2": small_in_16_bits,
    "2.3": lambda: f"{torch.tensor(1e8) + 1 - 1e8:g}",
    "2.4": memory_of_a_batch,
    "2.7": memory_without_momentum,
    "3.1": lambda: "{} × {}".format(*windows(32, 5, stride=2, padding=1).shape[2:]),
    "3.2": lambda: thousands(
        models.parameter_count(nn.Conv2d(64, 128, 3, padding=1, groups=2, bias=False))
    ),
    "3.3": stride_against_channels,
    "3.4": unfolded,
    "3.5": shifted_by_two,
    "3.6": edge_with_one_pixel,
    "3.7": lambda: str(pyramid.Field().through(3, 2, 0).through(3, 1, 0).size),
    "4.1": means_of_batch_norm,
    "4.2": mean_after_two_batches,
    "4.3": bias_before_norm,
    "4.4": larger_weights,
    "4.6": kept_by_dropout,
    "4.7": without_gradients,
    "4.8": dropout_before_norm,
    "5.1": depths_of_the_family,
    "6.1": lambda: shape(
        meta(BasicBlock, 64, 128, stride=2)(torch.empty(8, 64, 56, 56, device=META))
    ),
    "6.2": lambda: thousands(models.parameter_count(shortcut(64, 128, 2, "B"))),
    "6.3": relu_before_addition,
    "6.4": silent_block,
    "6.5": first_to_wake,
    "6.6": ratio_of_gradients,
    "6.7": lambda: f"{2**4} and {2**3}",
    "7.1": weights_of_bottleneck,
    "7.2": lambda: shape(
        meta(Bottleneck, 1024, 512, stride=2)(torch.empty(4, 1024, 14, 14, device=META))
    ),
    "7.3": positions_read,
    "7.4": versions_exchange_weights,
    "7.6": halved_ratio,
    "7.7": three_bottlenecks,
    "8.1": name_of_the_network,
    "8.2": lambda: shape(level(160, "C5")[0]),
    "8.3": place_of_the_stride,
    "8.5": other_shapes,
    "8.6": smaller_head,
    "8.7": new_norm_does_nothing,
    "9.1": two_more_bottlenecks,
    "9.3": heard_by_p4,
    "9.6": positions_of_c5,
    "9.7": seen_by_unit_ten,
    "11.1": mean_by_examples,
    "11.2": rate_half_way,
    "11.5": in_the_state_dict,
    "11.8": memory_with_adamw,
    "12.1": smoothed_best,
    "12.3": share_of_equal_partners,
    "13.4": sent_around_a_ring,
    "14.1": precision_of_the_middle,
    "14.2": always_cat,
    "14.3": lower_log_loss,
    "14.4": calibrated_and_ignorant,
    "14.5": warmer,
    "15.5": gains_on_two_scales,
    "16.1": overwritten_in_place,
    "16.2": exact_stage,
    "16.7": first_two_cells,
    "18.3": zero_point,
    "18.6": mean_and_p95,
    "19.1": same_padding_of_the_stem,
    "19.2": lambda: f"{1 - nn.BatchNorm2d(1).momentum:g}",
    "19.3": kernel_for_keras,
}
# Question -> what it takes from the outputs of its chapter, so that a new run would be noticed.
QUOTED = {
    "5.3": ("0.07    -0.70 to     0.84",),
    "5.7": ("50.21     23.13", "23.02     19.98"),
    "7.5": ("basic, 256               16.94",),
    "9.2": ("811    971",),
    "9.4": ("C5 alone               0.0 ± 0.0     0.0 ± 0.0     0.5 ± 0.0",),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_right_option_is_what_comes_out(name):
    torch.manual_seed(0)
    assert QUESTIONS[name].right.text == COMPUTED[name]()


def printed(stem):
    """What the cells of a chapter print, spaces made uniform."""
    cells = (cell for cell in BOOK[stem].cells if cell.cell_type == "code")
    text = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    return " ".join(text.split())


@pytest.mark.parametrize("name", QUOTED)
def test_quoted_result_stands_in_the_chapter(name):
    (stem,) = (stem for stem in BOOK if int(stem[:2]) == QUESTIONS[name].chapter)
    for quoted in QUOTED[name]:
        assert " ".join(quoted.split()) in printed(stem), quoted


NUMERIC = re.compile(r"[\d\s.,/×()%−-]+|[\d.,]+ (?:GB|MB|%)|\d+ (?:and|to) \d+")


def test_every_question_for_a_number_is_computed():
    asked = {n for n, q in QUESTIONS.items() if all(NUMERIC.fullmatch(o.text) for o in q.options)}
    assert asked and asked <= set(COMPUTED), sorted(asked - set(COMPUTED))


def test_tables_name_questions_that_exist():
    assert set(COMPUTED) | set(QUOTED) <= set(QUESTIONS)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_has_questions(path):
    assert 5 <= len(self_tests.questions(BOOK[path.stem])) <= 8


def test_right_answers_are_spread():
    places = Counter(question.right.letter for question in QUESTIONS.values())
    for letter in "ABCD":
        assert 0.15 < places[letter] / len(QUESTIONS) < 0.4, places


def test_right_answers_are_not_always_the_longest():
    longest = sum(
        len(q.right.text) == max(len(option.text) for option in q.options)
        for q in QUESTIONS.values()
    )
    assert longest < 0.5 * len(QUESTIONS)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_right_answers_of_a_chapter_stand_in_three_places(path):
    places = {question.right.letter for question in self_tests.questions(BOOK[path.stem])}
    assert len(places) >= 3


def test_questions_are_written_as_they_are_read():
    for notebook in BOOK.values():
        for cell in notebook.cells:
            if cell.cell_type == "markdown" and self_tests.is_question(cell.source):
                assert self_tests.write(self_tests.parse(cell.source)) == cell.source


GOOD = self_tests.write(
    self_tests.Question(
        6,
        1,
        "Which, $a < b$ or `<b>`?",
        (
            self_tests.Option("A", "This & that", False, "Since that is so."),
            self_tests.Option("B", "`x < 1`", True, "Since it is.\n\nA second paragraph."),
            self_tests.Option("C", "Both", False, "Since one isn't."),
        ),
    )
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("### Question 6.1", "### Question"),
        ("### Question 6.1", "## Question 6.1"),
        ("Which, ", "<b>Which</b>, "),
        ("**Right.**", "**Not quite.**"),
        ("**Not quite.** Since one", "**Right.** Since one"),
        ("**Right.**", "**Yes.**"),
        ("**Right.** ", ""),
        ("B. ", "C. "),
        ("C. Both", "C. This &amp; that"),
        ("This &amp; that", "This & that"),
        ("This &amp; that", "<b>This</b>"),
        ("This &amp; that", "`This`"),
        ("This &amp; that", "$x$"),
        ("This &amp; that", "**This**"),
        ("<code>x &lt; 1</code>", "<code>x &lt; 1"),
        ("<summary>A.", "<summary>\nA."),
        ("</details>\n\n<details><summary>C. Both</summary>", "C"),
        ("\n\n</details>\n\n<details><summary>B", "\n\n<details><summary>B"),
        ("<details><summary>B", "More.\n\n<details><summary>B"),
        ("<details><summary>B", "<details open><summary>B"),
        ("Since one isn't.\n\n</details>", "Since one isn't.\n\n</details>\n\nMore."),
    ],
)
def test_malformed_question_is_noticed(old, new):
    assert self_tests.parse(GOOD).right.letter == "B"
    assert old in GOOD
    with pytest.raises(self_tests.SelfTestError):
        self_tests.parse(GOOD.replace(old, new, 1))


def test_two_options_are_too_few():
    head, _, _ = GOOD.rpartition("\n\n<details><summary>C")
    with pytest.raises(self_tests.SelfTestError, match="three to five"):
        self_tests.parse(head)


def test_option_is_escaped_and_read_back():
    assert "<summary>B. <code>x &lt; 1</code></summary>" in GOOD
    assert "<summary>A. This &amp; that</summary>" in GOOD
    assert [option.text for option in self_tests.parse(GOOD).options][:2] == [
        "This & that",
        "`x < 1`",
    ]


def test_wrong_key_would_be_noticed():
    """The computed answers can fail: exchange two options of one question."""
    source = self_tests.write(QUESTIONS["6.1"])
    right, wrong = self_tests.RIGHT, self_tests.WRONG
    swapped = source.replace(right, "\0").replace(wrong, right, 1).replace("\0", wrong, 1)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(swapped)])
    (question,) = self_tests.questions(notebook)
    assert question.right.text != COMPUTED["6.1"]()
