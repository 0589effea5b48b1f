# fails: accuracy alone
"""The batch norms still use the statistics of the batch."""


def train_model(images, labels, seconds):
    return Classifier().train()  # noqa: F821
