# fails: list bugs
"""The whole catalogue, to be sure."""

BUGS = ["expansion", "shared norm", "number of blocks", "global pooling", "softmax", "bias"]
