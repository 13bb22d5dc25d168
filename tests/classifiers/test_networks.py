"""Our networks against the official implementations: the same keys and shapes, and the same outputs.

``tests/golden/classifiers/*.json`` holds, for each, the upstream commit, a digest of all names and shapes of its state
dict, and its output with every array filled by the rule of ``rule.py``. The official code was run once, outside this
repository; none of it is here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from morphsym.classifiers.networks.dan import dan
from morphsym.classifiers.networks.ddamfn import ddamfn
from morphsym.classifiers.networks.emonet import emonet
from morphsym.classifiers.networks.emonext import emonext
from morphsym.classifiers.networks.poster_v2 import poster_v2
from morphsym.classifiers.networks.residual_masking import residual_masking_network
from morphsym.classifiers.networks.segmentation_vgg19 import segmentation_vgg19

from .rule import fill, inputs, layout

GOLDEN = Path(__file__).parent.parent / "golden" / "classifiers"
SLOW = pytest.mark.slow

BUILD: dict[str, Callable[[], nn.Module]] = {
    "dan_7": lambda: dan(7),
    "dan_8": lambda: dan(8),
    "ddamfn_7": lambda: ddamfn(7),
    "ddamfn_8": lambda: ddamfn(8),
    "ddamfn_pp_7": lambda: ddamfn(7),
    "ddamfn_pp_8": lambda: ddamfn(8),
    "poster_v2_7": lambda: poster_v2(7),
    "poster_v2_8": lambda: poster_v2(8),
    "emonext_tiny": lambda: emonext(7, "tiny"),
    "emonext_small": lambda: emonext(7, "small"),
    "emonext_base": lambda: emonext(7, "base"),
    "emonext_large": lambda: emonext(7, "large"),
    "emonext_xlarge": lambda: emonext(7, "xlarge"),
    "residual_masking_network": residual_masking_network,
    "segmentation_vgg19": segmentation_vgg19,
    "emonet_5": lambda: emonet(5),
    "emonet_8": lambda: emonet(8),
}
QUICK = {"dan_8", "ddamfn_7", "poster_v2_7", "emonext_tiny", "emonet_8"}
"""The others run with ``-m slow``; their keys and shapes are compared always."""


def golden(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("name", BUILD)
def test_keys_and_shapes_equal_the_official_ones(name):
    expected = golden(name)
    with torch.device("meta"):
        network = BUILD[name]()
    assert len(network.state_dict()) == expected["keys"]
    assert sum(p.numel() for p in network.parameters()) == expected["parameters"]
    assert layout(network.state_dict()) == expected["layout"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW) if n not in QUICK else n for n in BUILD])
def test_output_equals_the_official_one(name):
    """To 1e-4 of the largest output: some filled networks give numbers in the thousands."""
    expected = golden(name)
    with torch.device("meta"):
        network = BUILD[name]()
    buffers = {k: v.clone() for k, v in _integers(name).items()}
    network.to_empty(device="cpu")
    network.load_state_dict({**fill(network.state_dict()), **buffers})
    network.eval()
    with torch.inference_mode():
        got = network(inputs(*expected["input"][1:3]))
    if isinstance(got, dict):
        got = torch.cat([got["expression"], got["valence"][:, None], got["arousal"][:, None]], 1)
    want = torch.tensor(expected["output"])
    assert got.shape == want.shape
    assert torch.isfinite(got).all()
    assert (got - want).abs().max() <= 1e-4 * want.abs().max().clamp_min(1)


def _integers(name: str) -> dict[str, torch.Tensor]:
    """The buffers that the rule leaves as built (index tables, counters)."""
    if not name.startswith("poster"):
        return {}
    return {k: v for k, v in BUILD[name]().state_dict().items() if not v.dtype.is_floating_point}


def test_the_parity_can_fail():
    """Wiring matters to the filled networks: swapping two equal-shaped arrays moves the output far beyond 1e-4."""
    expected = golden("ddamfn_7")
    network = ddamfn(7)
    state = fill(network.state_dict())
    a, b = "cat_head0.CoordAtt.conv2.weight", "cat_head0.CoordAtt.conv3.weight"
    state[a], state[b] = state[b], state[a]
    network.load_state_dict(state)
    network.eval()
    with torch.inference_mode():
        got = network(inputs(3, 112))
    assert (got - torch.tensor(expected["output"])).abs().max() > 1e-3
