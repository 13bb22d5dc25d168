"""Backend ``torch``: a factory that builds the network, and a checkpoint with its state dict."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ClassifierError
from ..base import Network
from ..spec import ClassifierSpec
from ..weights import read_npz_state
from .files import weights_path

STATE_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "ema")
"""Where training scripts put the state dict in a checkpoint, in the order in which they are tried."""


def resolve(reference: str, who: str, folder: Path | None = None) -> Callable[..., Any]:
    """The object that ``module:name`` means; :class:`ClassifierError` when there is none.

    ``folder`` is that of the YAML file: ``network.py`` beside it is found as ``network:…`` without being on the path.
    """
    module, _, name = reference.partition(":")
    beside = folder / (module.replace(".", "/") + ".py") if folder else None
    try:
        if beside is not None and beside.is_file():
            found = importlib.util.spec_from_file_location(f"_morphsym_user_{abs(hash(beside))}_{module}", beside)
            assert found is not None
            assert found.loader is not None
            value: Any = importlib.util.module_from_spec(found)
            found.loader.exec_module(value)
        else:
            value = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except Exception as error:  # the user's module may fail in any way
        raise ClassifierError(f"{who}: cannot import {reference}: {type(error).__name__}: {error}") from error
    if not callable(value):
        raise ClassifierError(f"{who}: {reference} is a {type(value).__name__}, expected a callable")
    return value


def find_state(checkpoint: Any, key: str | None, who: str) -> dict[str, Tensor]:
    """The state dict in a checkpoint: under ``key``, under a usual key, or the checkpoint itself."""
    if key is not None:
        if not isinstance(checkpoint, Mapping) or key not in checkpoint:
            have = list(checkpoint)[:8] if isinstance(checkpoint, Mapping) else type(checkpoint).__name__
            raise ClassifierError(f"{who}: the checkpoint has no {key!r} (state_key); it has {have}")
        checkpoint = checkpoint[key]
    candidates = [checkpoint]
    if isinstance(checkpoint, Mapping) and key is None:
        candidates += [checkpoint[k] for k in STATE_KEYS if k in checkpoint]
    for c in candidates:
        if isinstance(c, Mapping) and c and all(isinstance(v, Tensor) for v in c.values()):
            return {str(k): v for k, v in c.items()}
    if isinstance(checkpoint, Mapping):
        raise ClassifierError(
            f"{who}: no state dict in the checkpoint; it has {list(checkpoint)[:8]}; name the right one with state_key"
        )
    raise ClassifierError(f"{who}: the checkpoint holds a {type(checkpoint).__name__}, not a state dict")


def strip(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Keys without ``module.`` (DataParallel) and without ``prefix`` — only when every key has it."""
    out = dict(state)
    for p in ("module.", prefix):
        if p and out and all(k.startswith(p) for k in out):
            out = {k[len(p) :]: v for k, v in out.items()}
    return out


class _Inert:
    """Stands in for whatever a checkpoint pickles beside its tensors. Takes anything, does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _stand_in(name: str) -> tuple[Any, str]:
    module, _, attribute = name.rpartition(".")
    return type(attribute, (_Inert,), {"__module__": module}), name


def load_checkpoint(path: Path, who: str, trust: bool, inert: tuple[str, ...] = ()) -> Any:
    """What ``torch.load`` reads, tensors only unless ``trust``; the globals ``inert`` are replaced by stand-ins."""
    try:
        if path.suffix == ".npz":
            return read_npz_state(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals([_stand_in(name) for name in inert]):
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except ImportError:
        raise ClassifierError(f"{who}: {path.name} needs the package safetensors: pip install safetensors") from None
    except ClassifierError:
        raise
    except Exception as error:  # torch raises many kinds for damaged and for unsafe files
        text = " ".join(str(error).split())
        if "weights_only" in text or "Unsupported global" in text or "WeightsUnpickler" in text:
            raise ClassifierError(
                f"{who}: {path} holds more than tensors (a pickled program); it is loaded only with --trust, and only "
                "if you trust whoever made it"
            ) from None
        raise ClassifierError(
            f"{who}: {path} is not a readable checkpoint ({type(error).__name__}: {text[:200]})"
        ) from None


def load_state(network: nn.Module, state: Mapping[str, Tensor], who: str) -> None:
    """Strict: every parameter and buffer, none more, shapes equal. :class:`ClassifierError` names the first of each."""
    own = network.state_dict()
    tracked = {k for k in own if k.endswith("num_batches_tracked")}  # absent in checkpoints before torch 0.4.1
    missing = [k for k in own if k not in state and k not in tracked]
    extra = [k for k in state if k not in own]
    wrong = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing or extra or wrong:
        parts = [f"{len(missing)} missing ({missing[0]})"] if missing else []
        parts += [f"{len(extra)} unexpected ({extra[0]})"] if extra else []
        if wrong:
            k = wrong[0]
            parts.append(f"{len(wrong)} of another shape ({k}: {tuple(state[k].shape)}, not {tuple(own[k].shape)})")
        raise ClassifierError(f"{who}: the weights do not fit the network: {', '.join(parts)}")
    network.load_state_dict({**{k: own[k] for k in tracked}, **state})


def state_sha256(network: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of the state dict: which numbers ran, whatever file they were in."""
    found = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def load(spec: ClassifierSpec, device: torch.device, folder: Path | None, trust: bool) -> Network:
    """The network of a ``torch`` spec, in evaluation mode, float32."""
    who = f"classifier {spec.id}"
    assert spec.factory is not None
    path = weights_path(spec, folder)
    factory = resolve(spec.factory, who, folder)
    try:
        network = factory(**spec.factory_args)
    except Exception as error:
        raise ClassifierError(f"{who}: {spec.factory} failed: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ClassifierError(f"{who}: {spec.factory} gave a {type(network).__name__}, expected a torch.nn.Module")
    checkpoint = load_checkpoint(path, who, trust, spec.inert_globals)
    if trust and isinstance(checkpoint, nn.Module):
        checkpoint = checkpoint.state_dict()
    load_state(network, strip(find_state(checkpoint, spec.state_key, who), spec.state_prefix), who)
    return network.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
