"""What a comparison's page and tables say around their numbers."""

from __future__ import annotations

from typing import Any

from flaxlab import config as configs
from flaxlab.compare import tables
from flaxlab.compare.claims_table import claim_verdict_text, part_texts
from flaxlab.compare.procedures import ANYTIME, PAIRED, WELCH
from flaxlab.compare.results import Comparison
from flaxlab.compare.runs import computed_on
from flaxlab.compare.sheet import sheet
from flaxlab.compare.statistics import LEVEL, seeds_for_sign_flips
from flaxlab.data.catalog import is_original
from flaxlab.texts import count_text

_EXPLANATION = (
    "Accuracy is {accuracy}. Intervals of accuracies are Student's t over the seeds whose runs"
    " learned."
)
_SEED_BY_SEED = (
    " A difference is taken seed by seed: the same seed draws the same initial values for shared"
    " layers and the same order of examples in every arm. Intervals of differences and p values"
    " are those of "
)
_TEST = {
    PAIRED: _SEED_BY_SEED + "the paired t test",
    WELCH: " Arms are compared without regard to their seeds, as the suite fixed before its runs."
    " Intervals of differences and p values are those of Welch's t test",
    ANYTIME: " Intervals of single accuracies and shares are those for a fixed number of seeds."
    + _SEED_BY_SEED
    + "a paired t test that stays valid however often seeds are added (Wang and Ramdas, 2023)",
}
_TESTS = (
    "{test}, corrected for {tests} (Bonferroni), so that in at least 95% of such comparisons all"
    " intervals contain the true differences at once; an arm is better or worse if its interval"
    " excludes 0.{region}{flips} The smallest detectable difference is the smallest true one that"
    " so many seeds detect with a power of at least 80%, provided that the true spread is below the"
    " upper 80% confidence limit of the measured one."
)
_REGION = (
    " It is equivalent if the interval of the two one-sided tests lies within {points:g} points,"
    " which the suite fixed before its runs."
)
_NO_FLIPS = (
    " The sign-flip test, which assumes no normal distribution, needs {needed} seeds for that many"
    " comparisons and is left out."
)
_COLLAPSE = (
    "A run has collapsed unless its accuracy exceeds that of guessing by at least {margin:.0%} of"
    " the gap between guessing and 100%, a rule {fixed}. It has diverged if a loss or gradient was"
    " NaN or infinite, and failed if any other error ended it. Means, intervals and differences"
    " cover only the runs that learned: they say what a network reaches when it learns, and this"
    " table says how often it does not. Shares have exact binomial intervals."
)
_EFFECTS_NOTE = (
    "The effect of a change is averaged over all combinations of the other changes, seed by seed,"
    " using the seeds with which all arms learned. A row that names several changes with × is their"
    " interaction: for two, how much larger the effect of one is where the other is made."
    " Intervals and p values are corrected for the number of effects."
)
_FRACTION = (
    " Only a fraction of the combinations was run: each row is the sum of effects that it names,"
    " and these cannot be told apart."
)
_NOISE_NOTE = (
    "Two runs differ because of their seeds, and because each gets a different part of the test"
    " images right. The second column shows how much equally good runs would differ on this split"
    " (Jordan, 2023). The next three columns are standard errors of the mean difference: for other"
    " seeds on these images, for these seeds on other images, and for both. The last two columns"
    " compare the uncorrected paired interval with Welch's, which ignores the pairing."
)
_ACCURACY = {
    "test": "the validation accuracy after the last epoch, where validation is the test"
    " split{as_reported}",
    "holdout": "the test accuracy of the epoch that a holdout of the training split chose",
}
_LATE = (
    " The arms are judged by the mean accuracy of the last three epochs, as the suite fixed before"
    " its runs."
)
_CLAIMS_NOTE = (
    "A claim is supported if all of its parts are, contradicted if one of them is, and else"
    " undecided. Parts are decided by {test}, at {level:.2f} after a correction for their number"
    " (Hochberg) and for that of the claims (Bonferroni)."
)
_CLAIMS_TEST = {
    PAIRED: "the paired t test, or by the exact binomial test where they are about a share of runs",
    WELCH: "Welch's t test, or by the exact binomial test where they are about a share of runs",
    ANYTIME: "tests that stay valid however often seeds are added",
}
_CAVEAT = (
    "The lab report used its own protocol and data; these runs did not ({reasons}). The gap between"
    " them says nothing of the report's correctness, and our verdicts hold for this protocol only."
)


def contents(comparison: Comparison) -> dict[str, Any]:
    """Returns everything that the page and the Markdown show, but for the pictures, by name."""
    first = comparison.baseline.first
    config, summary = first.config, first.summary
    departures = comparison.departures_text
    known = any(arm.first.lab_report is not None for arm in comparison.arms)
    reasons = [departures] if known and departures else []
    if known and not is_original(config.data.name, summary["dataset"]):
        reasons.append(f"the data: {summary['dataset']}")
    claims = comparison.tested_claims
    return {
        "title": comparison.title,
        "baseline": comparison.baseline.name,
        "arms": comparison.arms,
        "protocol": protocol(comparison),
        "reduced": reduced(comparison),
        "caveat": _CAVEAT.format(reasons="; ".join(reasons)) if reasons else "",
        "notes": comparison.notes,
        "explanation": explanation(comparison),
        "accuracy": tables.accuracy_table(comparison),
        "outcomes": tables.outcomes_table(comparison),
        "outcomes_note": _COLLAPSE.format(
            margin=comparison.design.collapsed_margin,
            fixed="fixed before the runs" if comparison.design.seeds else "of flaxlab's own",
        ),
        "effects": tables.effects_table(comparison),
        "effects_note": _EFFECTS_NOTE
        + (_FRACTION if any(effect.aliases for effect in comparison.effects) else ""),
        "noise": tables.noise_table(comparison),
        "noise_note": _NOISE_NOTE,
        "training": tables.training_table(comparison),
        "sheet": sheet(comparison),
        "report": tables.report_table(comparison),
        "claims": claims,
        "untested": [claim.number for claim in comparison.claims if claim not in claims],
        "claims_note": _CLAIMS_NOTE.format(test=_CLAIMS_TEST[comparison.design.test], level=LEVEL),
        "part_texts": part_texts,
        "claim_verdict_text": claim_verdict_text,
        "changes": tables.changes_table(comparison),
        "command": comparison.command,
        "runs": [run for arm in comparison.arms for run in arm.runs.values()],
        "versions": summary["versions"],
    }


def _tests(comparison: Comparison) -> str:
    points = comparison.design.equivalent_within * 100
    needed = seeds_for_sign_flips(comparison.comparisons)
    enough = any(arm.difference and arm.difference.sign_flip_p for arm in comparison.arms)
    return _TESTS.format(
        test=_TEST[comparison.design.test],
        tests=count_text(comparison.comparisons, "comparison"),
        region=_REGION.format(points=points) if points else "",
        flips="" if enough or comparison.design.test != PAIRED else _NO_FLIPS.format(needed=needed),
    )


def reduced(comparison: Comparison) -> str:
    """Returns the sentence on a protocol that is not the experiment files'; "" if it is."""
    departures = comparison.departures_text
    return f"Not the protocol of the experiment files: {departures}." if departures else ""


def protocol(comparison: Comparison) -> str:
    """Returns what all arms have in common, in a line: data, training, machines."""
    first = comparison.baseline.first
    config, summary = first.config, first.summary
    runs = [run for arm in comparison.arms for run in arm.runs.values()]
    # What the arms differ in is no common protocol.
    varied = {path for arm in comparison.arms for path in arm.changes}
    parts = {
        "data.name": summary["dataset"],
        "data.train_examples": f"{summary['train_examples']:,} training examples",
        "data.test_examples": f"{summary['test_examples']:,} test examples",
        "train.epochs": count_text(config.train.epochs, "epoch"),
        "train.batch_size": f"batch {config.train.batch_size}",
        "optimizer.name": config.optimizer.name,
        "optimizer.learning_rate": f"learning rate {config.optimizer.learning_rate:g}",
        "model.dtype": configs.dtype_of(config),
        "": "; ".join(sorted({computed_on(run) for run in runs})),
    }
    return ", ".join(text for path, text in parts.items() if path not in varied)


def explanation(comparison: Comparison) -> str:
    """Returns what accuracies, intervals and p values of the comparison are."""
    validation = comparison.baseline.first.config.data.validation
    reported = any(arm.reported is not None for arm in comparison.arms)
    as_reported = ", as in the lab report" if reported else ""
    accuracy = _ACCURACY[validation].format(as_reported=as_reported)
    text = _EXPLANATION.format(accuracy=accuracy)
    if comparison.design.outcome == "late_accuracy":
        text += _LATE
    return text + _tests(comparison) if comparison.tested else text
