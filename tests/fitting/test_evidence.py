"""How far pixels are believed: the discrepancy between a model and a face, and how it is eliminated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morphsym.fitting import evidence
from morphsym.fitting.evidence import apart, discrepancy, displaced
from morphsym.fitting.priors import REST_SIGMA


def test_the_less_a_picture_can_be_made_the_less_it_says_of_the_expression() -> None:
    assert discrepancy(0.0) == discrepancy(evidence.MADE) == 0
    assert discrepancy(np.sqrt(2) * evidence.MADE) == pytest.approx(REST_SIGMA)
    assert discrepancy(4 * evidence.MADE) > discrepancy(2 * evidence.MADE)


@pytest.mark.parametrize("spread", [1e-6, 0.3, 1e5])
def test_eliminating_the_discrepancy_is_minimising_over_it(spread: float) -> None:
    """Against the equations of ``x`` and ``u`` together, with a prior beside them that makes the answer unique."""
    rng = np.random.default_rng(2)
    p, of = 9, slice(3, 7)
    j, r = torch.from_numpy(rng.normal(size=(30, p))), torch.from_numpy(rng.normal(size=30))
    moved = torch.zeros(p, 4, dtype=torch.float64)
    moved[of] = torch.eye(4)
    both = torch.cat([j, j @ moved], 1)
    prior = torch.diag(torch.tensor([1.0] * p + [spread**-2] * 4, dtype=torch.float64))
    joint = torch.linalg.solve(both.T @ both + prior, -both.T @ r)
    matrix, gradient = displaced(j.T @ j, j.T @ r, of, spread)
    found = torch.linalg.solve(matrix + torch.eye(p), -gradient)
    assert torch.allclose(found, joint[:p], atol=1e-6)
    if spread > 1:
        assert found[of].abs().max() < 1e-6
    if spread < 1e-3:
        assert torch.allclose(matrix, j.T @ j, atol=1e-6)


def test_the_landmarks_are_a_witness_of_the_expression_as_it_was() -> None:
    """Alone they take it back to where it was; and with others that are fixed its precision is the conditional one."""
    rng = np.random.default_rng(4)
    j = torch.from_numpy(rng.normal(size=(30, 9)))
    h, of, moved = j.T @ j, slice(3, 7), torch.from_numpy(rng.normal(size=4))
    matrix, gradient = apart(h, torch.zeros(9, dtype=torch.float64), of, moved, slice(0, None))
    assert torch.allclose(torch.linalg.solve(matrix, -gradient)[of], -moved)
    assert torch.allclose(torch.linalg.inv(matrix[of, of]), torch.linalg.inv(h)[of, of])
    matrix, _ = apart(h, gradient, of, moved, slice(3, None))
    assert torch.allclose(torch.linalg.inv(matrix[of, of]), torch.linalg.inv(h[3:, 3:])[:4, :4])
