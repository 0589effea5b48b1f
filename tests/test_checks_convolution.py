"""Chapter 3: each check accepts right answers, however written, and names each mistake."""

import pytest
import torch
import torch.nn.functional as F
from judging import judged
from torch import nn

from resnet_lib import checks

ALEXNET = {
    "size": 55,
    "parameters": 23_296,
    "multiply-adds": 70_276_800,
    "reads every pixel": True,
}


def alexnet(**changes):
    return ALEXNET | {name.replace("_", " "): value for name, value in changes.items()}


def test_alexnet_layer():
    judged(checks.check_alexnet_layer, right=[ALEXNET, alexnet(size=torch.tensor(55))])


@pytest.mark.parametrize(
    "answers, words",
    [
        (alexnet(size=54), "one place more"),
        (alexnet(size=56), "rounded down"),
        (alexnet(parameters=23_232), "lack the bias"),
        (alexnet(parameters=7_808), "all three input channels"),
        (ALEXNET | {"multiply-adds": 140_553_600}, "as two"),
        (ALEXNET | {"multiply-adds": 23_232 * 224**2}, "not of the input"),
        (ALEXNET | {"multiply-adds": 70_000_000}, "276,800 too small"),
        (alexnet(reads_every_pixel=False), "padded image"),
        (alexnet(reads_every_pixel="yes"), "should be True or False; it is a str"),
        ({"size": 55}, "no entry 'parameters'"),
        (alexnet(size="55"), "should be a number; it is a str"),
    ],
)
def test_alexnet_layer_mistakes(answers, words):
    judged(checks.check_alexnet_layer, wrong=[(answers, words)])


def merged(first, second, flip=True, padding=2):
    kernel = second.flip(2, 3) if flip else second
    return F.conv2d(first.transpose(0, 1), kernel, padding=padding).transpose(0, 1)


def merged_by_loops(first, second):
    out = torch.zeros(len(second), first.shape[1], 5, 5, dtype=first.dtype)
    for u in range(3):
        for v in range(3):
            out[:, :, u : u + 3, v : v + 3] += torch.einsum(
                "om,mcxy->ocxy", second[:, :, u, v], first
            )
    return out


def merged_by_transposed_convolution(first, second):
    return F.conv_transpose2d(second, first)


def test_merged():
    judged(
        checks.check_merged,
        right=[merged, merged_by_loops, merged_by_transposed_convolution],
        wrong=[
            (lambda a, b: merged(a, b, flip=False), "has to be flipped"),
            (lambda a, b: merged(a, b).flip(2, 3), "turned by 180 degrees"),
            (lambda a, b: merged(a, b).transpose(0, 1), "channels are exchanged"),
            (lambda a, b: merged(a, b, padding=1), "3 wide, expected 5"),
            (lambda a, b: merged(b, a), "wrong order"),
            (lambda a, b: merged(a, b) * 2, "differs from the reference"),
            (lambda a, b: torch.zeros(5, 4, 5, 5), "has the shape"),
            (lambda a, b: None, "nothing was computed or returned"),
            (merged(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)), "result of a call"),
            (lambda a, b: a @ torch.zeros(7, 7), "your code raised RuntimeError"),
        ],
    )


class Conv2d(torch.autograd.Function):
    """The solution; its variants spoil one step each."""

    @staticmethod
    def forward(ctx, x, weight, bias, padding):
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, bias, padding=padding)

    @classmethod
    def kernel(cls, weight):
        return weight.flip(2, 3).transpose(0, 1)

    @staticmethod
    def around(k, p):
        return k - 1 - p

    @staticmethod
    def finish(for_input, for_weight, for_bias, count):
        return for_input, for_weight, for_bias, None

    @classmethod
    def gradients(cls, ctx, g):
        x, weight = ctx.saved_tensors
        around = [cls.around(weight.shape[-1], ctx.padding)] * 4
        for_input = F.conv2d(F.pad(g, around), cls.kernel(weight))
        for_weight = F.conv2d(x.transpose(0, 1), g.transpose(0, 1), padding=ctx.padding)
        bias = g.sum((0, 2, 3))
        return cls.finish(for_input, for_weight.transpose(0, 1), bias, len(x))

    @staticmethod
    def backward(ctx, g):
        return Conv2d.gradients(ctx, g)


def spoiled(**steps):
    """A variant of Conv2d with other steps."""
    steps = {name: staticmethod(step) for name, step in steps.items()}
    variant = type("Variant", (Conv2d,), steps)
    variant.backward = staticmethod(lambda ctx, g: variant.gradients(ctx, g))
    return variant


class ByTorchsHelpers(torch.autograd.Function):
    """Also right: padding by hand, and gradients by a transposed convolution and unfold."""

    @staticmethod
    def forward(ctx, image, kernel, shift, p):
        ctx.p = p
        ctx.save_for_backward(image, kernel)
        k = kernel.shape[-1]
        columns = F.unfold(image, k, padding=p)
        height, width = image.shape[2] + 2 * p - k + 1, image.shape[3] + 2 * p - k + 1
        y = kernel.flatten(1) @ columns + shift[:, None]
        return y.view(len(image), -1, height, width)

    @staticmethod
    def backward(ctx, g):
        image, kernel = ctx.saved_tensors
        columns = F.unfold(image, kernel.shape[-1], padding=ctx.p)
        for_kernel = torch.einsum("nop,nkp->ok", g.flatten(2), columns).view_as(kernel)
        return F.conv_transpose2d(g, kernel, padding=ctx.p), for_kernel, g.sum((0, 2, 3)), None


def raising_where_negative(k, p):
    if p > k - 1:
        raise RuntimeError("negative padding is not supported")
    return k - 1 - p


def test_conv_function():
    judged(
        checks.check_conv_function,
        right=[Conv2d, Conv2d.apply, ByTorchsHelpers],
        wrong=[
            (spoiled(kernel=lambda w: w.transpose(0, 1)), "yours isn't flipped"),
            (spoiled(kernel=lambda w: w.flip(2, 3)), "exchange their roles"),
            (spoiled(around=lambda k, p: p), "padded by p"),
            (spoiled(around=lambda k, p: k - p), "gradient of the input has the shape"),
            (spoiled(finish=lambda x, w, b, n: (x, w.mT, b, None)), "weight with a kernel of 3"),
            (spoiled(finish=lambda x, w, b, n: (x, w / n, b, None)), "averaged over the images"),
            (spoiled(finish=lambda x, w, b, n: (x, w, b / n, None)), "bias's gradient is averaged"),
            (spoiled(finish=lambda x, w, b, n: (x, w, None, None)), "gradient of the bias"),
            (spoiled(around=raising_where_negative), "k - 1 - p is negative"),
            (spoiled(finish=lambda x, w, b, n: (x, w.flip(2, 3), b, None)), "by 180 degrees"),
            (F.conv2d, "with your own backward"),
            (nn.Conv2d, "with your own backward; this is the class Conv2d"),
        ],
    )


def test_conv_function_output_is_compared():
    class Unpadded(Conv2d):
        @staticmethod
        def forward(ctx, x, weight, bias, padding):
            ctx.save_for_backward(x, weight)
            return F.conv2d(x, weight, bias)

    judged(checks.check_conv_function, wrong=[(Unpadded, "the output with a kernel of 3")])


def full(depthwise, pointwise):
    return pointwise * depthwise.transpose(0, 1)


def full_by_einsum(depthwise, pointwise):
    return torch.einsum("cuv,oc->ocuv", depthwise[:, 0], pointwise[:, :, 0, 0])


def test_full():
    judged(
        checks.check_full,
        right=[full, full_by_einsum],
        wrong=[
            (lambda d, p: full(d, p).transpose(0, 1), "channels are exchanged"),
            (lambda d, p: p * d, "belongs to an input channel"),
            (lambda d, p: full(d, p.transpose(0, 1)), "output channels first"),
            (lambda d, p: full(d, p).sum(1), "has the shape (4, 3, 3), expected (4, 4, 3, 3)"),
            (lambda d, p: full(d, p) + 1e-3, "differs from the reference by up to 0.001"),
            (None, "hand in the function full itself"),
        ],
    )


def nearest(weight, scaled=(1, 0), share=lambda s: s[:, 1:].square().sum() / s.square().sum()):
    u, s, vh = torch.linalg.svd(weight.transpose(0, 1).flatten(2), full_matrices=False)
    pointwise = (u[:, :, 0] * s[:, :1] ** scaled[0]).T[:, :, None, None]
    depthwise = (vh[:, 0] * s[:, :1] ** scaled[1]).view(-1, 1, *weight.shape[2:])
    return depthwise, pointwise, share(s)


def nearest_by_power_iteration(weight):
    """Another scale and sign of the same pair, by iteration."""
    matrices = weight.transpose(0, 1).flatten(2)
    v = matrices[:, :1].transpose(1, 2).clone()
    for _ in range(3000):
        v = matrices.mT @ (matrices @ v)
        v = v / v.norm(dim=1, keepdim=True)
    u = matrices @ v
    rest = (matrices - u @ v.mT).square().sum() / matrices.square().sum()
    pointwise = -2 * u[:, :, 0].T[:, :, None, None]
    return -v[:, :, 0].view(-1, 1, 3, 3) / 2, pointwise, rest.item()


def test_nearest():
    judged(
        checks.check_nearest,
        right=[nearest, nearest_by_power_iteration, lambda w: list(nearest(w, scaled=(0.5, 0.5)))],
        wrong=[
            (lambda w: nearest(w, scaled=(0, 0)), "lacks the singular value"),
            (lambda w: nearest(w, scaled=(1, 1)), "its square"),
            (lambda w: nearest(w, share=lambda s: s[:, 0].square().sum() / s.square().sum()),
             "the share that is explained"),
            (lambda w: nearest(w, share=lambda s: s[:, 1:].norm() / s.norm()), "last square root"),
            (lambda w: nearest(w, share=lambda s: s[:, 1:].sum() / s.sum()), "squared first"),
            (lambda w: nearest(w, share=lambda s: s[:, 1:].square().sum()), "not its share"),
            (lambda w: nearest(w)[:2], "return 3 values; it returns 2"),
            (lambda w: (nearest(w)[0][:, 0], *nearest(w)[1:]), "depthwise has the shape (8, 3, 3)"),
            (lambda w: (torch.randn(w.shape[1], 1, 3, 3), *nearest(w)[1:]), "product of the pair"),
            (nn.Identity(), "hand in the function nearest"),
        ],
    )  # fmt: skip


ROW = torch.tensor([1.0, 2.0, 1.0]) / 4


def blurred(x, weight, kernel=None, stride=1, pool=2, relu=(1, 0), pad="constant"):
    y = F.conv2d(x, weight, stride=stride, padding=1)
    y = y.relu() if relu[0] else y
    kernel = torch.outer(ROW, ROW) if kernel is None else kernel
    kernel = kernel.expand(y.shape[1], 1, 3, 3)
    y = F.conv2d(F.pad(y, [1] * 4, pad), kernel, stride=pool, groups=y.shape[1])
    return y.relu() if relu[1] else y


def blurred_in_two_directions(x, weight):
    y = F.conv2d(x, weight, padding=1).clamp(min=0)
    y = F.pad(y, [1] * 4)
    y = (y[..., :-2] + 2 * y[..., 1:-1] + y[..., 2:]) / 4
    return ((y[:, :, :-2] + 2 * y[:, :, 1:-1] + y[:, :, 2:]) / 4)[:, :, ::2, ::2]


def test_blurred():
    kernel = torch.outer(ROW, ROW)
    judged(
        checks.check_blurred,
        right=[
            blurred,
            blurred_in_two_directions,
            lambda x, w: blurred(x, w, pad="reflect"),  # as Zhang does
        ],
        wrong=[
            (lambda x, w: blurred(x, w, relu=(0, 1)), "yours comes before it"),
            (lambda x, w: blurred(x, w, relu=(0, 0)), "the ReLU between"),
            (lambda x, w: F.conv2d(x, w, stride=2, padding=1).relu(), "nothing is blurred"),
            (lambda x, w: blurred(x, w, 16 * kernel), "yours add up to 16"),
            (lambda x, w: blurred(x, w, 4 * kernel), "yours add up to 4"),
            (lambda x, w: blurred(x, w, torch.full((3, 3), 1 / 9)), "that is a mean"),
            (lambda x, w: blurred(x, w, stride=2, pool=1), "already strides"),
            (lambda x, w: blurred(x, w, pool=1), "stride is missing"),
            (lambda x, w: blurred(x, w, stride=2), "both steps stride"),
            (lambda x, w: blurred(x, w)[:, :, 1:], "has the shape"),
            (lambda x, w: blurred(x.double(), w), "your code raised"),
            (3, "hand in the function blurred"),
        ],
    )


def roll(matrix, rows, columns, back=True):
    """The matrix between a shift and the shift back, by indices."""
    pixels = torch.arange(36).view(6, 6).roll((rows, columns), (0, 1)).flatten()
    return matrix[pixels][:, pixels] if back else matrix[:, pixels]


def shift_average(matrix, rows=range(6), columns=range(6), back=True):
    parts = [roll(matrix, r, c, back) for r in rows for c in columns]
    return torch.stack(parts).mean(0)


def shift_matrix(rows, columns):
    pixels = torch.arange(36).view(6, 6).roll((rows, columns), (0, 1)).flatten()
    return torch.eye(36, dtype=torch.float64)[pixels]


def by_matrices(matrix, back=True):
    shifts = [shift_matrix(r, c) for r in range(6) for c in range(6)]
    return sum((s.T if back else s) @ matrix @ s for s in shifts) / 36


def test_shift_average():
    judged(
        checks.check_shift_average,
        right=[shift_average, by_matrices],
        wrong=[
            (lambda m: 36 * shift_average(m), "the sum over the shifts"),
            (lambda m: by_matrices(m, back=False), "twice in the same direction"),
            (lambda m: shift_average(m, back=False), "shift back is missing"),
            (lambda m: shift_average(m, rows=[0]), "along the columns"),
            (lambda m: shift_average(m, columns=[0]), "along the rows"),
            (lambda m: m, "came back as it was"),
            (lambda m: shift_average(m)[0], "has the shape (36,), expected (36, 36)"),
            (lambda m: torch.eye(36), "differs from the reference"),
            (shift_average(torch.eye(36)), "hand in the function shift_average itself"),
        ],
    )
