"""Classifiers by name: the catalogue, the user's own YAML files, and how to load one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
import yaml
from torch import nn

from ..errors import ClassifierError, UsageError
from ..resources import asset, home, sha256
from .adapters import build_network
from .adapters.files import has_file, weights_path
from .adapters.torch_module import state_sha256
from .base import Classifier
from .spec import ClassifierSpec, read_specs


@cache
def catalogue() -> dict[str, ClassifierSpec]:
    """Every entry of the catalogue that comes with morphsym, by id. Not the user's own (:func:`user_specs`)."""
    return {spec.id: spec for spec in read_specs(asset("classifiers/catalogue.yaml"))}


def sets() -> dict[str, tuple[str, ...]]:
    """Named sets of ids. ``paper-families`` is ours: the paper publishes no machine-readable names of its 17."""
    data = yaml.safe_load(asset("classifiers/catalogue.yaml").read_text(encoding="utf-8"))
    return {name: tuple(ids) for name, ids in data["sets"].items()}


def bundled() -> tuple[str, ...]:
    """Ids of the classifiers whose weights come with morphsym."""
    return tuple(i for i, spec in catalogue().items() if spec.source.startswith("asset:"))


def user_folder() -> Path:
    """Where the user's own specifications (``*.yaml``) and fetched weights (``<id>/``) are."""
    return home() / "classifiers"


def user_specs() -> dict[str, tuple[ClassifierSpec, Path]]:
    """The user's own classifiers (``morphsym classifiers add``): id → spec and the file it was read from."""
    found: dict[str, tuple[ClassifierSpec, Path]] = {}
    folder = user_folder()
    if folder.is_dir():
        for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
            found.update({spec.id: (spec, path) for spec in read_specs(path)})
    return found


def split_margin(name: str) -> tuple[str, float]:
    """``'dan@1.15'`` → ``('dan', 1.15)``: the id and the factor on the crop's margin (1 where none is given)."""
    stem, at, factor = name.rpartition("@")
    if not at:
        return name, 1.0
    try:
        value = float(factor)
    except ValueError:
        value = 0.0
    if not 0.2 <= value <= 5.0:
        raise UsageError(f"classifier {name!r}: after '@' comes a factor on the crop margin, 0.2 to 5, got {factor!r}")
    return stem, value


def with_margins(names: Iterable[str], factors: Iterable[float]) -> list[str]:
    """Each name at each factor on its crop margin (``--crop-margins 0.9,1,1.15``): ``dan@0.9``, ``dan``, ``dan@1.15``.

    The names go through the whole study like any others, so a result can be shown not to hang on the crop.
    """
    factors = tuple(factors)
    out = [name if f == 1 else f"{name}@{f:g}" for name in names for f in factors]
    for name in out:
        split_margin(name)
    return out


def trust_marker(name: str) -> Path:
    """The file by which the user has said to trust the pickles of the classifier ``name`` (``add --trust``)."""
    return user_folder() / f"{split_margin(name)[0]}.trusted"


def find_spec(name: str) -> tuple[ClassifierSpec, Path | None]:
    """The spec called ``name`` (id, ``id@margin`` or path of a YAML file with one entry) and the folder for its paths.

    The user's own come before the catalogue. :class:`UsageError` with the nearest names when there is none.
    """
    stem, factor = split_margin(name)
    if stem.endswith((".yaml", ".yml")):
        specs = read_specs(stem)
        if len(specs) != 1:
            raise UsageError(
                f"{stem} describes {len(specs)} classifiers; 'morphsym classifiers add {stem}', then use ids"
            )
        return specs[0].with_crop_margin(factor), Path(stem).resolve().parent
    own = user_specs()
    if stem in own:
        spec, path = own[stem]
        return spec.with_crop_margin(factor), path.parent
    if stem in catalogue():
        return catalogue()[stem].with_crop_margin(factor), None
    known = [*own, *catalogue()]
    near = difflib.get_close_matches(stem, known, 3, 0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"bundled are {', '.join(bundled())}"
    raise UsageError(f"no classifier {stem!r}; {hint} 'morphsym classifiers list' shows all")


def load_classifier(name: str, device: torch.device | str = "cpu", *, trust: bool = False) -> Classifier:
    """The classifier ``name``, ready to run on ``device``. Its spec's ``sha256`` is that of the weights that were read:

    of their file, or, where there is none on this machine, of the parameters (:func:`state_sha256`).

    ``trust`` (or ``classifiers add --trust`` before) allows what runs somebody else's code on loading: pickles.
    :class:`UsageError` for an unknown name; :class:`ClassifierError` or
    :class:`MissingDependencyError` where it cannot be loaded.
    """
    spec, folder = find_spec(name)
    trust = trust or (not name.endswith((".yaml", ".yml")) and trust_marker(name).is_file())
    network = build_network(spec, torch.device(device), folder, trust)
    if has_file(spec):
        found: str | None = spec.sha256 or sha256(weights_path(spec, folder))
    else:  # of a hub's or a callable's numbers; an endpoint has none to look at
        module = network if isinstance(network, nn.Module) else getattr(network, "model", None)
        found = state_sha256(module) if isinstance(module, nn.Module) else spec.sha256
    if spec.sha256 is not None and found != spec.sha256:
        raise ClassifierError(
            f"classifier {spec.id}: its parameters have sha256 {str(found)[:12]}…, expected {spec.sha256[:12]}…; "
            "the publisher has changed them"
        )
    # so that a study's manifest says which weights ran
    return Classifier(spec.model_copy(update={"sha256": found}), network, device)
