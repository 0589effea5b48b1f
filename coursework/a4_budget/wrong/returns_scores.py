# fails: form accuracy alone
"""Returns what the network says of the training images, not the network."""


def train_model(images, labels, seconds):
    return Classifier().eval()(images)  # noqa: F821
