"""Tables and pictures for a paper, against what they are by hand."""

import shutil
import subprocess

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


def _has_booktabs():
    if not shutil.which("pdflatex") or not shutil.which("kpsewhich"):
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode == 0


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
    assert " on Fashion-MNIST: accuracy on the test split after the last epoch, mean of" in said
    assert "after the last epoch, mean of 3 seeds. Brackets hold 95\\% confidence" in said
    assert r"Differences from alexnet\_default are paired by seed and tested" in said
    assert "corrected for 2 comparisons (Bonferroni)" in said
    assert (suite / "comparison.html").is_file()


@pytest.mark.skipif(not _has_booktabs(), reason="needs pdflatex and booktabs")
def test_a_table_is_no_wider_than_an_article(tmp_path, capsys):
    write_arm(tmp_path, BASELINE, (0.85, 0.86, 0.855))
    for seed, final in enumerate((0.8, 0.81, 0.1)):  # one collapses: a column more
        name = "alexnet_of_any_name_"
        write_run(tmp_path / "arm" / f"{seed}", ARM, seed, [0.5, final], name=name)
    table = printed(capsys, tmp_path, "--format=latex")
    assert "& Runs &" in table
    head = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
    (tmp_path / "paper.tex").write_text(f"{head}{table}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert "Overfull" not in (tmp_path / "paper.log").read_text()


def test_values_of_one_experiment_are_named_without_it(tmp_path, capsys):
    for norm in ("batch", "none"):
        write_run(tmp_path / norm, "digits_small", 0, [0.5, 0.8], model__norm=norm)
    baseline = "--baseline=digits_small model.norm=batch"
    lines = printed(capsys, tmp_path, baseline, "--format=latex").splitlines()
    assert r"Arm of digits\_small & Accuracy (\%) & Difference (points) & Verdict \\" in lines
    assert r"model.norm=none & $80.00$ & $+0.00$ & undecided (one seed) \\" in lines


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            {"test": "welch", "equivalent_within": 0.005},
            r"Differences from alexnet\_default are tested with Welch's $t$ test."
            " An arm is equivalent if its difference is shown to be within 0.5 points.}",
        ),
        (
            {"test": "anytime", "outcome": "late_accuracy"},
            r"Differences in mean accuracy of the last three epochs from alexnet\_default are"
            " paired by seed and tested with a paired $t$ test that stays valid however often seeds"
            " are added.}",
        ),
    ],
)
def test_the_caption_says_how_a_suite_is_judged(tmp_path, capsys, rules, said):
    write_suite(tmp_path, 2, **rules)
    write_arm(tmp_path, BASELINE, (0.8, 0.82))
    write_arm(tmp_path, ARM, (0.85, 0.86))
    assert said in printed(capsys, tmp_path, "--format=latex").replace("\n", " ")


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
