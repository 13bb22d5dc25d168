"""The networks whose official implementations were run: how each is built here, and how far its output is from theirs.

``tests/golden/classifiers/*.json`` holds, for each, the upstream commit, a digest of all names and shapes of its state
dict, and its output with every array filled by the rule of ``rule.py``. The official code was run once, outside this
repository; none of it is here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def golden(name: str) -> dict[str, Any]:
    """What the official implementation gave."""
    found: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return found


def same_layout(name: str) -> bool:
    """Whether all names and shapes of the state dict, and the number of parameters, equal the official ones."""
    expected = golden(name)
    with torch.device("meta"):
        network = BUILD[name]()
    state = network.state_dict()
    count = sum(p.numel() for p in network.parameters())
    return (len(state), count, layout(state)) == (expected["keys"], expected["parameters"], expected["layout"])


def filled(name: str) -> nn.Module:
    """The network with every array filled by the rule, in evaluation mode."""
    with torch.device("meta"):
        network = BUILD[name]()
    buffers: dict[str, torch.Tensor] = {}  # index tables and counters, which the rule leaves as built
    if name.startswith("poster"):
        buffers = {k: v for k, v in BUILD[name]().state_dict().items() if not v.dtype.is_floating_point}
    network.to_empty(device="cpu")
    network.load_state_dict({**fill(network.state_dict()), **buffers})
    return network.eval()


def difference(name: str) -> float:
    """The largest difference from the official output, relative to the largest output (at least 1).

    Some filled networks give numbers in the hundred thousands.
    """
    expected = golden(name)
    with torch.inference_mode():
        got = filled(name)(inputs(*expected["input"][1:3]))
    if isinstance(got, dict):
        got = torch.cat([got["expression"], got["valence"][:, None], got["arousal"][:, None]], 1)
    want = torch.tensor(expected["output"])
    assert got.shape == want.shape
    assert torch.isfinite(got).all()
    return float((got - want).abs().max() / want.abs().max().clamp_min(1))
