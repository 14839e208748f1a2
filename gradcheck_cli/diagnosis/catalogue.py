"""Every bug of a gradient that rows show by themselves, in the order in which ties are broken."""

from __future__ import annotations

from gradcheck_cli.diagnosis.bug import Bug
from gradcheck_cli.diagnosis.chain import CHAIN
from gradcheck_cli.diagnosis.extras import LINK, Z_LOSS
from gradcheck_cli.diagnosis.labels import IGNORED, LABELS
from gradcheck_cli.diagnosis.memory import LOST, MEMORY
from gradcheck_cli.diagnosis.numerics import NUMERICS
from gradcheck_cli.diagnosis.scale import SCALES
from gradcheck_cli.diagnosis.scratch import SCRATCH
from gradcheck_cli.diagnosis.smoothing import SMOOTHING, WEIGHTS
from gradcheck_cli.diagnosis.softmax import SOFTMAX
from gradcheck_cli.diagnosis.upstream import ROW_FACTORS, UPSTREAM

CHANGES: tuple[Bug, ...] = (
    *UPSTREAM, *SMOOTHING, *WEIGHTS, *LABELS, *IGNORED, *LINK, *Z_LOSS, *SOFTMAX, *CHAIN,
    *NUMERICS, *MEMORY, *SCRATCH, *LOST,
)  # fmt: skip
"""Bugs that change the recipe; made one after the other in this order where there are two."""

EVERY: tuple[Bug, ...] = (*SCALES, *ROW_FACTORS, *CHANGES)
