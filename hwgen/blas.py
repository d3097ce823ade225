"""BLAS on one thread: the matrices of one block of a batch are too small for BLAS's own threads, whose waiting costs more than it gains.

Measured with ResNet-8 on two processors: 1,500 images/s with one thread, 300 to 1,300 with two, least on a busy machine. Blocks of the
batch on several Python threads gain nothing either.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _libraries() -> ThreadpoolController:
    """The BLAS libraries of this process; finding them takes milliseconds."""
    return ThreadpoolController()


def single_threaded() -> AbstractContextManager[object]:
    """BLAS uses one thread inside, and as many as before outside."""
    context: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return context
