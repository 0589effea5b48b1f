# fails: form accuracy alone
"""Twice the width has about four times the parameters."""


def train_model(images, labels, seconds):
    return Classifier(32).eval()  # noqa: F821
