# fails: form accuracy alone
"""Doesn't look at the clock."""

import time


def train_model(images, labels, seconds):
    begin = time.process_time()
    while time.process_time() < begin + 1.2 * seconds + 1.1:
        pass
    return Classifier().eval()  # noqa: F821
