"""BLAS runs on one thread where small matrices are multiplied, and elsewhere as before."""

from threadpoolctl import threadpool_info

from hwgen.blas import single_threaded


def threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_one_thread_inside_and_as_many_as_before_outside():
    before = threads()
    with single_threaded():
        assert threads() and set(threads()) == {1}
    assert threads() == before
