"""The command line, as tests call it."""

from resnet_lib import cli


def fails(capsys, *line):
    """The one line that a mistake gets."""
    capsys.readouterr()
    assert cli.main([str(word) for word in line]) == 2
    error = capsys.readouterr().err
    assert error.startswith("resnet_lib: ") and error.count("\n") == 1, error
    return error
