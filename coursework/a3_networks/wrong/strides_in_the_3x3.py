# fails: sizes scores training
"""The version of torchvision, where the sheet asks for the paper's."""


class Late(Residual):  # noqa: F821
    early = False


class Network(Network):  # noqa: F821
    block = Late
