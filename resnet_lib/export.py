"""Networks as files that run without this package: ONNX, and torch's own exported programs.

A file holds the network with its batch norms folded into the convolutions, and says what it needs:
classes, normalisation, image size. It takes normalised images (N, C, S, S), any N, and gives two
outputs: logits (N, K), and the class activation maps (N, K, h, w) whose means they are.
"""

import copy
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resnet_lib import UserError, __version__, checkpoint, deployed, models
from resnet_lib.augment import normalize
from resnet_lib.deployed import IMAGES, LOGITS, MAPS, quietly

PRECISIONS = ("fp32", "fp16", "int8")
FORMATS = {"onnx": PRECISIONS, "torch-export": ("fp32", "fp16")}
TOLERANCE = 1e-3  # of fp32 logits, as a share of the largest one; rounding makes about 1e-6
TRIED = 32  # images of noise to compare with, where the caller has none
BATCH = 64
SMALL = 1024  # numbers: a smaller tensor is not worth halving


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution with a bias that does what the two layers do at evaluation.

    In evaluation mode a batch norm is scale * x + shift for each channel, and a convolution is
    linear: the scale can go into its weights, and the shift is a bias.
    """
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    folded = copy.deepcopy(conv)
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    before = 0 if conv.bias is None else conv.bias
    folded.bias = nn.Parameter(before * scale + shift)
    return folded


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, on the CPU, in which every batch norm is in its convolution.

    The partner of ``bn1`` is ``conv1``, that of a layer of an ``nn.Sequential`` is the one before.
    UserError where there is none.
    """
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    for module in list(model.modules()):
        for name, part in list(module.named_children()):
            if not isinstance(part, nn.BatchNorm2d):
                continue
            partner = name.replace("bn", "conv") if "bn" in name else str(int(name) - 1)
            conv = getattr(module, partner, None)
            if not isinstance(conv, nn.Conv2d):
                raise UserError(f"the batch norm {name} follows no convolution: it can't be folded")
            setattr(module, partner, fold_batch_norm(conv, part).requires_grad_(False))
            setattr(module, name, nn.Identity())
    return model


class Served(nn.Module):
    """What a file computes: (N, C, S, S) -> logits (N, K), class activation maps (N, K, h, w).

    The last layer is linear, so it may come before the average instead of after: as a 1x1
    convolution it gives a map for each class, which tells where the evidence is. Zhou et al. 2016,
    DOI 10.1109/CVPR.2016.319.
    """

    def __init__(self, model: models.ResNet):
        super().__init__()
        self.body = fold_batch_norms(model)
        fc, self.body.fc = self.body.fc, nn.Identity()
        self.head = nn.Conv2d(fc.in_features, fc.out_features, 1, bias=False)
        self.head.weight = nn.Parameter(fc.weight[:, :, None, None], requires_grad=False)
        self.register_buffer("bias", fc.bias.detach())
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.head(self.body.features(images)["C5"])
        return maps.mean((2, 3)) + self.bias, maps


@dataclass(frozen=True, eq=False)
class Agreement:
    """The logits (N, K) of the network itself and of the file, for the same images."""

    eager: Tensor
    exported: Tensor

    @property
    def max_error(self) -> float:
        """The largest difference between two logits."""
        return (self.eager - self.exported).abs().max().item()

    @property
    def equal(self) -> float:
        """The share of images for which both name the same class."""
        return (self.eager.argmax(1) == self.exported.argmax(1)).double().mean().item()

    def accuracies(self, labels: Tensor) -> tuple[float, float]:
        """Of the network and of the file; labels (N,)."""
        right = [logits.argmax(1) == labels for logits in (self.eager, self.exported)]
        return right[0].double().mean().item(), right[1].double().mean().item()


def to_onnx(
    model: models.ResNet,
    path: str | Path,
    about: dict[str, Any],
    precision: str = "fp32",
    calibration: Tensor | None = None,
    check: Tensor | None = None,
) -> Agreement:
    """Write the network as one ONNX file, replacing one of that name, after comparing the two.

    about: metadata as ``checkpoint.restore_model`` returns it, for "spec" and "data".
    precision: "fp32"; "fp16" keeps the weights in half the bytes and computes in float32; "int8"
    computes the convolutions in eight bits, and needs ``calibration``, images of the training part.
    calibration, check: uint8 (N, C, S, S), not normalised. ``check`` are the images to compare on,
    by default the calibration images, or noise. UserError where fp32 differs by more than rounding.
    """
    deployed.require(*deployed.PACKAGES)
    choose("onnx", precision)
    if precision == "int8" and calibration is None:
        raise UserError("int8 needs images of the training part to calibrate on: give some")
    served, data = Served(model), about["data"]
    proto = _traced(served, data)
    if precision == "fp16":
        _halve_initializers(proto)
    elif precision == "int8":
        proto = _quantized(proto, normalize(calibration, data["mean"], data["std"]))
    for key, text in deployed.describe(about, precision, __version__).items():
        proto.metadata_props.add(key=key, value=text)
    content = proto.SerializeToString()
    check = calibration if check is None else check
    found = compare(model, deployed.onnx_run(deployed.onnx_session(content)), data, check)
    return _keep(content, path, found, precision)


def to_torch_export(
    model: models.ResNet,
    path: str | Path,
    about: dict[str, Any],
    precision: str = "fp32",
    check: Tensor | None = None,
) -> Agreement:
    """Write the network as a program of ``torch.export``, a .pt2 file; else as ``to_onnx``.

    The metadata are the file's extra files. int8 is a UserError: export that to ONNX.
    """
    choose("torch-export", precision)
    served, data = Served(model), about["data"]
    if precision == "fp16":
        _halve_parameters(served)
    with quietly():
        program = torch.export.export(served, (_example(data),), dynamic_shapes=_any_number())
        file = io.BytesIO()
        texts = deployed.describe(about, precision, __version__)
        torch.export.save(program, file, extra_files=texts)
    found = compare(model, deployed.torch_run(file.getvalue())[0], data, check)
    return _keep(file.getvalue(), path, found, precision)


def choose(form: str, precision: str) -> None:
    """UserError where there is no such file."""
    if form not in FORMATS:
        raise UserError(f"format must be one of {', '.join(FORMATS)}, got {form!r}")
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision not in FORMATS[form]:
        raise UserError(f"{form} has {', '.join(FORMATS[form])} here: use onnx for {precision}")


@torch.inference_mode()
def compare(
    model: nn.Module, run: deployed.Run, data: dict[str, Any], check: Tensor | None = None
) -> Agreement:
    """Both on the images ``check``, uint8 (N, C, S, S); on noise where there are none."""
    if check is None:
        shape = (TRIED, data["channels"], data["image_size"], data["image_size"])
        generator = torch.Generator().manual_seed(0)
        check = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    eager = copy.deepcopy(model).cpu().eval()
    images = normalize(check, data["mean"], data["std"])
    batches = [images[:1], *images[1:].split(BATCH)]  # one alone: the batch is dynamic
    pairs = [(eager(batch), run(batch)[0]) for batch in batches if len(batch)]
    return Agreement(*(torch.cat(logits) for logits in zip(*pairs, strict=True)))


def _keep(content: bytes, path: str | Path, found: Agreement, precision: str) -> Agreement:
    allowed = TOLERANCE * max(1.0, found.eager.abs().max().item())
    if precision == "fp32" and not found.max_error <= allowed:  # NaN is not, either
        raise UserError(
            f"the exported network's logits differ by up to {found.max_error:.2g} from the "
            f"network's own, more than rounding explains: {path} is not written"
        )
    checkpoint.write_atomically(path, lambda part: Path(part).write_bytes(content))
    return found


def _example(data: dict[str, Any]) -> Tensor:
    """Two images: tracing takes a batch of one for a constant."""
    return torch.zeros(2, data["channels"], data["image_size"], data["image_size"])


def _any_number() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("batch", min=1)},)


def _traced(served: Served, data: dict[str, Any]):
    """The network as an ONNX model in float32."""
    with quietly():
        program = torch.onnx.export(
            served,
            (_example(data),),
            dynamo=True,
            verbose=False,
            input_names=[IMAGES],
            output_names=[LOGITS, MAPS],
            dynamic_shapes=_any_number(),
        )
    return program.model_proto


def _halve_initializers(proto) -> None:
    """Keep the weights as float16, and cast them to float32 in front of what uses them.

    ONNX Runtime does that once, when it opens the file. It computes in float32 as before: on a CPU
    it has no float16 convolution but on some ARM processors.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < SMALL:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(_half(values, name), f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _half(values: np.ndarray, name: str) -> np.ndarray:
    if np.abs(values).max() > np.finfo(np.float16).max:
        raise UserError(f"{name} has values beyond float16: export this network in fp32")
    return values.astype(np.float16)


class _HalfConv(nn.Conv2d):
    """A convolution that keeps its weight as float16, and computes in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.float(), self.bias)


def _halve_parameters(served: Served) -> None:
    for name, module in served.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() >= SMALL:
            half = torch.from_numpy(_half(module.weight.numpy(), name))
            module.weight = nn.Parameter(half, requires_grad=False)
            module.__class__ = _HalfConv


def _quantized(proto, images: Tensor):
    """The convolutions in eight bits, calibrated on normalised images (N, C, S, S).

    Weights have a scale for each channel, and seven bits: without its newer instructions, an x86
    processor adds pairs of products in 16 bits, where full ones overflow. Activations have a scale
    for each tensor, from the smallest and largest value seen. The last layer stays in float32: it
    costs next to nothing, and its output is what is looked at.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    nodes = list(proto.graph.node)
    first = next(i for i, node in enumerate(nodes) if MAPS in node.output)
    with tempfile.TemporaryDirectory() as folder, quietly():
        path = Path(folder) / "quantized.onnx"
        quantize_static(
            proto,
            path,
            _reader(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in nodes[first:]],
        )
        return onnx.load(path)


def _reader(images: Tensor):
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches = iter(images.split(BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {IMAGES: batch.numpy()}

    return Reader()


WRITERS: dict[str, Callable[..., Agreement]] = {"onnx": to_onnx, "torch-export": to_torch_export}
