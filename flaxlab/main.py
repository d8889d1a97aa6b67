"""Command line: runs one experiment, from its config to its report.

Start the same command again after an interruption, and the run goes on from its last epoch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flaxlab import config as configs
from flaxlab.analysis.report import write_report
from flaxlab.analysis.tensorboard import TensorBoardLog
from flaxlab.command_line import load_baseline, resolve_config
from flaxlab.console import ConsoleProgress, print_experiment
from flaxlab.data.load import load_dataset
from flaxlab.errors import CommandParser, UsageError, run_command
from flaxlab.training.experiment import assemble
from flaxlab.training.loop import Observer, fit

_EXAMPLES = """examples:
  python -m flaxlab.main --config=experiments/quickstart.py
  python -m flaxlab.main --config=experiments/alexnet_pool.py --config.train.epochs=3
  python -m flaxlab.main --config=experiments/alexnet_pool.py --config.data.name=digits --show
  python -m flaxlab.main --config=experiments/vgg_default.py --workdir=runs/vgg_1 --config.seed=1

--config.FIELD=VALUE overrides any field of flaxlab/config.py; a tuple is written
--config.model.head_dropout="(0.4, 0.4)".
"""


def main(arguments: Sequence[str]) -> None:
    """Trains, scores and reports; writes everything to the run directory."""
    parser = CommandParser(
        prog="python -m flaxlab.main",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=CommandParser.keep_lines,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, type=Path, help="experiment file")
    parser.add_argument("--workdir", type=Path, help="run directory; default runs/NAME")
    parser.add_argument(
        "--show", action="store_true", help="print config and layers, and train nothing"
    )
    options, overrides = parser.parse_known_args(arguments)
    config = resolve_config(options.config, overrides)
    baseline = load_baseline(options.config, config)
    experiment = assemble(config, load_dataset(config.data))
    console = Console(width=None if sys.stdout.isatty() else 120)
    if options.show or config.log.progress != "none":
        print_experiment(console, experiment, baseline)
    for warning in experiment.warnings():
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    if options.show:
        console.print(configs.to_json(config), highlight=False, markup=False, soft_wrap=True)
        return
    workdir = (options.workdir or Path("runs") / config.name).expanduser()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--workdir={workdir} cannot be made ({error})") from error
    observers: list[Observer] = [ConsoleProgress(console, config.log.progress)]
    if config.log.tensorboard:
        observers.append(TensorBoardLog(workdir))
    result = fit(experiment, workdir, observers)
    summary = write_report(experiment, baseline, result, workdir, arguments)
    line = f"validation accuracy {summary['final_val_accuracy']:.4f}"
    if "test_accuracy" in summary:
        line = f"test accuracy {summary['test_accuracy']:.4f} (epoch {summary['best_epoch']})"
    line = f"{line}; report: {workdir / 'report.html'}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
