"""One node of a symbolic trace for each function of this package, whatever it asks of its inputs.

:mod:`torch.fx` runs a network on stand-ins that have neither shape nor dtype, so that a check of either fails.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from torch.fx import Proxy

__all__ = ["leaf"]

P = ParamSpec("P")
R = TypeVar("R")


def leaf(function: Callable[P, R]) -> Callable[P, R]:
    """Let :mod:`torch.fx` record a call of a function as it stands, when the first argument is a stand-in.

    :func:`torch.fx.wrap` does this only where the function is looked up in the module that wraps it.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        first: Any = args[0]
        if isinstance(first, Proxy):
            return first.tracer.create_proxy("call_function", call, args, kwargs)  # type: ignore[return-value]
        return function(*args, **kwargs)

    return call
