"""softgrad tells whether a softmax / cross-entropy gradient is right, from exported tensors.

``from gradcheck_cli import check, assert_gradient`` does so for arrays; see :mod:`gradcheck_cli.api`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradcheck_cli.api import Result as Result
    from gradcheck_cli.api import assert_gradient as assert_gradient
    from gradcheck_cli.api import check as check
    from gradcheck_cli.errors import InputError as InputError
    from gradcheck_cli.errors import SoftgradError as SoftgradError
    from gradcheck_cli.errors import UsageError as UsageError

__all__ = ["InputError", "Result", "SoftgradError", "UsageError", "assert_gradient", "check"]


class _Package(ModuleType):
    """A package in which `check` is the function, also once the module of that name has been imported.

    The import system binds a module to its name in the package; here that binding is let go.
    """

    @property
    def check(self) -> Any:
        """The function of :mod:`gradcheck_cli.api`."""
        from gradcheck_cli import api  # noqa: PLC0415 - import gradcheck_cli stays light

        return api.check

    @check.setter
    def check(self, module: ModuleType) -> None:
        """Let go of the module, which stays importable by its full name."""


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Return what is asked for, imported now."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gradcheck_cli import api  # noqa: PLC0415 - as above

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
