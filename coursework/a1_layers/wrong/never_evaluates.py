# fails: running
"""The batch's statistics in both modes."""


class BatchNorm(BatchNorm):  # noqa: F821
    def train(self, mode=True):
        return super().train(True)
