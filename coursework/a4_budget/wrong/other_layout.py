# fails: form accuracy alone
"""Takes the images for channels first."""

from torch import nn


def train_model(images, labels, seconds):
    convolution = nn.Conv2d(3, 4, 3)
    return nn.Sequential(Floats(), convolution, nn.Flatten(), nn.LazyLinear(10)).eval()


class Floats(nn.Module):
    def forward(self, x):
        return x.float()
