import numpy as np

from hwgen.quantize.metrics import agreement, sqnr_db, top1


def test_sqnr_is_the_ratio_of_energies():
    assert np.isclose(sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 3.5])), 20.0)
    assert sqnr_db(np.ones(3), np.ones(3)) == np.inf
    assert sqnr_db(np.zeros(3), np.ones(3)) == -np.inf


def test_agreement_and_top1_compare_greatest_outputs():
    a = np.array([[0.0, 2.0, 1.0], [5.0, 0.0, 6.0]])
    b = np.array([[9.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert agreement(a, b) == 0.5
    assert top1(a, np.array([1, 0])) == 0.5
    assert top1(a, np.array([0, 1]), label_offset=1) == 1.0
    assert agreement(a.reshape(2, 3, 1, 1), a) == 1.0
