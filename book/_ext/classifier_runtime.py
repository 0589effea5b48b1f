"""onnxruntime-web, which runs the network in the page: fetched by npm, checked, kept.

One version, whose SHA-512 is written here; the file stays among the downloads of ``resnet_lib``,
so that a second build needs no network.
"""

import base64
import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# As npm's lock files have it under "integrity".
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
SCRIPT = "ort.wasm.min.js"  # the variant for WebAssembly alone
# What that script would load by itself: in the page it gets them from memory.
LOADED = {"glue": "ort-wasm-simd-threaded.mjs", "wasm": "ort-wasm-simd-threaded.wasm"}
SOURCE_MAP = b"//# sourceMappingURL="  # which a browser's tools would look for in vain
SECONDS = 300  # for 33 MB
# Two tries, the second soon: without a network npm would go on for more than a minute.
OPTIONS = ("--silent", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


class Missing(Exception):
    """What the page needs and this machine does not have, as a sentence with the remedy."""


def downloads():
    """The folder that ``data.load`` keeps its downloads in."""
    return Path(os.environ.get("RESNET_LIB_DATA") or "~/.cache/resnet_lib").expanduser()


def is_right(path):
    """Whether it is the file that was published under this version."""
    digest = hashlib.sha512(path.read_bytes()).digest()
    return base64.b64encode(digest).decode() == SHA512


def fetch(folder):
    """Let npm put the package's file into the folder; raises Missing where that fails."""
    name, npm = f"{PACKAGE} {VERSION}", shutil.which("npm")
    if npm is None:
        raise Missing(
            f"{name}, which runs the network, was not there when the book was built, and neither "
            "was npm, which fetches it. Install Node.js, which brings npm, and build the book again"
        )
    # Never the settings of a project: npm reads them from the current folder.
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", str(folder), *OPTIONS]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError):
        raise Missing(
            f"npm could not fetch {name}, which runs the network. Connect the machine to the "
            "network and build the book again"
        ) from None


def archive():
    """The package as a checked file among the downloads; raises Missing where it can't be had."""
    name = f"{PACKAGE}-{VERSION}.tgz"
    path = downloads() / name
    if path.is_file() and is_right(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".npm-") as folder:
        fetch(folder)
        fetched = Path(folder, name)
        if not fetched.is_file() or not is_right(fetched):
            raise Missing(
                f"what npm fetched is not the {PACKAGE} {VERSION} whose SHA-512 the book knows, "
                "so it was not used. Look at npm's settings and build the book again"
            )
        fetched.replace(path)
    return path


def packed(content):
    """Bytes as text for a script: gzip, then base64."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def assignment(name, content):
    """A line that leaves the bytes to the page's script; a page from a disk can't read files."""
    return f'(globalThis.classifierFiles ??= {{}}).{name} = "{packed(content)}";\n'


def script():
    """The runtime as one script: its own, and what it would load. Raises Missing."""
    with tarfile.open(archive()) as package:
        script, *others = (
            package.extractfile(f"package/dist/{name}").read()
            for name in (SCRIPT, *LOADED.values())
        )
    lines = [line for line in script.splitlines() if not line.startswith(SOURCE_MAP)]
    text = b"\n".join(lines).decode("utf-8") + "\n"
    return text + "".join(map(assignment, LOADED, others))
