"""The lab report's numbers for an experiment's network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LabReport:
    """The lab report's numbers for one network, from one run of ten epochs.

    An experiment file has them in its constant `LAB_REPORT`; a run keeps them in summary.json.

    Attributes:
        data: name of the data set that they were measured on, as in `config.data.name`.
        final_accuracy: validation accuracy after the last epoch, a share.
        best_accuracy: validation accuracy of the best epoch; None if the report does not state it.
    """

    data: str
    final_accuracy: float
    best_accuracy: float | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None) -> LabReport | None:
        """Returns the report that `dataclasses.asdict` turned into `values`; None for None.

        Raises:
            TypeError: `values` has other fields.
        """
        return None if values is None else cls(**values)
