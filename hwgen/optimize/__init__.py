"""Float graph to a smaller float graph of the same meaning. PASSES is the order; each pass is one file."""

from __future__ import annotations

from collections.abc import Callable

from hwgen.ir.graph import Graph
from hwgen.ir.verify import verify
from hwgen.optimize.fold_batch_norm import fold_batch_norm
from hwgen.optimize.fuse_activation import fuse_activation
from hwgen.optimize.fuse_lookup import fuse_lookup
from hwgen.optimize.fuse_pad import fuse_pad
from hwgen.optimize.remove_dead import remove_dead
from hwgen.optimize.remove_identity import remove_identity

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    remove_identity,  # copies would hide neighbours from the passes below
    fold_batch_norm,  # before clamps move into convolutions, which closes them for folding
    fuse_activation,
    fuse_lookup,  # after scales went into convolutions, where they cost nothing
    fuse_pad,  # after clamps are known: a zero under a Relu's result never wins a MaxPool
    remove_identity,
    remove_dead,
)


def optimize(graph: Graph) -> Graph:
    """All passes in order, the graph verified before the first and after the last. Raises ModelError."""
    for rewrite in PASSES:
        graph = rewrite(graph)
    verify(graph)
    return graph
