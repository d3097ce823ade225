"""The cycle model alone; the tests of the whole machine compare it with the Verilog."""

import pytest
from random_graphs import random_graph
from schedule_support import small

from hwgen.config import PRESETS
from hwgen.errors import CapacityError
from hwgen.isa.fields import Region
from hwgen.isa.instructions import End, Load
from hwgen.schedule import timing
from hwgen.schedule.compile import compile_network
from hwgen.schedule.timing import predict


def test_a_program_that_waits_for_ever_has_no_cycles():
    lonely = (Load(region=Region.INPUT, row_bytes=16, wait_store=1), End())
    with pytest.raises(CapacityError, match=r"^program: command 1 can never be dispatched; tokens that nobody gives are awaited$"):
        predict(lonely, PRESETS["16x16"])


def test_every_command_ends_after_it_began_and_the_end_comes_last():
    loads = [Load(region=Region.INPUT, row_bytes=16 * n) for n in (1, 40, 3)]
    prediction = predict((*loads, End()), PRESETS["16x16"])
    assert all(span.start <= span.end for span in prediction.spans)
    assert prediction.spans[-1].start > max(span.end for span in prediction.spans[:-1])
    assert prediction.total_cycles == prediction.spans[-1].end + 1


@pytest.mark.parametrize("latency_cycles", [1, 7, 40])
def test_what_streams_by_itself_streams_as_if_every_cycle_were_visited(monkeypatch, latency_cycles):
    """Loads are followed without a look at the rest of the machine; whoever looks at every cycle finds the same."""
    networks = [compile_network(random_graph(seed), small("4x4", activation_words=512)) for seed in (1, 2, 3, 5, 7, 9)]
    quick = [network.predict(latency_cycles).spans for network in networks]
    monkeypatch.setattr(timing._Machine, "_stream_loads", lambda self: self.read_next != timing._NEVER and self.wake(self.read_next))
    assert [network.predict(latency_cycles).spans for network in networks] == quick
