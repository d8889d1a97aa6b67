"""Tables and pictures for a paper, against what they are by hand."""

import pytest

from flaxlab.compare.__main__ import main
from flaxlab.errors import UsageError
from tests.helpers.finished_runs import (
    ARM,
    BASELINE,
    COMPARISON_FILES,
    fail,
    write_arm,
    write_run,
    write_suite,
)

# Student's t of two degrees of freedom is 4.3027 at 95%, and 6.2053 at 97.5%: two comparisons.
# The differences to alexnet_no_dropout spread by 0.1 points, but no less than 300 images can show.
TABLE = r"""
\begin{tabular}{@{}lrrl@{}}
\toprule
Arm & Accuracy (\%) & Difference (points) & Verdict \\
\midrule
alexnet\_default & $85.50\ [84.26, 86.74]$ &  & baseline \\
alexnet\_no\_dropout & $80.50\ [79.12, 81.88]$ & $-5.00\ [-5.49, -4.51]$ & worse \\
alexnet\_pool & $85.53\ [83.19, 87.88]$ & $+0.03\ [-1.73, +1.80]$ & undecided \\
\bottomrule
\end{tabular}
\end{table}
"""


def printed(capsys, *arguments):
    capsys.readouterr()
    main([*map(str, arguments)])
    return capsys.readouterr().out


def test_the_table_of_a_paper_by_hand(suite, capsys):
    before, tabular = printed(capsys, suite, "--format=latex").split("\n\\begin{tabular}", 1)
    assert "\n\\begin{tabular}" + tabular == TABLE
    comments, caption = before.split("\n\\begin{table}\n")
    assert all(line.startswith("% ") for line in comments.splitlines())
    assert comments.startswith("% \\usepackage{booktabs}\n")
    said = caption.replace("\n", " ")
    assert "after the last epoch, mean of 3 seeds. Brackets hold 95\\% confidence" in said
    assert r"Differences to alexnet\_default are paired by seed and tested" in said
    assert "corrected for 2 comparisons (Bonferroni)" in said
    assert (suite / "comparison.html").is_file()


def test_values_of_one_experiment_are_named_without_it(tmp_path, capsys):
    for norm in ("batch", "none"):
        write_run(tmp_path / norm, "digits_small", 0, [0.5, 0.8], model__norm=norm)
    baseline = "--baseline=digits_small model.norm=batch"
    lines = printed(capsys, tmp_path, baseline, "--format=latex").splitlines()
    assert r"Arm of digits\_small & Accuracy (\%) & Difference (points) & Verdict \\" in lines
    assert r"model.norm=none & $80.00$ & $+0.00$ & undecided (one seed) \\" in lines


def test_names_are_escaped_and_lost_runs_are_counted(tmp_path, capsys):
    write_suite(tmp_path, 2, arms=dict.fromkeys((BASELINE, ARM, "gone")))
    write_arm(tmp_path, BASELINE, (0.8,))
    fail(tmp_path, BASELINE, 1)
    odd = r"[*] a_b & 5% of $#{x} ~^\ <|>"
    write_run(tmp_path / "odd", ARM, 0, [0.1, 0.1], name=odd, baseline=BASELINE)
    table = printed(capsys, tmp_path, "--format=latex")
    assert "mean of the runs that learned (Runs)" in table.replace("\n", " ")
    rows = table.split("\\midrule\n")[1].splitlines()
    assert rows[0] == r"alexnet\_default & 1 of 2 & $80.00$ &  & baseline \\"
    assert rows[1] == (
        r"{[}{*}{]} a\_b \& 5\% of \$\#\{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
        r" \textless{}\textbar{}\textgreater{} & 0 of 1 & $10.00$ (collapsed) &  & not compared \\"
    )
    assert r"gone & 0 of 2 &  &  & not finished \\" in rows


def test_csv_is_printed_as_it_is_written(suite, capsys):
    assert printed(capsys, suite, "--format=csv") == (suite / "comparison.csv").read_text()


def test_pictures_of_a_paper_stand_beside_the_page(suite):
    main([str(suite), "--pictures=pdf"])
    names = {path.name for path in suite.glob("comparison_*")}
    assert names == {name.replace(".png", ".pdf") for name in COMPARISON_FILES if "_" in name}
    markdown = (suite / "comparison.md").read_text()
    for name in names:
        assert (suite / name).read_bytes().startswith(b"%PDF")
        assert f"]({name})" in markdown


@pytest.mark.parametrize("option", ["--format=html", "--pictures=gif"])
def test_other_forms_are_refused(option):
    with pytest.raises(UsageError, match="invalid choice"):
        main(["runs", option])
