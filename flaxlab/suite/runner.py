"""Does the runs of a suite in this process, and writes what the suite fixes before them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax

from flaxlab.claims import claims_to_json
from flaxlab.compare.procedures import ANYTIME, PAIRED
from flaxlab.compare.suite_file import SuiteRecord, read_suite_file, write_suite_file
from flaxlab.errors import RunFailed, UsageError
from flaxlab.run.directory import SUITE_FILE, record_failure
from flaxlab.run.origin import read_origin
from flaxlab.run.run import train_and_report
from flaxlab.suite.plan import Plan, suite_record
from flaxlab.suite.progress import SuiteProgress
from flaxlab.suite.runs import SuiteRun
from flaxlab.training.programs import compile_programs

_log = logging.getLogger(__name__)


def do_runs(runs: Sequence[SuiteRun], progress: SuiteProgress) -> dict[Path, str]:
    """Does the runs that are not finished; a failed one does not stop the others.

    Args:
        runs: runs arm by arm: those of an arm share its compiled programs.
        progress: shows the runs.

    Returns:
        {run directory: reason} for the runs that failed; the traceback is in its failure.txt.
    """
    reasons: dict[Path, str] = {}
    compiled = None
    with progress:
        for run in runs:
            if run.finished:
                continue
            arm = run.experiment
            if arm is not compiled:
                if compiled is not None:
                    # On a CPU an arm's programs take some 200 of the 65,530 memory mappings that
                    # Linux allows a process by default: a sweep of 300 arms would crash.
                    jax.clear_caches()
                programs = compile_programs(arm)
                compiled = arm
            progress.run_begins(run)
            summary = None
            try:
                record = read_suite_file(run.folder.parents[1])
                origin = read_origin(run.arm.file, arm.config)
                if record is not None:
                    origin = replace(origin, suite=record.digest, suite_name=record.name)
                summary = train_and_report(
                    arm.with_seed(run.seed),
                    origin,
                    run.folder,
                    progress,
                    _arguments(run),
                    programs,
                )
            except Exception as error:  # whatever it is, the other runs can go on
                reasons[run.folder] = _describe(error)
                _log.warning("failed: %s: %s", run, _describe(error))
                record_failure(run.folder)
            progress.run_ends(run, summary)
    return reasons


def with_recorded_rules(plan: Plan, workdir: Path) -> Plan:
    """Returns the plan with the rules that suite.json in `workdir` has fixed, if there is one.

    Raises:
        UsageError: suite.json cannot be read.
    """
    record = read_suite_file(workdir)
    if record is None:
        return plan
    return replace(plan, **record.rules)


def write_record(plan: Plan, workdir: Path, command: str) -> None:
    """Writes suite.json, which a comparison reads.

    Its baseline, its claims and rules remain those of the first start, since they must precede the
    runs, and no planned arm or seed is forgotten. Where the seeds have changed since, it says how
    many there were before.

    Raises:
        UsageError: an existing suite.json cannot be read, or was written for a test that does not
            allow to add seeds at will, which this plan's does.
    """
    record, before = suite_record(plan, command), read_suite_file(workdir)
    if before is not None:
        fixed = {"baseline": before.baseline, "claims": before.claims, **before.rules}
        if (before.test, record.test) == (ANYTIME, PAIRED):  # it allows what the paired test does
            record = replace(record, test=ANYTIME, at_most=before.at_most)
        elif record.test == ANYTIME != before.test:
            raise UsageError(
                f'the suite in {workdir} was started with test="{before.test}", which does not'
                " allow adding seeds until a verdict is reached; use another --workdir for that"
            )
        changed = _changed(before, record)
        if changed:
            _log.warning(
                "warning: %s of the suite %s changed since it was first started; what was written"
                " then counts, unless you remove %s and start again",
                ", ".join(changed),
                plan.name,
                workdir / SUITE_FILE,
            )
        seeds = tuple(sorted({*before.seeds, *record.seeds}))
        looks = before.looks if seeds == before.seeds else (*before.looks, len(before.seeds))
        arms = {**before.arms, **record.arms}
        noted = tuple(dict.fromkeys([*before.changed, *changed]))
        record = replace(record, seeds=seeds, arms=arms, looks=looks, changed=noted, **fixed)
    write_suite_file(record, workdir)


def _changed(before: SuiteRecord, now: SuiteRecord) -> list[str]:
    """Names the claims and rules, and the baseline, that are not those of the first start."""
    rules = ["baseline", *before.rules]
    old, new = (claims_to_json(record.claims) for record in (before, now))
    return [
        *(name for name in rules if getattr(before, name) != getattr(now, name)),
        *(
            f"claim {number}"
            for number in sorted({*old, *new})
            if old.get(number) != new.get(number)
        ),
    ]


def _arguments(run: SuiteRun) -> list[str]:
    here, file = Path.cwd(), run.arm.file
    if file.is_relative_to(here):
        file = file.relative_to(here)
    overrides = [*run.arm.overrides, f"--config.seed={run.seed}"]
    return [f"--config={file}", *overrides, f"--workdir={run.folder}"]


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UsageError | RunFailed) else f"{type(error).__name__}: {text}"
