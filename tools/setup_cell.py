# Installs the book's package where it is missing, as in Colab; does nothing elsewhere.
import os
import subprocess
import sys
from importlib.util import find_spec

if not find_spec("resnet_lib"):
    source = os.environ.get("RESNET_LIB_SOURCE", "")
    if not source:
        raise RuntimeError("resnet_lib is missing: run 'pip install FOLDER_OF_THE_BOOK' first")
    subprocess.run([sys.executable, "-m", "pip", "install", "-qq", source], check=True)
