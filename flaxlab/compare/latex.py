"""The arms of a comparison as a LaTeX table, for a paper."""

from __future__ import annotations

import textwrap

from flaxlab.compare.cells import figure_text
from flaxlab.compare.contents import protocol, reduced
from flaxlab.compare.outcomes import Outcomes
from flaxlab.compare.procedures import ANYTIME, PAIRED, WELCH
from flaxlab.compare.results import BASELINE, ComparedArm, Comparison
from flaxlab.compare.rules import OUTCOMES
from flaxlab.compare.statistics import Estimate

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
_ACCURACY = {
    "test": "accuracy on the test split after the last epoch",
    "holdout": "accuracy on the test split at the epoch that a holdout of the training split chose",
}
_TESTS = {
    PAIRED: "are paired by seed and tested with a paired $t$ test",
    WELCH: "are tested with Welch's $t$ test",
    ANYTIME: "are paired by seed and tested with a paired $t$ test that stays valid however often"
    " seeds are added",
}


def to_latex(comparison: Comparison) -> str:
    """Returns a table of the arms with its caption, which needs the package booktabs.

    A document can read it in as it is. With names of up to 20 characters, it is no wider than the
    text of a 10 pt article.
    """
    said = ("\\usepackage{booktabs}", protocol(comparison), reduced(comparison))
    comments = [_filled(text, "% ") for text in said if text]
    experiment = _experiment_of_all(comparison)
    arm = _text(f"Arm of {experiment}" if experiment else "Arm")
    rows = [[arm, "Runs", r"Accuracy (\%)", "Difference (points)", "Verdict"]]
    rows += [_row(arm, experiment) for arm in comparison.arms]
    rows += [
        [_text(name.removeprefix(f"{experiment} ")), _runs(outcomes), "", "", "not finished"]
        for name, outcomes in comparison.absent.items()
    ]
    columns = "llrrl"
    if _seeds_of_each(comparison):
        columns, rows = "lrrl", [[row[0], *row[2:]] for row in rows]
    head, *lines = [" & ".join(row) + r" \\" for row in rows]
    table = [
        r"\begin{table}",
        r"\centering",
        _filled(rf"\caption{{{_caption(comparison)}}}"),
        r"\footnotesize",
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        *(r"\toprule", head, r"\midrule", *lines, r"\bottomrule"),
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join([*comments, *table, ""])


def _seeds_of_each(comparison: Comparison) -> int | None:
    """Returns the number of seeds that all arms have in common; None where some did not learn."""
    counts = {len(arm.outcomes.learned) for arm in comparison.arms}
    return counts.pop() if len(counts) == 1 and not comparison.losses else None


def _experiment_of_all(comparison: Comparison) -> str:
    """Returns the experiment whose name all arms bear before their values; "" if they do not."""
    names = [*(arm.name for arm in comparison.arms), *comparison.absent]
    experiment = str(comparison.baseline.first.config.name)
    return experiment if all(name.startswith(f"{experiment} ") for name in names) else ""


def _caption(comparison: Comparison) -> str:
    design, baseline = comparison.design, comparison.baseline
    base = _text(baseline.name.removeprefix(f"{_experiment_of_all(comparison)} "))
    seeds = _seeds_of_each(comparison)
    of = "mean of the runs that learned (Runs)"
    if seeds:
        of = "one seed" if seeds == 1 else f"mean of {seeds} seeds"
    accuracy = _ACCURACY[baseline.first.config.data.validation]
    title = _text(f"{comparison.title} on {baseline.first.summary['dataset']}")
    sentences = [f"{title}: {accuracy}, {of}."]
    if any(arm.means["accuracy"].low is not None for arm in comparison.arms):
        sentences.append(r"Brackets hold 95\% confidence intervals.")
    if comparison.tested:
        what = "" if design.outcome == "accuracy" else f" in {OUTCOMES[design.outcome]}"
        corrected = ""
        if comparison.comparisons > 1:
            corrected = (
                f"; their intervals are corrected for {comparison.comparisons} comparisons"
                r" (Bonferroni), so that all of them hold at once with 95\% confidence"
            )
        sentences.append(f"Differences{what} from {base} {_TESTS[design.test]}{corrected}.")
    if design.equivalent_within:
        points = f"{design.equivalent_within * 100:g} points"
        sentences.append(f"An arm is equivalent if its difference is shown to be within {points}.")
    return " ".join(sentences)


def _row(arm: ComparedArm, experiment: str) -> list[str]:
    accuracy, difference = _figures(arm.means["accuracy"], "{:.2f}"), ""
    verdict = "baseline" if arm.word == BASELINE else arm.word
    if not arm.outcomes.learned:
        accuracy += " (collapsed)"
    if arm.difference is not None:
        estimate = arm.difference.estimate
        difference = _figures(estimate, "{:+.2f}")
        why = estimate.no_interval.removesuffix(": no interval")
        verdict += f" ({why})" if why else ""
    name = arm.name.removeprefix(f"{experiment} ")
    return [_text(name), _runs(arm.outcomes), accuracy, difference, verdict]


def _figures(estimate: Estimate, form: str) -> str:
    return f"${figure_text(estimate, 100, form)}$".replace(" [", r"\ [")


def _runs(outcomes: Outcomes) -> str:
    return f"{len(outcomes.learned)} of {outcomes.planned}"


def _text(plain: str) -> str:
    return plain.translate(_ESCAPED)


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        100,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
