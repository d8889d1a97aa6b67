"""What the tests of this folder compare their runs with."""

import pytest

from tests.helpers.processes import Training
from tests.helpers.run_directories import outcome, require_clean, require_whole


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """What an undisturbed `Training` ends with."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    code, _, errors = Training(workdir).end()
    assert code == 0, errors
    require_whole(workdir)
    require_clean(workdir)
    return outcome(workdir)
