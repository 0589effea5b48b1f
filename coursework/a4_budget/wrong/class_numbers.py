# fails: form accuracy alone
"""Returns classes, not scores."""

from torch import nn


class Decided(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).argmax(1)


def train_model(images, labels, seconds):
    return Decided(Classifier().eval())  # noqa: F821
