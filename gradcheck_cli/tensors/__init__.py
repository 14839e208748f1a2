"""Files to tensors; the only place that opens input.

Whatever the container, a ``Tensor`` is a descriptor, an offset, a stored type, a shape and an order, and
``Rows`` reads any range of its rows.
"""

from __future__ import annotations

from gradcheck_cli.tensors.conversion import decoded
from gradcheck_cli.tensors.decimals import Decimals
from gradcheck_cli.tensors.dtypes import UNJUDGED
from gradcheck_cli.tensors.location import Location, locate
from gradcheck_cli.tensors.opening import Container, member_of, open_container, open_tensor
from gradcheck_cli.tensors.rows import Rows
from gradcheck_cli.tensors.tensor import Tensor

__all__ = [
    "UNJUDGED",
    "Container",
    "Decimals",
    "Location",
    "Rows",
    "Tensor",
    "decoded",
    "locate",
    "member_of",
    "open_container",
    "open_tensor",
]
