"""Bundled weights: a ``.npz`` of arrays named like the network's parameters.

A quantised array ``w`` (uint8) comes with ``w#scale`` and ``w#min`` (float64) and means ``w * scale + min``, rounded
once to float32. No pickles: ``allow_pickle`` is never set.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import ClassifierError


def read_npz_state(path: Path) -> dict[str, Tensor]:
    """The state dict in ``path``. :class:`ClassifierError` where the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except (OSError, ValueError, zipfile.BadZipFile, KeyError) as error:
        raise ClassifierError(f"{path}: not a readable .npz of weights ({error})") from None
    state = {}
    for name, array in arrays.items():
        if "#" in name:
            continue
        if array.dtype == np.uint8:
            array = (array * float(arrays[name + "#scale"]) + float(arrays[name + "#min"])).astype(np.float32)
        state[name] = torch.from_numpy(np.asarray(array, order="C"))
    return state
