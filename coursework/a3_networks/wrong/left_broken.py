# fails: mended_layers mended_sizes mended_scores mended_training
"""The network as it stood on the sheet."""

from pathlib import Path
from runpy import run_path

variants = run_path(str(Path(__file__).parent.parent / "variants.py"))
exec(variants["source"](variants["planted"](0)), globals())
