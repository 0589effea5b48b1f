# fails: training
"""Batch norms that stay in evaluation mode."""


class Block(Block):  # noqa: F821
    def train(self, mode=True):
        return super().train(False)
