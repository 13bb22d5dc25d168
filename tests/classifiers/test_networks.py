"""Our networks against the official implementations: the same keys and shapes, and the same outputs."""

from __future__ import annotations

import pytest
import torch

from .networks import BUILD, difference, filled, golden, same_layout
from .rule import inputs

LARGE = {"emonext_base", "emonext_large", "emonext_xlarge"}
"""As emonext_small, with more of the same layers: their outputs are compared by ``bench_networks``, their names here."""


@pytest.mark.parametrize("name", BUILD)
def test_keys_and_shapes_equal_the_official_ones(name):
    assert same_layout(name)


@pytest.mark.parametrize("name", [n for n in BUILD if n not in LARGE])
def test_output_equals_the_official_one(name):
    assert difference(name) <= 1e-4


@pytest.mark.parametrize("name", BUILD)
def test_goldens_say_what_they_are(name):
    """The commit, the inputs' shape and as many outputs as labels (EmoNet's with valence and arousal)."""
    found = golden(name)
    assert found["upstream"].startswith("https://github.com/")
    assert len(found["commit"]) == 40
    assert found["input"][:2] == [2, 3]
    labels = {"_5": 5, "_8": 8}.get(name[-2:], 7)
    assert {len(row) for row in found["output"]} == {labels + 2 * name.startswith("emonet")}


def test_the_parity_can_fail():
    """Wiring matters to the filled networks: swapping two equal-shaped arrays moves the output far beyond 1e-4."""
    network = filled("ddamfn_7")
    state = network.state_dict()
    a, b = "cat_head0.CoordAtt.conv2.weight", "cat_head0.CoordAtt.conv3.weight"
    network.load_state_dict({**state, a: state[b].clone(), b: state[a].clone()})
    with torch.inference_mode():
        got = network(inputs(3, 112))
    assert (got - torch.tensor(golden("ddamfn_7")["output"])).abs().max() > 1e-3
