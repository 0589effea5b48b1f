# fails: layers sizes scores training
"""Always ResNet-50's numbers of blocks."""


class Network(Network):  # noqa: F821
    def __init__(self, depths, num_classes, width):
        super().__init__((3, 4, 6, 3), num_classes, width)
