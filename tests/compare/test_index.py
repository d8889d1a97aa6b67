"""The page of all runs in a folder."""

import re

import pytest

from flaxlab.compare.__main__ import main
from flaxlab.errors import UsageError
from tests.helpers.finished_runs import fail, write_run


def rows(page):
    """Returns the rows of the table: a list of (value, HTML) of the cells of each."""
    body = re.search(r"<tbody>(.*)</tbody>", page.read_text(), re.DOTALL)[1]
    cells = r'<td data-value="([^"]*)">(.*?)</td>'
    return [re.findall(cells, row, re.DOTALL) for row in body.split("</tr>")[:-1]]


@pytest.fixture
def runs(tmp_path):
    """Of two protocols and data sets; one has failed."""
    folder = tmp_path / "runs"
    write_run(folder / "a #1", "alexnet_default", 3, [0.5, 0.8, 0.7], train=0.9)
    (folder / "a #1/report.html").touch()
    changed = {"optimizer__learning_rate": 0.1, "name": "<b>mine</b>"}
    write_run(folder / "deep/b", "vgg_default", 0, [0.4], title="CIFAR-10", **changed)
    fail(folder, "alexnet_pool", 2)
    return folder


def test_all_runs_are_listed_whatever_their_protocols(runs, capsys):
    main([str(runs), "--index"])
    assert capsys.readouterr().out == f"index: {runs / 'index.html'}\n"
    assert not (runs / "comparison.html").exists()
    first, second, failed = rows(runs / "index.html")
    assert [cell[0] for cell in first[:7]] == ["a #1", "0.7", "0.7", "0.8", "0.9", "0.6", "3"]
    assert [cell[1] for cell in first[2:10]] == [
        *("70.00", "80.00", "90.00", "0.6000", "3", "alexnet_default", "3", "Fashion-MNIST")
    ]
    assert "train.epochs=3" in first[-1][1]
    assert [cell[1] for cell in second[7:10]] == ["&lt;b&gt;mine&lt;/b&gt;", "0", "CIFAR-10"]
    assert "optimizer.learning_rate=0.1" in second[-1][1]
    assert failed[0][1] == "alexnet_pool/seed_2"
    assert failed[1] == ("", "failed")
    assert "2 finished runs, and 1 run not finished." in (runs / "index.html").read_text()


def test_links_lead_to_the_reports_that_are_there(runs, tmp_path):
    main([str(runs), "--index", f"--to={tmp_path / 'out'}"])
    first, second, _ = rows(tmp_path / "out/index.html")
    assert '<a href="../runs/a%20%231/report.html">a #1</a>' in first[0][1]
    assert second[0][1] == "deep/b"


def test_curves_share_one_scale(runs):
    """From 0.4, the lowest of all, to 0.8, over three epochs."""
    main([str(runs), "--index"])
    first, second, _ = rows(runs / "index.html")
    assert 'points="3.0,19.5 60.0,3.0 117.0,8.5"' in first[1][1]
    assert 'points="3.0,25.0"' in second[1][1]


def test_runs_of_several_folders_are_named_with_them(runs):
    main([str(runs / "deep"), str(runs / "a #1"), "--index", f"--to={runs}"])
    assert [row[0][0] for row in rows(runs / "index.html")] == ["deep/b", "a #1"]


@pytest.mark.parametrize(
    "option", ["--baseline=a", "--vary=seed", "--format=csv", "--pictures=pdf"]
)
def test_options_of_a_comparison_are_refused(runs, option):
    with pytest.raises(UsageError, match="--index compares nothing"):
        main([str(runs), "--index", option])


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no run"):
        main([str(tmp_path), "--index"])
