from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from convexnn.program.result import REMEDIES, STATUSES, Result, relative_gap


def make_result(primal=2.0, dual=1.5, status="max_iter"):
    coef = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, -2.0]])
    return Result(coef, 0.5, np.zeros(4), primal, dual, status, STATUSES[status], 7)


def test_relative_gap():
    assert relative_gap(2.0, 1.5) == 0.25
    assert relative_gap(-2.0, -2.5) == 0.25
    assert relative_gap(2.0, 2.0) == 0.0
    assert relative_gap(0.0, 0.0) == 0.0


def test_relative_gap_is_never_negative():
    assert relative_gap(1.0, 1.0 + 1e-12) == 0.0


@pytest.mark.parametrize("primal, dual", [(0.0, -1.0), (1.0, -np.inf), (0.0, -np.inf), (np.inf, 0.0)])
def test_an_undefined_gap_is_infinite(primal, dual):
    assert relative_gap(primal, dual) == np.inf


def test_gaps_of_a_result():
    result = make_result()
    assert result.gap == 0.5
    assert result.relative_gap == 0.25
    assert make_result(dual=2.0 + 1e-13).gap == 0.0
    assert make_result(dual=-np.inf).relative_gap == np.inf


def test_a_result_is_frozen():
    with pytest.raises(FrozenInstanceError):
        make_result().primal = 0.0


def test_history_is_not_shared():
    first = make_result()
    first.history.append({})
    assert make_result().history == []


def test_repr():
    text = repr(make_result())
    assert text == "Result(max_iter, objective=2, relative gap=2.5e-01, 2 of 3 blocks, 7 iterations)"


def test_every_status_has_words():
    assert set(STATUSES) == {"optimal", "almost_optimal", "max_iter", "stalled", "time_limit", "interrupted", "failed"}
    assert all(STATUSES.values()) and set(REMEDIES) == set(STATUSES) and all(REMEDIES.values())
