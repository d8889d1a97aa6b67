"""Writes a comparison: Markdown and CSV, pictures, and one page that holds everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flaxlab import files
from flaxlab.compare import class_pictures, pictures
from flaxlab.compare.claims_table import claims_table
from flaxlab.compare.contents import contents, reduced
from flaxlab.compare.procedures import WELCH
from flaxlab.compare.results import Comparison
from flaxlab.compare.rules import OUTCOMES
from flaxlab.compare.spreadsheet import to_csv
from flaxlab.pages import style
from flaxlab.pages.render import render

_PICTURES = {
    "curves": "Accuracy and training loss over the epochs: mean of the seeds, and from the lowest"
    " to the highest, as far as all seeds go",
    "differences": "Difference of each arm to the baseline with its interval, corrected for the"
    " number of arms; a coloured dot where it leaves out 0, else a grey diamond",
    "seeds": "Accuracy of every run; a cross has collapsed",
    "pairs": "The runs of each seed, joined: the baseline's at the left, the arm's at the right,"
    " blue where the arm is better; the thick line is their mean; each arm has a scale of its own",
    "sweeps": "What was swept: mean with its 95% interval, and each run that learned; black is the"
    " baseline",
    "class_accuracy": "Share of each class that each arm gets right, mean over the seeds",
    "confusion": "Confusion matrices, mean over the seeds, in percent of the true class",
    "confusion_difference": "Confusion matrices minus the baseline's, in points; blue is good: more"
    " on the diagonal, fewer beside it",
}


def write(comparison: Comparison, folder: Path, form: str = "png") -> Path:
    """Writes comparison.md, .csv, .html and the pictures beside them.

    Args:
        comparison: what to write.
        folder: where to.
        form: format of the pictures comparison_*, one of `style.FORMS`.

    Returns:
        The path of the page.
    """
    footnote = reduced(comparison)
    drawn = {}
    for name, figure in _draw(comparison).items():
        drawn[name] = style.svg(figure, name)
        if footnote:  # the page says it once; a picture is shown without its page as well
            pictures.annotate(figure, footnote)
        else:
            style.keep_layout(figure)
        files.write_bytes(folder / f"comparison_{name}.{form}", style.FORMS[form](figure))
    found = contents(comparison)
    links = {name: f"comparison_{name}.{form}" for name in drawn}
    files.write_text(folder / "comparison.csv", to_csv(comparison))
    files.write_text(folder / "comparison.md", _markdown(found, links))
    page = folder / "comparison.html"
    files.write_text(page, render("comparison.html.j2", drawn, **found, captions=_PICTURES))
    return page


def _draw(comparison: Comparison) -> dict[str, Any]:
    arms, design = comparison.arms, comparison.design
    class_names = list(comparison.baseline.first.summary["classes"])
    same = all(list(arm.first.summary["classes"]) == class_names for arm in arms)
    others = any(arm.difference is not None for arm in arms)
    drawn = {"curves": pictures.curves(arms), "seeds": pictures.dots(arms)}
    if others:
        drawn["differences"] = pictures.forest(arms, OUTCOMES[design.outcome])
    if others and design.test != WELCH:
        drawn["pairs"] = pictures.pairs(arms, design.outcome)
    if pictures.swept(arms):
        drawn["sweeps"] = pictures.sweeps(arms, design.outcome)
    if same:
        drawn["class_accuracy"] = class_pictures.class_accuracy(arms, class_names)
        drawn["confusion"] = class_pictures.confusions(arms, class_names)
    if same and others:
        drawn["confusion_difference"] = class_pictures.confusion_differences(arms, class_names)
    return drawn


def _markdown(contents: dict[str, Any], links: dict[str, str]) -> str:
    lines = [f"# {contents['title']}", "", contents["protocol"], ""]
    if contents["reduced"]:
        lines += [f"**{contents['reduced']}**", ""]
    for note in contents["notes"]:
        lines += [f"Note: {note}", ""]
    lines += [contents["accuracy"].markdown(), contents["explanation"], ""]
    if contents["outcomes"] is not None:
        lines += ["## What became of the runs", "", contents["outcomes"].markdown()]
        lines += [contents["outcomes_note"], ""]
    if contents["effects"] is not None:
        lines += ["## Effects and interactions", "", contents["effects"].markdown()]
        lines += [contents["effects_note"], ""]
    lines += ["## Training", "", contents["training"].markdown()]
    if contents["noise"] is not None:
        lines += ["## Where the spread comes from", "", contents["noise"].markdown()]
        lines += [contents["noise_note"], ""]
    if contents["report"] is not None:
        lines += ["## The lab report's table", "", contents["caveat"], ""]
        lines += [contents["report"].markdown()]
    if contents["claims"]:
        lines += ["## Claims", ""]
        if contents["report"] is None:
            lines += [contents["caveat"], ""]
        lines += [claims_table(contents["claims"]).markdown(), contents["claims_note"]]
        if contents["untested"]:
            lines += ["", f"Not tested here: {', '.join(map(str, contents['untested']))}."]
        lines += [""]
    if contents["changes"].rows:
        lines += ["## What differs", "", contents["changes"].markdown()]
    lines += ["## How these numbers were made", ""]
    lines += [f"- **{topic}**: {text}" for topic, text in contents["sheet"].items()]
    lines += ["", "## Pictures", ""]
    lines += [f"![{_PICTURES[name]}]({link})\n" for name, link in links.items()]
    lines += ["## Commands", ""]
    commands = [contents["command"]] if contents["command"] else []
    commands += [run.command for run in contents["runs"]]
    lines += ["```bash", *commands, "```"]
    return "\n".join(lines) + "\n"
