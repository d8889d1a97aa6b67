"""Writes the tables of README, docs/results.md and docs/experiments.md.

Our numbers are from the runs that are kept in results/, the lab report's from the experiment files.

    python docs/update_results.py

`make results` does that, and draws the comparison of each suite to build/results/. The tests check
that the tables are those of the runs, with the functions of this file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from flaxlab.claims import Claim
from flaxlab.compare.claims_table import claims_table
from flaxlab.compare.comparison import arm_outcomes, judge_claims
from flaxlab.compare.outcomes import Design, outcomes_of, scored_runs
from flaxlab.compare.runs import Run, computed_on, find_runs, group_by_arm
from flaxlab.compare.statistics import Estimate, mean_interval, prediction_interval
from flaxlab.compare.suite_file import merge_claims, read_suite_file
from flaxlab.compare.verdicts import NOT_TESTED
from flaxlab.config.find import experiment_file
from flaxlab.config.read import load_experiment, load_lab_report
from flaxlab.data.catalog import CATALOG, is_original

ROOT = Path(__file__).resolve().parents[1]
README, RESULTS, LEDGER = ROOT / "README.md", ROOT / "docs/results.md", ROOT / "results"
EXPERIMENTS = ROOT / "docs/experiments.md"

# A row of a table of experiments.
_ROW = re.compile(r"^\| \[`(\w+)`\]\((?:\.\./)?experiments/\w+\.py\) \|.*\|$", re.MULTILINE)
_BLOCK = re.compile(r"(<!-- from results/: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

_NOT_RUN = "not run yet"


def arms(ledger: Path = LEDGER) -> dict[str, dict[int, Run]]:
    """Returns {experiment: {seed: run}} of a ledger."""
    folders = [folder for folder in sorted(ledger.glob("*")) if list(folder.rglob("summary.json"))]
    return group_by_arm(find_runs(folders)[0]) if folders else {}


def claims(ledger: Path = LEDGER) -> dict[int, Claim]:
    """Returns the claims of the suites of a ledger, by number."""
    suites = [read_suite_file(file.parent) for file in sorted(ledger.glob("*/suite.json"))]
    return merge_claims([suite for suite in suites if suite is not None])[0]


def readme_text(text: str, found: dict[str, dict[int, Run]]) -> str:
    """Returns the README with the numbers of its table: the lab report's, and ours."""
    return _ROW.sub(lambda row: _ending(row, _said(row[1]), _ours(found.get(row[1], {}))), text)


def experiments_text(text: str) -> str:
    """Returns docs/experiments.md with the lab report's numbers in the last column of its table."""
    return _ROW.sub(lambda row: _ending(row, _said(row[1])), text)


def _ending(row: re.Match[str], *last: str) -> str:
    cells = row[0].strip("| ").split(" | ")
    return f"| {' | '.join([*cells[: -len(last)], *last])} |"


def _said(name: str, scale: float = 1, form: str = ".4f") -> str:
    report = load_lab_report(experiment_file(name, []))
    if report is None:
        return "not stated"
    final = format(report.final_accuracy * scale, form)
    if report.best_accuracy is None:
        return final
    return f"{final} ({format(report.best_accuracy * scale, form)})"


def results_text(
    text: str,
    found: dict[str, dict[int, Run]],
    experiments: list[str],
    said: Mapping[int, Claim],
) -> str:
    """Returns docs/results.md with its tables written anew.

    Args:
        text: the page.
        found: see `arms`.
        experiments: see `experiments_of`.
        said: see `claims`.
    """
    outcomes = arm_outcomes(found, (), Design())
    judged = judge_claims(said, found, outcomes)
    judged = [each for each in judged if each.verdict.word != NOT_TESTED]
    tables = {
        "experiments": "\n".join(
            [
                "| experiment | data | lab report: last (best) epoch, % | ours, last epoch, %"
                " | ours, best epoch, % | seeds | one further run of ours, % | report's number"
                " inside | machine | revision |",
                "|---|---|---|---|---|---|---|---|---|---|",
                *(_row(name, found.get(name, {})) for name in experiments),
            ]
        ),
        "claims": claims_table(judged).markdown().rstrip() if judged else "None has them yet.",
    }
    return _BLOCK.sub(lambda block: f"{block[1]}\n{tables[block[2]]}\n\n{block[3]}", text)


def experiments_of(readme: str) -> list[str]:
    """Lists the experiments of the README's table, in its order."""
    return [row[1] for row in _ROW.finditer(readme)]


def _ours(seeds: dict[int, Run]) -> str:
    if not seeds:
        return _NOT_RUN
    runs = _scored(seeds)
    final = _figure(mean_interval([run.scores.final_accuracy for run in runs]).clipped(), 1, ".4f")
    best = mean_interval([run.scores.best_accuracy for run in runs]).mean
    return f"{final} ({best:.4f}), {_count(len(seeds))}{_lost(seeds)}{_title(seeds)}"


def _scored(seeds: dict[int, Run]) -> list[Run]:
    return list(scored_runs(seeds, outcomes_of(seeds, (), (), Design())).values())


def _lost(seeds: dict[int, Run]) -> str:
    lost = outcomes_of(seeds, (), (), Design()).lost
    return f", {lost}" if lost else ""


def _title(seeds: dict[int, Run]) -> str:
    first = next(iter(seeds.values()))
    title = first.summary["dataset"]
    return "" if is_original(first.config.data.name, title) else f", {title}"


def _count(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def _row(name: str, seeds: dict[int, Run]) -> str:
    file = experiment_file(name, [])
    reported, said = load_lab_report(file), _said(name, 100, ".2f")
    if not seeds:
        data = CATALOG[load_experiment(file).data.name].title
        cells = [f"`{name}`", data, said, _NOT_RUN, *[""] * 6]
        return f"| {' | '.join(cells)} |"
    first = next(iter(seeds.values()))
    final = [run.scores.final_accuracy for run in _scored(seeds)]
    best = [run.scores.best_accuracy for run in _scored(seeds)]
    further = prediction_interval(final).clipped()
    inside = ""
    if reported is not None:
        contains = further.contains(reported.final_accuracy)
        inside = further.no_interval if contains is None else ("yes" if contains else "no")
    cells = [
        f"`{name}`",
        first.summary["dataset"],
        said,
        _figure(mean_interval(final).clipped(), 100, ".2f"),
        _figure(mean_interval(best).clipped(), 100, ".2f"),
        ", ".join(map(str, seeds)) + _lost(seeds),
        _bounds(further),
        inside,
        _distinct(computed_on(run) for run in seeds.values()),
        _distinct(f"`{run.summary['versions']['git']}`" for run in seeds.values()),
    ]
    return f"| {' | '.join(cells)} |"


def _distinct(texts) -> str:
    return ", ".join(dict.fromkeys(texts))


def _figure(estimate: Estimate, scale: float, form: str) -> str:
    text = format(estimate.mean * scale, form)
    return text if estimate.low is None else f"{text} [{_bounds(estimate, scale, form, ', ')}]"


def _bounds(estimate: Estimate, scale: float = 100, form: str = ".2f", between=" to ") -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{format(estimate.low * scale, form)}{between}{format(estimate.high * scale, form)}"


if __name__ == "__main__":
    kept = arms()
    readme = README.read_text()
    README.write_text(readme_text(readme, kept))
    EXPERIMENTS.write_text(experiments_text(EXPERIMENTS.read_text()))
    RESULTS.write_text(results_text(RESULTS.read_text(), kept, experiments_of(readme), claims()))
    print(f"wrote the tables of {README.name}, {EXPERIMENTS.name} and {RESULTS.name}")
