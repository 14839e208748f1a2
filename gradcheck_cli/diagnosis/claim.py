"""A hypothesis that is put to every entry of the file."""

from __future__ import annotations

from gradcheck_cli.diagnosis.hypothesis import Hypothesis
from gradcheck_cli.records import dataclass


@dataclass(frozen=True)
class Claim:
    """What a hypothesis explains of the file."""

    hypothesis: Hypothesis
    loose: bool

    @property
    def scale_alone(self) -> float | None:
        """Return the factor of all entries, where the hypothesis is nothing else."""
        alone = not (self.hypothesis.changes or self.hypothesis.row or self.loose)
        scale = self.hypothesis.scale
        return scale.variant.value if alone and scale is not None else None
