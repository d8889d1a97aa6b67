"""The file suite.json in a folder of runs: which suite they are of, and what it claims.

A suite writes it before its first run. A comparison reads it, and so judges runs by what was
claimed before they were made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from flaxlab import files
from flaxlab.claims import Claim, claims_from_json, claims_to_json
from flaxlab.compare.outcomes import Design
from flaxlab.compare.procedures import TESTS
from flaxlab.compare.rules import OUTCOMES, Rules
from flaxlab.config import LabReport
from flaxlab.errors import UsageError
from flaxlab.run.directory import SUITE_FILE


@dataclass(frozen=True)
class SuiteRecord(Rules):
    """What a suite's folder says of its runs, and the rules by which they are judged.

    Attributes:
        name: name of the suite.
        baseline: name of the arm that the others are compared with.
        arms: what the lab report has of each arm, by name, the baseline first.
        seeds: seeds of each arm.
        vary: fields in which the arms may depart from their files: those that are swept, and those
            that variants change.
        experiment: name of the swept experiment; None for a suite.
        claims: by number.
        looks: with how many seeds the arms were compared before seeds were added.
        at_most: see `flaxlab.suite.plan.Plan`.
        command: command that started the suite.
        changed: what the suite's file said otherwise when it was started again, such as "claim 1";
            it does not count.
        notes: sentences for the page.
    """

    name: str
    baseline: str
    arms: Mapping[str, LabReport | None]
    seeds: tuple[int, ...]
    vary: tuple[str, ...]
    experiment: str | None
    claims: Mapping[int, Claim]
    looks: tuple[int, ...]
    command: str
    at_most: int | None = None
    changed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The digest of claims and rules, which each run of the suite records when it starts."""
        fixed = {"claims": claims_to_json(self.claims), **self.rules}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def design(self) -> Design:
        """What was fixed before the first run."""
        return Design(
            arms=tuple(self.arms),
            seeds=self.seeds,
            looks=self.looks,
            at_most=self.at_most,
            **self.rules,
        )


def write_suite_file(record: SuiteRecord, folder: Path) -> None:
    """Writes suite.json."""
    arms = {name: {"lab_report": said and asdict(said)} for name, said in record.arms.items()}
    values = vars(record) | {"arms": arms, "claims": claims_to_json(record.claims)}
    files.write_text(folder / SUITE_FILE, json.dumps(values, indent=2) + "\n")


def read_suite_file(folder: Path) -> SuiteRecord | None:
    """Reads suite.json; None where the folder has none.

    Raises:
        UsageError: the file is damaged, or lacks what a comparison needs.
    """
    file = folder / SUITE_FILE
    try:
        values: dict[str, Any] = dict(json.loads(file.read_text()))
        needed = {field.name for field in fields(SuiteRecord) if field.default is MISSING}
        missing = needed - values.keys()
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        if values.get("outcome", Rules.outcome) not in tuple(OUTCOMES):
            raise ValueError(f"its outcome is {values['outcome']!r}")
        if values.get("test", Rules.test) not in TESTS:
            raise ValueError(f"its test is {values['test']!r}")
        return SuiteRecord(
            name=values["name"],
            baseline=values["baseline"],
            arms={
                name: LabReport.from_json(arm["lab_report"]) for name, arm in values["arms"].items()
            },
            seeds=tuple(values["seeds"]),
            vary=tuple(values["vary"]),
            experiment=values["experiment"],
            claims=claims_from_json(values["claims"]),
            collapsed_margin=float(values["collapsed_margin"]),
            equivalent_within=float(values["equivalent_within"]),
            looks=tuple(values["looks"]),
            factors={name: tuple(arms) for name, arms in values["factors"].items()},
            command=values["command"],
            # An older version knew no others.
            outcome=values.get("outcome", Rules.outcome),
            test=values.get("test", Rules.test),
            at_most=values.get("at_most"),
            changed=tuple(values.get("changed", ())),
            notes=tuple(values.get("notes", ())),
        )
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, LookupError, AttributeError, UsageError) as error:
        raise UsageError(
            f"{file} cannot be read ({error}); remove it, and start the suite again to write it"
        ) from error


def changes_after_the_start(suite: SuiteRecord, digests: Mapping[str, str]) -> list[str]:
    """Returns a sentence on each way in which claims or rules have changed since runs were made.

    Args:
        suite: the suite.
        digests: {run directory: digest of claims and rules}, for the runs that recorded one.
    """
    found = []
    if suite.changed:
        found.append(
            f"Since the first run, the file of the suite {suite.name} has changed in:"
            f" {', '.join(suite.changed)}. The first version counts."
        )
    others = sorted(run for run, digest in digests.items() if digest != suite.digest)
    if others:
        found.append(
            f"{SUITE_FILE} of {suite.name} has other claims or rules than those under which"
            f" {len(others)} of {len(digests)} runs were started, such as {others[0]}."
        )
    return found


def merge_claims(suites: Sequence[SuiteRecord]) -> tuple[dict[int, Claim], list[str]]:
    """Returns the claims of several suites, and a sentence on each number that is left out.

    A number is left out where it stands for one claim in one suite and for another in another.
    """
    merged: dict[int, Claim] = {}
    twofold = set()
    for suite in suites:
        for number, claim in suite.claims.items():
            if merged.setdefault(number, claim) != claim:
                twofold.add(number)
    claims = {number: merged[number] for number in sorted(merged.keys() - twofold)}
    return claims, [
        f"Claim {number} is not judged: the suites mean different claims by this number."
        for number in sorted(twofold)
    ]
