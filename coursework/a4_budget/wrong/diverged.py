# fails: form accuracy alone
"""Weights that are no numbers any more."""

import torch


def train_model(images, labels, seconds):
    network = Classifier().eval()  # noqa: F821
    with torch.no_grad():
        network.last.weight.fill_(float("nan"))
    return network
