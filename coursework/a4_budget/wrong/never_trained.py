# fails: accuracy
"""A network as it was made; everything else is right."""


def train_model(images, labels, seconds):
    return Classifier().eval()  # noqa: F821
