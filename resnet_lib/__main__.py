"""``python -m resnet_lib``: the command line of the book."""

from resnet_lib.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
