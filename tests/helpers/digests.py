"""The digests of what the thirteen networks compute, kept from one revision to the next.

python -m tests.helpers.digests     # writes them anew; say in the commit why they changed
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

from benchmarks.noise import draw_dataset
from flaxlab import files
from flaxlab.config.find import experiment_file
from flaxlab.data.shape import resolve_config
from flaxlab.run.fingerprint import TRACERS, fingerprints
from flaxlab.training.experiment import assemble
from tests.helpers.report_facts import PARAMETERS

RECORD = Path(__file__).with_name("digests.json")


def digests(name: str) -> dict[str, str]:
    """Returns today's digests of an experiment, by part."""
    config = resolve_config(experiment_file(name, []), ["--config.train.devices=1"])
    return fingerprints(assemble(config, draw_dataset(config, config.train.batch_size)))


def main() -> None:
    """Writes the record."""
    record = {
        "versions": {package: metadata.version(package) for package in TRACERS},
        "digests": {name: digests(name) for name in PARAMETERS},
    }
    files.write_text(RECORD, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
