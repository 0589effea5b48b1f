"""The broken network of assignment 3, and which bugs a variant plants in it.

Beside the master and not in the package, so that students don't find it. Whoever keeps the masters
private changes SALT, so that the public file doesn't tell which bugs there are.
"""

import random
import re

PLANTED = 5
SALT = "public"

# A line that ends in a name between « and » can be broken; BUGS says how.
SOURCE = """
def convolution(in_channels, out_channels, kernel, stride=1):
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)  «bias»


class Bottleneck(nn.Module):
    expansion = 4  «expansion»

    def __init__(self, in_channels, width, stride):
        super().__init__()
        out_channels = self.expansion * width
        self.conv1 = convolution(in_channels, width, 1)
        self.norm1 = nn.BatchNorm2d(width)  «batch statistics»
        self.conv2 = convolution(width, width, 3, stride)
        self.norm2 = nn.BatchNorm2d(width)  «shared norm»
        self.conv3 = convolution(width, out_channels, 1)
        self.norm3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                convolution(in_channels, out_channels, 1, stride),
                nn.BatchNorm2d(out_channels),  «projection norm»
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))  «inner relu»
        y = self.norm3(self.conv3(y))
        return F.relu(y + self.shortcut(x))  «relu before addition»


def make_stage(in_channels, width, depth, stride):
    blocks = [Bottleneck(in_channels, width, stride)]
    for _ in range(depth - 1):  «number of blocks»
        blocks.append(Bottleneck(Bottleneck.expansion * width, width, 1))  «stride everywhere»
    return nn.Sequential(*blocks)


class Mended(nn.Module):
    def __init__(self, depths, num_classes, width):
        super().__init__()
        self.conv1 = convolution(3, width, 7, 2)
        self.norm1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, padding=1)  «pool padding»
        stages, channels = [], width
        for index, depth in enumerate(depths):
            stride = 1 if index == 0 else 2  «first stage»
            stages.append(make_stage(channels, width * 2**index, depth, stride))
            channels = Bottleneck.expansion * width * 2**index
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = self.norm1(self.conv1(x))
        x = self.pool(F.relu(x))  «stem relu»
        x = self.stages(x)
        x = x.mean((2, 3))  «global pooling»
        x = self.head(x)
        return x  «softmax»
"""

# name: (the broken line, without its indent; what the catalogue says)
BUGS = {
    "bias": (
        "return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2)",
        "Convolutions have a bias, which the batch norm behind them takes away again.",
    ),
    "expansion": (
        "expansion = 2",
        "The ends of the blocks have the wrong number of channels.",
    ),
    "batch statistics": (
        "self.norm1 = nn.BatchNorm2d(width, track_running_stats=False)",
        "A batch norm uses the statistics of the batch in evaluation mode, too.",
    ),
    "shared norm": (
        "self.norm2 = self.norm1",
        "Two layers of a block share one batch norm.",
    ),
    "projection norm": (
        "",
        "The projection on the shortcut has no batch norm.",
    ),
    "inner relu": (
        "y = self.norm2(self.conv2(y))",
        "A ReLU is missing inside of the branch.",
    ),
    "relu before addition": (
        "return F.relu(y) + self.shortcut(x)",
        "The last ReLU of a block comes before the addition.",
    ),
    "number of blocks": (
        "for _ in range(depth):",
        "Stages have the wrong number of blocks.",
    ),
    "stride everywhere": (
        "blocks.append(Bottleneck(Bottleneck.expansion * width, width, stride))",
        "Not only the first block of a stage strides.",
    ),
    "pool padding": (
        "self.pool = nn.MaxPool2d(3, 2)",
        "The maximum pooling is not padded, so a row and a column are lost.",
    ),
    "first stage": (
        "stride = 2",
        "The first stage strides, although the stem has already divided by four.",
    ),
    "stem relu": (
        "x = self.pool(x)",
        "There is no ReLU in the stem.",
    ),
    "global pooling": (
        "x = x.amax((2, 3))",
        "At the end stands the maximum over all pixels, not their mean.",
    ),
    "softmax": (
        "return x.softmax(1)",
        "The network returns probabilities, and the loss takes their softmax once more.",
    ),
}
MARKED = re.compile(r"^( *)(.*?)  «(.*)»$", re.MULTILINE)


def planted(variant: int) -> list[str]:
    """The names of the bugs of that variant, in the order of the lines."""
    dice = random.Random(f"{SALT}/a3/{variant}")
    chosen = dice.sample(sorted(BUGS), PLANTED)
    return [name for name in BUGS if name in chosen]


def source(bugs) -> str:
    """The network's code with these bugs."""

    def line(found):
        indent, right, name = found.groups()
        wrong = BUGS[name][0]
        return indent + (right if name not in bugs else wrong)

    text = MARKED.sub(line, SOURCE.strip("\n"))
    return re.sub(r"\n {16}(?=\n {12}\))", "", text)  # the empty line of a bug that leaves one out


def placeholders(variant: int) -> dict[str, str | list[str]]:
    """For the master: the broken code, the catalogue, and the answers for teachers."""
    bugs = planted(variant)
    right = {name: line for _, line, name in MARKED.findall(SOURCE)}
    answers = [
        f"- `{name}`: `{BUGS[name][0] or '(nothing)'}` should be `{right[name]}`" for name in bugs
    ]
    names = sorted(BUGS)
    return {
        "broken": source(bugs),
        "catalogue": "\n".join(f"- `{name}`: {BUGS[name][1]}" for name in names),
        "planted": bugs,
        "answers": "\n".join(answers),
        "catalogue_length": str(len(BUGS)),
    }
