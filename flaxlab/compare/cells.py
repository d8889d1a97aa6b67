"""Cells and tables: text for a reader, and the value that a column is sorted by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flaxlab.compare.statistics import Estimate


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what it shows.
        value: what it is sorted by; None sorts last.
        note: why it shows no more; "" for nothing.
    """

    text: str
    value: float | str | None
    note: str = ""

    @property
    def line(self) -> str:
        """Text and note in one line."""
        return f"{self.text} ({self.note})" if self.note else self.text


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        header: one title a column.
        rows: as long as the header, each.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def markdown(self) -> str:
        """Returns it as a Markdown table."""
        lines = [list(self.header), *([cell.line for cell in row] for row in self.rows)]
        escaped = [[text.replace("|", "\\|") for text in line] for line in lines]
        escaped.insert(1, ["---"] * len(self.header))
        return "\n".join("| " + " | ".join(line) + " |" for line in escaped) + "\n"


def estimate_cell(estimate: Estimate, scale: float, form: str, note: str = "") -> Cell:
    """Returns a mean with its interval, and why there is none where several seeds have none."""
    # A note on the comparison names the arms with one seed.
    notes = [note, estimate.no_interval if estimate.count > 1 else ""]
    return Cell(figure_text(estimate, scale, form), estimate.mean, ", ".join(filter(None, notes)))


def figure_text(estimate: Estimate, scale: float, form: str) -> str:
    """Writes a mean with its interval, in brackets, if there is one."""
    text = form.format(estimate.mean * scale)
    if estimate.low is not None and estimate.high is not None:
        text += f" [{form.format(estimate.low * scale)}, {form.format(estimate.high * scale)}]"
    return text


def mean_cell(estimate: Estimate, scale: float, form: str) -> Cell:
    """Returns a mean alone."""
    return Cell(form.format(estimate.mean * scale), estimate.mean)


def p_cell(p: float | None) -> Cell:
    """Returns a p value; empty for None."""
    if p is None:
        return Cell("", None)
    return Cell(p_text(p).removeprefix("= "), p)


def p_text(p: float) -> str:
    """Writes a p value as "= 0.012" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def points_cell(share: float | None, form: str = "{:.2f}") -> Cell:
    """Returns a share in points; empty for None."""
    return Cell("", None) if share is None else Cell(form.format(share * 100), share)
