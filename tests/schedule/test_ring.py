"""The ring against a buffer whose words know what lies in them."""

from hypothesis import given
from hypothesis import strategies as st

from hwgen.schedule.ring import Ring


@given(st.integers(4, 24).flatmap(lambda size: st.tuples(st.just(size), st.lists(st.tuples(st.integers(0, 9), st.integers(1, size)), max_size=40))))
def test_what_is_found_lies_there_untouched(drawn):
    size, wishes = drawn
    ring, cells, sizes, lost = Ring(size), [None] * size, {}, False
    for number, wanted in wishes:
        key, words = (number, wanted), wanted  # equal keys, equal contents
        address = ring.find(key)
        there = key in cells and cells.count(key) == words
        assert (address is not None) == there
        if address is None:
            address = ring.place(words, key)
            assert address in range(size - words + 1)
            lost |= any(cell is not None for cell in cells[address : address + words])
            cells = [None if cell in cells[address : address + words] and cell is not None else cell for cell in cells]
            cells[address : address + words] = [key] * words
            sizes[key] = words
        assert cells[address : address + words] == [key] * words
        assert ring.evicted == lost


def test_contents_that_fit_are_never_evicted():
    ring = Ring(16)
    assert [ring.place(words, words) for words in (5, 4, 7)] == [0, 5, 9]
    assert not ring.evicted
    assert ring.place(3, "one more") == 0
    assert ring.evicted and ring.find(5) is None and ring.find(4) == 5


def test_content_does_not_wrap_around_the_end():
    ring = Ring(10)
    ring.place(6, "a")
    assert ring.place(6, "b") == 0 and ring.find("a") is None
