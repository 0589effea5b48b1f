# fails: bugs
"""Two of the names are guesses."""

BUGS = ["expansion", "shared norm", "number of blocks", "bias", "first stage"]
