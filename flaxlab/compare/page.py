"""Writes a comparison: Markdown and CSV, pictures, and one page that holds everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flaxlab import files
from flaxlab.compare import pictures, tables
from flaxlab.compare.results import LEVEL, Comparison
from flaxlab.data.catalog import is_original
from flaxlab.pages import plots
from flaxlab.pages.render import render

_EXPLANATION = (
    "Accuracy is {accuracy}. Intervals are Student's t over the seeds, and none where all seeds"
    " are equal, whose spread is not known; they are not corrected for"
    " the number of comparisons, so that one may leave out 0 where the verdict sees no difference."
)
_TESTS = (
    " A difference is taken seed by seed, since the same seed draws the same initial values for"
    " shared layers and the same order of examples in every arm; its p values are those of the"
    " paired t test and of the sign-flip test (exact up to 16 seeds), both after Holm's correction"
    " for {tests}. The verdict follows the t test at {level:.2f}. What these seeds"
    " could have seen is the smallest true difference that the test finds with a power of 80% at"
    " the first step of Holm's procedure, if their spread is what was measured."
)
_ACCURACY = {
    "test": "the validation accuracy after the last epoch, where validation is the test split, as"
    " in the lab report",
    "holdout": "the test accuracy of the epoch that a holdout of the training split chose",
}
_CLAIMS_NOTE = (
    "A claim stands for one or several inequalities, each with the 95% interval of its paired"
    " difference. It is supported where all of them are (its p value is their largest one) and"
    " contradicted where one of them is (the smallest one, times their number), after Holm's"
    f" correction over the claims that are tested, at {LEVEL:.2f}; else it is undecided."
)
_CAVEAT = (
    "The lab report's numbers are of its own protocol and data, ours are not ({reasons}): how far"
    " the two are apart says nothing of the report's correctness, and our verdicts are on this"
    " protocol."
)
_PICTURES = {
    "curves": "Accuracy over the epochs: mean of the seeds, and from the lowest to the highest, as"
    " far as all seeds go",
    "differences": "Difference of each arm to the baseline, with its uncorrected 95% interval; a"
    " coloured dot where the corrected test sees a difference, else a grey diamond",
    "seeds": "Accuracy of every seed",
    "class_accuracy": "Share of each class that each arm gets right, mean over the seeds",
    "confusion": "Confusion matrices, mean over the seeds, in percent of the true class",
    "confusion_difference": "Confusion matrices minus the baseline's, in points",
}


def write(comparison: Comparison, folder: Path) -> Path:
    """Writes comparison.md, .csv, .html and the pictures comparison_*.png.

    Returns:
        The path of the page.
    """
    reduced = _reduced(comparison)
    drawn = {}
    for name, figure in _draw(comparison).items():
        if figure is not None:
            if reduced:  # a picture is shown without its page as well
                pictures.annotate(figure, reduced)
            drawn[name] = plots.png(figure)
    for name, content in drawn.items():
        files.write_bytes(folder / f"comparison_{name}.png", content)
    contents = _contents(comparison)
    files.write_text(folder / "comparison.csv", tables.to_csv(comparison))
    files.write_text(folder / "comparison.md", _markdown(contents, drawn))
    rendered = render("comparison.html.j2", drawn, **contents, captions=_PICTURES)
    page = folder / "comparison.html"
    files.write_text(page, rendered)
    return page


def _reduced(comparison: Comparison) -> str:
    """The sentence on a protocol that is not that of the experiment files; "" if it is."""
    departures = tables.describe_departures(comparison)
    return f"Not the protocol of the experiment files: {departures}." if departures else ""


def _draw(comparison: Comparison) -> dict[str, Any]:
    arms = comparison.arms
    class_names = list(comparison.baseline.first.summary["classes"])
    same = all(list(arm.first.summary["classes"]) == class_names for arm in arms)
    others = any(arm.difference is not None for arm in arms)
    return {
        "curves": pictures.curves(arms),
        "differences": pictures.forest(arms) if others else None,
        "seeds": pictures.dots(arms),
        "class_accuracy": pictures.class_accuracy(arms, class_names) if same else None,
        "confusion": pictures.confusions(arms, class_names) if same else None,
        "confusion_difference": (
            pictures.confusion_differences(arms, class_names) if same and others else None
        ),
    }


def _contents(comparison: Comparison) -> dict[str, Any]:
    """Everything that the page and the Markdown show, but for the pictures."""
    first = comparison.baseline.first
    config, summary = first.config, first.summary
    # What the arms differ in is no common protocol.
    varied = {path for arm in comparison.arms for path in arm.changes}
    parts = {
        "data.name": summary["dataset"],
        "data.train_examples": f"{summary['train_examples']:,} training examples",
        "data.test_examples": f"{summary['test_examples']:,} test examples",
        "train.epochs": _count(config.train.epochs, "epoch"),
        "train.batch_size": f"batch {config.train.batch_size}",
        "optimizer.name": config.optimizer.name,
        "optimizer.learning_rate": f"learning rate {config.optimizer.learning_rate:g}",
        "model.dtype": config.model.dtype,
        "": summary["device"],
    }
    departures = tables.describe_departures(comparison)
    reasons = [departures] if departures else []
    if not is_original(config.data.name, summary["dataset"]):
        reasons.append(f"the data: {summary['dataset']}")
    explanation = _EXPLANATION.format(accuracy=_ACCURACY[config.data.validation])
    if comparison.tests:
        explanation += _TESTS.format(tests=_count(comparison.tests, "comparison"), level=LEVEL)
    claims = comparison.tested_claims
    return {
        "title": comparison.title,
        "baseline": comparison.baseline.name,
        "arms": comparison.arms,
        "protocol": ", ".join(text for path, text in parts.items() if path not in varied),
        "reduced": _reduced(comparison),
        "caveat": _CAVEAT.format(reasons="; ".join(reasons)) if reasons else "",
        "notes": comparison.notes,
        "explanation": explanation,
        "accuracy": tables.accuracy_table(comparison),
        "training": tables.training_table(comparison),
        "report": tables.report_table(comparison),
        "claims": claims,
        "untested": [claim.number for claim in comparison.claims if claim not in claims],
        "claims_note": _CLAIMS_NOTE,
        "statement_text": tables.statement_text,
        "verdict_text": tables.verdict_text,
        "changes": tables.changes_table(comparison),
        "command": comparison.command,
        "runs": [run for arm in comparison.arms for run in arm.runs.values()],
        "versions": summary["versions"],
    }


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _markdown(contents: dict[str, Any], drawn: dict[str, bytes]) -> str:
    lines = [f"# {contents['title']}", "", contents["protocol"], ""]
    if contents["reduced"]:
        lines += [f"**{contents['reduced']}**", ""]
    for note in contents["notes"]:
        lines += [f"Note: {note}", ""]
    lines += [contents["accuracy"].markdown(), contents["explanation"], ""]
    lines += ["## Training", "", contents["training"].markdown()]
    if contents["report"] is not None:
        lines += ["## The lab report's table", "", contents["caveat"], ""]
        lines += [contents["report"].markdown()]
    if contents["claims"]:
        lines += ["## Claims", ""]
        if contents["report"] is None:
            lines += [contents["caveat"], ""]
        lines += [tables.claims_table(contents["claims"]).markdown(), contents["claims_note"]]
        if contents["untested"]:
            lines += ["", f"Not tested here: {', '.join(map(str, contents['untested']))}."]
        lines += [""]
    if contents["changes"].rows:
        lines += ["## What differs", "", contents["changes"].markdown()]
    lines += ["## Pictures", ""]
    lines += [f"![{_PICTURES[name]}](comparison_{name}.png)\n" for name in drawn]
    lines += ["## Commands", ""]
    commands = [contents["command"]] if contents["command"] else []
    commands += [run.command for run in contents["runs"]]
    lines += ["```bash", *commands, "```"]
    return "\n".join(lines) + "\n"
