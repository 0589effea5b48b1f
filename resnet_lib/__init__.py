"""Residual networks from scratch: the tested package behind the book on ResNet-50 and ResNet-101.

Import the modules themselves: ``from resnet_lib import models``.
"""

__version__ = "0.2.0"


class UserError(ValueError):
    """A mistake of the user's, in one line: what is wrong and what to do about it.

    The command line prints it and exits with code 2. Other errors are bugs: they keep their
    traceback.
    """
