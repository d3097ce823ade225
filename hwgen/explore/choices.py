"""What `quantize` and `build` leave to hwgen: the way to quantize (`--auto`), the bits of each layer's weights (`--bits auto`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hwgen import __version__
from hwgen.arrays import AnyArray
from hwgen.config import HardwareConfig
from hwgen.emit.render import render
from hwgen.explore.auto import Choice, choose
from hwgen.explore.budget import Budget
from hwgen.explore.mixed import mix, mixture_json
from hwgen.explore.table import Json
from hwgen.ir.graph import Graph
from hwgen.network import Labels
from hwgen.progress import Progress
from hwgen.quantize import QuantizeOptions
from hwgen.report.pareto import Mixed, mixed_view


class Choices:
    """Chooses options for `load_network`, and remembers what was tried: `choice` of the way to quantize, `mixture` as report.json holds it."""

    def __init__(self, hardware: HardwareConfig, *, auto: bool, budget: Budget | None = None) -> None:
        self.hardware, self.auto, self.budget = hardware, auto, budget
        self.choice: Choice | None = None
        self.mixture: Json | None = None
        self.network = ""

    def __call__(self, graph: Graph, arrays: Mapping[str, AnyArray], labels: Labels | None, base: QuantizeOptions, progress: Progress) -> QuantizeOptions:
        """Raises DataError for too few calibration inputs, QuantizationError for a budget that cannot be met."""
        self.network = graph.name
        options = base
        if self.auto:
            self.choice = choose(graph, arrays, labels, self.hardware, base, progress)
            options = self.choice.best.options
        if self.budget is not None:
            found = mix(graph, arrays, self.hardware, options, self.budget, progress)
            self.mixture = mixture_json(found, graph)
            options = replace(options, layer_weights=found.layer_weights(found.found.best))
        return options


def chooser(hardware: HardwareConfig, *, auto: bool, budget: Budget | None) -> Choices | None:
    """None where the user left nothing open."""
    return Choices(hardware, auto=auto, budget=budget) if auto or budget else None


@dataclass(frozen=True, kw_only=True)
class MixedPage:
    """The template's variables."""

    network: str
    version: str
    hardware: str
    mixed: Mixed | None


def render_mixture(choices: Choices) -> bytes:
    """The page of a mixed-precision search."""
    page = MixedPage(network=choices.network, version=__version__, hardware=choices.hardware.name, mixed=mixed_view(choices.mixture))
    return render("report/mixed.html", page).encode()
