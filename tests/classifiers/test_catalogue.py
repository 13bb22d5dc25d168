"""One suite over the whole catalogue: every spec validates, every architecture of ours builds, runs and gives logits."""

from __future__ import annotations

import re
from functools import lru_cache

import pytest
import torch
from torch import nn

from morphsym.classifiers import Classifier, bundled, catalogue, sets
from morphsym.classifiers.adapters.torch_module import find_state, load_state, resolve, strip
from morphsym.classifiers.check import check_classifier
from morphsym.types import EMOTIONS

from .faces import landmarks, picture

IDS = tuple(catalogue())
OURS = [i for i in IDS if catalogue()[i].backend == "torch"]


def test_the_families_asked_for_are_all_here():
    families = [catalogue()[i].family for i in IDS]
    assert len(IDS) >= 30
    for family, count in {
        "DAN": 3, "DDAMFN++": 3, "POSTER V2": 4, "HSEmotion": 8, "EmoNeXt": 5, "Residual Masking Network": 1,
        "Segmentation-VGG19": 1, "EmoNet": 2, "FER+": 1, "MobileFaceNet": 1, "ViT": 3, "XCEPTION": 3,
        "FaceExpressionNet": 1,
    }.items():  # fmt: skip
        assert families.count(family) >= count, family


def test_sets_name_entries():
    assert sets()["bundled"] == bundled() == ("mini_xception", "face_expression_net")
    assert len(set(sets()["paper-families"])) == 17
    for ids in sets().values():
        assert set(ids) <= set(IDS)


@pytest.mark.parametrize("name", IDS)
def test_every_entry_states_its_facts(name):
    spec = catalogue()[name]
    assert spec.title
    assert spec.family
    assert spec.repository.startswith("https://")
    assert spec.code_licence != "unknown"
    assert spec.weights_licence != "unknown"
    assert spec.training_data
    text = " ".join(spec.facts)
    assert "labels" in text
    assert "crop" in text
    assert spec.reported or "accuracy" in text, "the reported accuracy, or that none is published"
    assert spec.weights.by_hand is None or len(spec.weights.by_hand) > 40, "what a person must do, in full"
    assert all(e is None or e in EMOTIONS for e in spec.label_emotions)
    assert "happiness" in spec.label_emotions
    if spec.backend == "transformers":
        return
    if not spec.source:
        assert spec.weights.file
        assert bool(spec.weights.url) != bool(spec.weights.by_hand)
    if spec.weights.url and "github.com" in spec.weights.url:
        assert re.search(r"/raw/[0-9a-f]{40}/", spec.weights.url), "a pinned commit"
        assert spec.sha256 or spec.weights.git_blob


@lru_cache(maxsize=1)
def built(factory: str, arguments: tuple[tuple[str, object], ...]) -> nn.Module:
    """The network with some numbers in it, in evaluation mode; the last is kept, as neighbouring entries share it.

    Numbers come from a seeded generator, not from the layers' own initialisation, which takes longer than the run.
    """
    make = resolve(factory, factory)
    with torch.device("meta"):
        network = make(**dict(arguments))
    if any(not b.dtype.is_floating_point and b.ndim for b in network.buffers()):
        network = make(**dict(arguments))  # index tables: only the real constructor knows them
    else:
        network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.dtype.is_floating_point:
                value.zero_() if value.ndim == 0 else None
            elif value.ndim > 1:
                edge = (3 / value[0].numel()) ** 0.5
                value.uniform_(-edge, edge, generator=generator)
            else:
                value.fill_(1.0 if name.endswith(("weight", "running_var")) else 0.0)
    return network.eval()


@pytest.mark.parametrize("name", OURS)
def test_every_architecture_runs(name):
    """Through a checkpoint as the official scripts write it (its state key, DataParallel's prefix), strictly loaded."""
    spec = catalogue()[name]
    network = built(spec.factory, tuple(spec.factory_args.items()))
    state = {f"module.{k}": v for k, v in network.state_dict().items()}
    checkpoint = {spec.state_key or "state_dict": state, "epoch": 3}
    load_state(network, strip(find_state(checkpoint, spec.state_key, name), spec.state_prefix), name)
    logits = Classifier(spec, network)(picture(), landmarks())
    assert logits.shape == (1, len(spec.labels))
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


@pytest.mark.parametrize("name", [n for n in IDS if catalogue()[n].backend != "torch"])
def test_every_other_entry_preprocesses(name):
    """With a stand-in network: the input has the size, channels and range that the spec states."""
    spec = catalogue()[name]
    seen = {}

    def network(x):
        seen["x"] = x
        wide = max((s[1] for s in spec.output.select if isinstance(s, tuple)), default=len(spec.labels)) + 2
        scores = x.flatten(1)[:, : wide if spec.output.select else len(spec.labels)]
        return scores.log_softmax(1).exp() if spec.output.kind == "probabilities" else scores

    logits = Classifier(spec, network)(picture(batch=2), landmarks(batch=2))
    x = seen["x"]
    assert x.shape == (2, spec.input_channels, *spec.input_size)
    assert x.dtype == torch.float32
    low = (-torch.tensor(spec.mean) / torch.tensor(spec.std)).min()
    high = ((spec.scale - torch.tensor(spec.mean)) / torch.tensor(spec.std)).max()
    assert x.min() >= low - 1e-3
    assert x.max() <= high + 1e-3
    assert logits.shape == (2, len(spec.labels))


@pytest.mark.parametrize("name", bundled())
def test_bundled_classifiers_pass_their_check(name):
    from morphsym.classifiers import load_classifier

    rows = check_classifier(load_classifier(name))
    assert [r.verdict for r in rows] == ["pass"] * len(rows), rows
