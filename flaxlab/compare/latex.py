"""The arms of a comparison as a LaTeX table, for a paper."""

from __future__ import annotations

import textwrap

from flaxlab.compare.cells import figure_text
from flaxlab.compare.contents import explanation, protocol, reduced
from flaxlab.compare.outcomes import Outcomes
from flaxlab.compare.results import ComparedArm, Comparison
from flaxlab.compare.statistics import Estimate
from flaxlab.compare.tables import difference_title

_ESCAPED = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        # After the end of a row, LaTeX would take these for an option of it.
        **{character: f"{{{character}}}" for character in "[]*"},
    }
)


def to_latex(comparison: Comparison) -> str:
    """Returns a tabular of the arms, which needs the package booktabs.

    A document can read it in as it is. Comments before it say what its numbers are.
    """
    said = (comparison.title, protocol(comparison), reduced(comparison), explanation(comparison))
    comments = [
        textwrap.fill(text, 100, initial_indent="% ", subsequent_indent="% ")
        for text in ("\\usepackage{booktabs}", *said)
        if text
    ]
    title = _text(difference_title(comparison.design))
    head = _line("arm", "runs that learned", _text("accuracy, % [95%]"), title, "verdict")
    rows = [_row(arm) for arm in comparison.arms]
    rows += [
        _line(_text(name), _runs(outcomes), "", "", "no run is finished")
        for name, outcomes in comparison.absent.items()
    ]
    table = [r"\begin{tabular}{llrrl}", r"\toprule", head, r"\midrule", *rows]
    return "\n".join([*comments, *table, r"\bottomrule", r"\end{tabular}", ""])


def _row(arm: ComparedArm) -> str:
    accuracy, difference, verdict = _figures(arm.means["accuracy"], "{:.2f}"), "", arm.word
    if not arm.outcomes.learned:
        accuracy += " (collapsed)"
    if arm.difference is not None:
        estimate = arm.difference.estimate
        difference = _figures(estimate, "{:+.2f}")
        verdict += f" ({estimate.no_interval})" if estimate.no_interval else ""
    return _line(_text(arm.name), _runs(arm.outcomes), accuracy, difference, verdict)


def _figures(estimate: Estimate, form: str) -> str:
    return f"${figure_text(estimate, 100, form)}$".replace(" [", r"\ [")


def _runs(outcomes: Outcomes) -> str:
    return f"{len(outcomes.learned)} of {outcomes.planned}"


def _text(plain: str) -> str:
    return plain.translate(_ESCAPED)


def _line(*cells: str) -> str:
    return " & ".join(cells) + r" \\"
