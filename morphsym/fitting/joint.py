"""Minimising an energy that faces share (:mod:`.same_person`, :mod:`.smoothing`): steps in what ties them together, each halved
until the joint energy falls."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .solver import Solution

HALVINGS = 4
"""How often a step is halved before what is tied together counts as found."""


def descend(
    state: Tensor,
    held: Callable[[Tensor], tuple[list[Solution], float]],
    step: Callable[[Tensor, list[Solution]], Tensor],
    kept: Callable[[Tensor], Tensor],
    rounds: int,
    tolerance: float,
) -> list[Solution]:
    """The solutions at the least energy that was found from ``state``, in at most ``rounds`` steps.

    ``held(state)``: the faces solved with it, and the joint energy; ``step(state, solutions)``: where to go from there;
    ``kept(state)``: moved back to where it may be. ``tolerance``: relative fall of the energy that ends it.
    """
    found, energy = held(state)
    for _ in range(rounds):
        move = step(state, found)
        for _ in range(HALVINGS):
            moved = kept(state + move)
            tried, new = held(moved)
            if new < energy:
                break
            move = move / 2
        else:
            break
        fall = (energy - new) / new
        state, found, energy = moved, tried, new
        if fall < tolerance:
            break
    return found
