"""Chapter 2: each check accepts right answers, however written, and names each mistake."""

import functools
import platform

import numpy as np
import torch
from judging import judged
from torch import nn

from resnet_lib import checks, models, records
from resnet_lib.device import has_bfloat16


def device_report(device, **changes):
    report = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "torch built for CUDA": torch.version.cuda or "no",
        "device": str(device),
        "name": records.cpu_name(),
        "memory of the card": "no card",
        "CPU threads": torch.get_num_threads(),
        "bfloat16 in hardware": has_bfloat16(device),
        "CUDA cards": torch.cuda.device_count(),
        "system": platform.system(),
        "cuDNN": torch.backends.cudnn.version() or "none",
    }
    return {name: changes.get(name.replace(" ", "_"), value) for name, value in report.items()}


def without(name):
    return lambda device: {k: v for k, v in device_report(device).items() if k != name}


def test_device_report():
    judged(
        checks.check_device_report,
        right=[device_report, lambda device: device_report(device, system=platform.platform())],
        wrong=[
            (without("cuDNN"), "has no entry 'cuDNN'"),
            (without("CPU threads"), "has no entry 'CPU threads'"),
            (lambda d: device_report(d, CUDA_cards=torch.cuda.is_available()), "not whether"),
            (lambda d: device_report(d, CUDA_cards=99), "'CUDA cards' is '99' here, expected"),
            (lambda d: device_report(d, system="posix"), "'system' is 'posix' here"),
            (lambda d: device_report(d, cuDNN=None), "or 'none'; it is None"),
            (lambda d: device_report(d, cuDNN="8.9"), "'cuDNN' is '8.9' here"),
            (lambda d: print(d), "should be a dictionary; it is None"),
            (device_report(torch.device("cpu")), "hand in the function device_report"),
        ],
        seeds=[0],
    )


def three_numbers(seed):
    return torch.rand(3, generator=torch.Generator().manual_seed(seed))


def three_of_numpy(seed):
    return np.random.default_rng(seed).normal(size=3).tolist()


def global_seed(seed):
    torch.manual_seed(seed)
    return torch.rand(3)


def kept_generator():
    own = torch.Generator()
    return lambda seed: torch.rand(3, generator=own).tolist()


def test_three_numbers():
    judged(
        checks.check_three_numbers,
        right=[three_numbers, three_of_numpy],
        wrong=[
            (global_seed, "seeds or uses PyTorch's global generator"),
            (lambda seed: torch.rand(3), "something is drawn from the global generator before"),
            (lambda seed: three_numbers(0), "the seed is not used"),
            (lambda seed: three_numbers(seed)[:1].repeat(3), "not all different"),
            (lambda seed: three_numbers(seed)[:2], "should return three numbers"),
            (lambda seed: 0.5, "it returns a float"),
            (kept_generator(), "the numbers change"),
            (three_numbers(0), "hand in the function three_numbers"),
        ],
    )


def pairwise_sum(values):
    if len(values) == 1:
        return values[0]
    middle = len(values) // 2
    return pairwise_sum(values[:middle]) + pairwise_sum(values[middle:])


def pairwise_by_levels(values):
    """Also right: without recursion, from the pairs up, with a zero where one is left over."""
    values = torch.from_numpy(values)
    while len(values) > 1:
        values = torch.cat([values, values.new_zeros(len(values) % 2)]).view(-1, 2).sum(1)
    return values[0]


def in_turn(values):
    return functools.reduce(lambda a, b: np.float32(a + b), values)


def halves_in_turn(values):
    middle = len(values) // 2
    return in_turn(values[:middle]) + in_turn(values[middle:]) if middle else values[0]


def test_pairwise_sum():
    judged(
        checks.check_pairwise_sum,
        right=[pairwise_sum, pairwise_by_levels],
        wrong=[
            (in_turn, "one after the other"),
            (lambda v: np.float32(v.astype(np.float64).sum()), "added in a wider format"),
            (lambda v: float(pairwise_sum(v.astype(np.float64))), "should be a float32 number"),
            (halves_in_turn, "down to single values?"),
            (lambda v: pairwise_sum(v[1:]) if len(v) > 1 else v[0], "the sum of 64 numbers is"),
            (lambda v: None, "the sum should be a number; it is None"),
            (np.float32(3), "hand in the function pairwise_sum"),
        ],
    )


@functools.cache
def needs(name):
    model = models.build(name)
    kept = {}

    def keep(tensor):
        if tensor.dim() == 4 and not isinstance(tensor, nn.Parameter):
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(torch.zeros(2, 3, 64, 64))
    assert output.requires_grad
    return models.parameter_count(model), sum(kept.values()) / 2 * (224 / 64) ** 2


def largest_batch(name, memory, free=0.1, copies=3, factor=1.0):
    count, image = needs(name)
    return int((memory * (1 - free) - copies * 4 * count) // (image * factor))


def test_largest_batch():
    judged(
        checks.check_largest_batch,
        right=[largest_batch, lambda n, m: float(largest_batch(n, m))],
        wrong=[
            (lambda n, m: largest_batch(n, m, free=0), "10 percent of the memory"),
            (lambda n, m: largest_batch(n, m, copies=1), "gradients and momentum need memory, too"),
            (lambda n, m: largest_batch(n, m, copies=2), "the momentum needs memory, too"),
            (lambda n, m: largest_batch(n, m, copies=0), "parameters, gradients and momentum need"),
            (lambda n, m: largest_batch(n, m, factor=64**2 / 224**2), "with the number of pixels"),
            (lambda n, m: largest_batch(n, m, factor=64 / 224), "pixels by its square"),
            (lambda n, m: largest_batch(n, m, factor=2), "take half of it for one"),
            (lambda n, m: largest_batch(n, m, factor=0.25), "four bytes"),
            (lambda n, m: largest_batch(n, m) + 0.5, "round down"),
            (lambda n, m: largest_batch("resnet50", m), "for resnet34 and 2 GiB"),
            (lambda n, m: 100, "100 images for resnet34 and 2 GiB"),
            (128, "hand in the function largest_batch"),
        ],
        seeds=[0],
    )


def test_loss_scaling():
    judged(
        checks.check_loss_scaling,
        right=[(2.0**-40, 2.0**-1), (torch.tensor(2.0**-40), 0.5)],
        wrong=[
            ((-40, -1), "these are exponents"),
            ((0.5, 2.0**-40), "the smallest comes first"),
            ((2.0**-24, 2.0**15), "the smallest without the factor"),
            ((2.0**-30, 0.5), "smaller numbers than its smallest normal one"),
            ((2.0**-41, 0.5), "becomes zero"),
            ((2.0**-40, 1.0), "infinite in float16"),
            ((2.0**-40, 65504 / 2**16), "the largest power of two is smaller"),
            ((2.0**-40, 2.0**15), "the largest without the factor"),
            ((1e-12, 0.5), "the smallest power of two is 1e-12"),
            ((None, 0.5), "should be a number; it is None"),
        ],
        seeds=[0],
    )


RATES = {1: 50.0, 2: 90.0, 4: 160.0, 8: 220.0, 16: 260.0, 32: 280.0, 64: 275.0}


def test_throughput():
    judged(
        checks.check_throughput,
        right=[RATES, {batch: torch.tensor(30.0 * batch) for batch in RATES}],
        wrong=[
            ({b: rate / b for b, rate in RATES.items()}, "steps per second"),
            ({b: 1 / rate for b, rate in RATES.items()}, "seconds per image"),
            ({b: b / rate for b, rate in RATES.items()}, "are these the seconds of a step?"),
            (RATES | {1: 1.0}, "was the first measurement warmed up?"),
            (dict.fromkeys(RATES, 50.0), "no batch is faster"),
            (RATES | {8: -1.0}, "above zero"),
            ({1: 50.0, 2: 90.0}, "has no entry 4"),
            (list(RATES.values()), "should be a dictionary"),
        ],
        seeds=[0],
    )
