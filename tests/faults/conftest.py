"""What the tests of this folder compare their runs with."""

import pytest

from flaxlab.main import main
from tests.helpers.processes import TRAINING
from tests.helpers.run_directories import outcome, require_clean, require_whole


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """What an undisturbed `Training` ends with: the same run in the tests' process."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    main([*TRAINING, f"--workdir={workdir}"])
    require_whole(workdir)
    require_clean(workdir)
    return outcome(workdir)
