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
TITLES = (
    r"arm & runs that learned & accuracy, \% {[}95\%{]}"
    r" & difference, points {[}95\% of all{]} & verdict \\"
)
TABLE = rf"""
\begin{{tabular}}{{llrrl}}
\toprule
{TITLES}
\midrule
alexnet\_default & 3 of 3 & $85.50\ [84.26, 86.74]$ &  & the baseline \\
alexnet\_no\_dropout & 3 of 3 & $80.50\ [79.12, 81.88]$ & $-5.00\ [-5.49, -4.51]$ & worse \\
alexnet\_pool & 3 of 3 & $85.53\ [83.19, 87.88]$ & $+0.03\ [-1.73, +1.80]$ & undecided \\
\bottomrule
\end{{tabular}}
"""


def printed(capsys, *arguments):
    capsys.readouterr()
    main([*map(str, arguments)])
    return capsys.readouterr().out


def test_the_table_of_a_paper_by_hand(suite, capsys):
    comments, table = printed(capsys, suite, "--format=latex").split("\n\\begin", 1)
    assert f"\n\\begin{table}" == TABLE
    assert all(line.startswith("% ") for line in comments.splitlines())
    assert comments.startswith("% \\usepackage{booktabs}\n")
    assert "paired t test, corrected for 2 comparisons" in comments.replace("\n% ", " ")
    assert (suite / "comparison.html").is_file()


def test_names_are_escaped_and_lost_runs_are_counted(tmp_path, capsys):
    write_suite(tmp_path, 2, arms=dict.fromkeys((BASELINE, ARM, "gone")))
    write_arm(tmp_path, BASELINE, (0.8,))
    fail(tmp_path, BASELINE, 1)
    odd = r"[*] a_b & 5% of $#{x} ~^\ <|>"
    write_run(tmp_path / "odd", ARM, 0, [0.1, 0.1], name=odd, baseline=BASELINE)
    rows = printed(capsys, tmp_path, "--format=latex").split("\\midrule\n")[1].splitlines()
    assert rows[0] == r"alexnet\_default & 1 of 2 & $80.00$ &  & the baseline \\"
    assert rows[1] == (
        r"{[}{*}{]} a\_b \& 5\% of \$\#\{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
        r" \textless{}\textbar{}\textgreater{} & 0 of 1 & $10.00$ (collapsed) &  & not compared \\"
    )
    assert r"gone & 0 of 2 &  &  & no run is finished \\" in rows


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
