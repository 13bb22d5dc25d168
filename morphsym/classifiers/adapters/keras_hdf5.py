"""Backend ``keras``: a Keras 1–3 model in one HDF5 file, run in torch. TensorFlow is not needed.

The file carries its own layer list (``model_config``). The plain layers of image classifiers are understood; anything
else is refused by name, and ``Lambda`` always, as it holds a pickled program. Where the specification asks for logits,
a softmax at the very end is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from ...errors import ClassifierError
from ..base import Network
from ..spec import ClassifierSpec
from . import keras_layers
from .files import weights_path

Arrays = Mapping[str, np.ndarray]


class Node:
    """One layer of the graph: its name, its inputs' names and its module."""

    def __init__(self, name: str, kind: str, inputs: list[str], module: nn.Module | None) -> None:
        self.name, self.kind, self.inputs, self.module = name, kind, inputs, module


class KerasNetwork(nn.Module):
    """The graph, run in the order of the file on channels-first tensors."""

    def __init__(self, nodes: list[Node], output: str) -> None:
        super().__init__()
        self.nodes, self.output = nodes, output
        self.layers = nn.ModuleList(n.module for n in nodes if n.module is not None)

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Tensor] = {}
        for node in self.nodes:
            if node.module is None:
                values[node.name] = x
            else:
                values[node.name] = node.module(*(values[i] for i in node.inputs))
        return values[self.output]


def load(spec: ClassifierSpec, device: torch.device, folder: Path | None, trust: bool) -> Network:
    """The network of a ``keras`` spec, in evaluation mode, float32, channels first."""
    who = f"classifier {spec.id}"
    path = weights_path(spec, folder)
    network = read_keras(path, who, keep_softmax=spec.output.kind != "logits")
    return network.to(device=device, dtype=torch.float32).eval().requires_grad_(False)


def read_keras(path: Path, who: str, keep_softmax: bool = False) -> KerasNetwork:
    """The model in ``path``; :class:`ClassifierError` where the file or one of its layers is not understood."""
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
            if text is None:
                raise ClassifierError(
                    f"{who}: {path.name} has weights but no model_config; save the whole model (model.save('x.h5'))"
                )
            config = json.loads(text if isinstance(text, str) else text.decode())
            group = file["model_weights"]
            nodes = _nodes(config, lambda name: _arrays(group, name), who)
    except OSError as error:
        hint = " (a .keras archive? save it as .h5)" if path.suffix == ".keras" else ""
        raise ClassifierError(f"{who}: {path} is not a readable HDF5 file{hint} ({error})") from None
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, UnicodeDecodeError) as error:
        raise ClassifierError(f"{who}: {path} is damaged or unusual ({type(error).__name__}: {error})") from None
    output = _output(config, nodes, who)
    last = next(n for n in nodes if n.name == output)
    if not keep_softmax:
        if isinstance(last.module, keras_layers.Activation) and last.module.kind == "softmax":
            output = last.inputs[0]
        elif last.module is not None and getattr(last.module, "activation", None) == "softmax":
            last.module.activation = "linear"  # type: ignore[assignment]
    return KerasNetwork(nodes, output)


def _arrays(group: h5py.Group, layer: str) -> Arrays:
    """The weights of a layer by their short name ('kernel', 'gamma', …)."""
    if layer not in group:
        return {}
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in group[layer].attrs.get("weight_names", [])]
    return {n.split("/")[-1].split(":")[0]: np.asarray(group[layer][n]) for n in names}


def _nodes(config: Mapping[str, Any], arrays: Callable[[str], Arrays], who: str) -> list[Node]:
    kind = config["class_name"]
    layers = config["config"]["layers"] if isinstance(config["config"], dict) else config["config"]
    if kind not in ("Sequential", "Model", "Functional"):
        raise ClassifierError(
            f"{who}: a Keras {kind} is not a Sequential or Functional model; its code is not in the file"
        )
    nodes: list[Node] = []
    for layer in layers:
        settings = layer["config"]
        name = settings.get("name") or layer.get("name")
        if layer["class_name"] == "InputLayer":
            nodes.append(Node(name, "InputLayer", [], None))
            continue
        if not nodes:
            nodes.append(Node("__input__", "InputLayer", [], None))  # an older Sequential model does not list its input
        inputs = [nodes[-1].name] if kind == "Sequential" else _inbound(layer, who)
        module = keras_layers.build(layer["class_name"], settings, arrays(name), f"{who}: layer {name}")
        nodes.append(Node(name, layer["class_name"], inputs, module))
    return _sorted(nodes, who)


def _inbound(layer: Mapping[str, Any], who: str) -> list[str]:
    """The names of the layers that feed ``layer``: Keras 1 and 2 list them, Keras 3 keeps call arguments."""
    calls = layer["inbound_nodes"]
    if len(calls) != 1:
        raise ClassifierError(
            f"{who}: layer {layer.get('name')} is used {len(calls)} times; shared layers are not read"
        )
    call = calls[0]
    if isinstance(call, list):
        return [str(item[0]) for item in call]
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            found.append(str(value["config"]["keras_history"][0]))
        elif isinstance(value, (list, tuple)):
            for v in value:
                walk(v)

    walk(call["args"])
    return found


def _sorted(nodes: list[Node], who: str) -> list[Node]:
    """In an order in which every layer's inputs come before it (files are not always in one)."""
    done: list[Node] = []
    ready: set[str] = set()
    rest = list(nodes)
    while rest:
        now = [n for n in rest if all(i in ready for i in n.inputs)]
        if not now:
            raise ClassifierError(f"{who}: layer {rest[0].name} has an input that is not in the file")
        done += now
        ready |= {n.name for n in now}
        rest = [n for n in rest if n not in now]
    if sum(n.module is None for n in done) != 1:
        raise ClassifierError(f"{who}: expected one input, the model has {sum(n.module is None for n in done)}")
    return done


def _output(config: Mapping[str, Any], nodes: list[Node], who: str) -> str:
    given = config["config"].get("output_layers") if isinstance(config["config"], dict) else None
    if not given:
        return nodes[-1].name
    first = given[0] if isinstance(given[0], list) else given
    if isinstance(given[0], list) and len(given) != 1:
        raise ClassifierError(f"{who}: the model has {len(given)} outputs; expected one")
    return str(first[0])
