"""What a command says to wrong input."""

import pytest

from flaxlab.command_line import run_command


def refused(command, arguments, capsys):
    """Runs a command that must end with one line and exit code 2; returns the line."""
    with pytest.raises(SystemExit) as stop:
        run_command(command, [str(argument) for argument in arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error
