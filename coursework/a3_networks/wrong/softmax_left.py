# fails: mended_scores mended_training
"""Four of five bugs are mended."""


class Mended(Mended):  # noqa: F821
    def forward(self, x):
        return super().forward(x).softmax(1)
