"""The bundled and shared classifiers through every adapter that can hold them, and what adapters must refuse."""

from __future__ import annotations

import json
import pickle
import sys
import threading
import time
import warnings
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from morphsym.classifiers import Classifier, NoFaceFound, catalogue, load_classifier, parse_spec, probabilities
from morphsym.classifiers.adapters import build_network
from morphsym.classifiers.adapters.keras_hdf5 import read_keras
from morphsym.classifiers.adapters.torch_module import state_sha256
from morphsym.classifiers.adapters.transformers_model import _place, labels_of, spec_from_folder
from morphsym.classifiers.preprocess import normalise
from morphsym.errors import ClassifierError, InputError, MissingDependencyError

from .faces import landmarks, picture

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parent.parent / "golden" / "classifiers"
TINY = {"id": "tiny", "labels": ["happy", "sad"], "input_size": 32}


def build(folder: Path | None = None, trust: bool = False, **fields) -> Classifier:
    spec = parse_spec({**TINY, **fields})
    return Classifier(spec, build_network(spec, CPU, folder, trust))


class Net(nn.Module):
    """A tiny network for files; two labels."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, 2)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def golden_input(shared_data: Path, name: str) -> tuple[torch.Tensor, np.ndarray]:
    golden = np.load(shared_data / "classifiers/golden/golden.npz")
    if name == "face_expression_net":
        image = torch.from_numpy(golden["rgb112"]).permute(0, 3, 1, 2).float() / 255
        return normalise(image, catalogue()[name]), golden[name]
    key, expected = {"mini_xception": ("gray64", "mini_xception_102")}.get(
        name, ("gray48" if name == "mini_xception_119" else "gray64", name)
    )
    return torch.from_numpy(golden[key]).permute(0, 3, 1, 2), golden[expected]


# ---- agreement -------------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mini_xception_102", "mini_xception_119", "big_xception_54"])
def test_keras_files_agree_with_keras(shared_data, name):
    entry = {"mini_xception_102": "mini_xception_102_keras"}.get(name, name)
    spec = catalogue()[entry].model_copy(update={"source": str(shared_data / f"classifiers/{name}.hdf5")})
    c = Classifier(spec, build_network(spec, CPU))  # sha256 is checked on the way
    key = "gray48" if "119" in name else "gray64"
    golden = np.load(shared_data / "classifiers/golden/golden.npz")
    got = probabilities(c.from_input(torch.from_numpy(golden[key]).permute(0, 3, 1, 2))).numpy()
    assert np.abs(got - golden[name]).max() < 1e-5
    softmax = spec.model_copy(update={"output": spec.output.model_copy(update={"kind": "probabilities"})})
    c = Classifier(softmax, build_network(softmax, CPU))
    kept = probabilities(c.from_input(torch.from_numpy(golden[key]).permute(0, 3, 1, 2))).numpy()
    assert np.abs(kept - golden[name]).max() < 1e-5


@pytest.mark.shared
def test_big_xception_in_torch_agrees_with_keras(shared_data):
    from morphsym.classifiers.networks.big_xception import big_xception, keras_names

    network = big_xception().eval()
    state = {}
    with h5py.File(shared_data / "classifiers/big_xception_54.hdf5") as f:
        for module, layer in keras_names().items():
            for n in f["model_weights"][layer].attrs["weight_names"]:
                array = f["model_weights"][layer][n][()]
                short = n.decode().split("/")[-1].split(":")[0]
                suffix, order = {
                    "kernel": (".weight", (3, 2, 0, 1)), "pointwise_kernel": (".pointwise.weight", (3, 2, 0, 1)),
                    "depthwise_kernel": (".depthwise.weight", (2, 3, 0, 1)), "gamma": (".weight", (0,)),
                    "beta": (".bias", (0,)), "bias": (".bias", (0,)), "moving_mean": (".running_mean", (0,)),
                    "moving_variance": (".running_var", (0,)),
                }[short]  # fmt: skip
                state[module + suffix] = torch.from_numpy(np.ascontiguousarray(array.transpose(order)))
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(k.endswith("num_batches_tracked") for k in missing)
    assert (
        sum(p.numel() for p in network.parameters())
        + sum(b.numel() for n, b in network.named_buffers() if "running" in n)
        == 208_871
    )
    golden = np.load(shared_data / "classifiers/golden/golden.npz")
    with torch.inference_mode():
        got = network(torch.from_numpy(golden["gray64"]).permute(0, 3, 1, 2)).softmax(1).numpy()
    assert np.abs(got - golden["big_xception_54"]).max() < 1e-5


@pytest.mark.parametrize("name", ["functional", "sequential"])
def test_keras_layers_agree_with_keras_3(name):
    """Files written by Keras 3.15 (JAX backend) with every kind of layer that is read."""
    data = np.load(GOLDEN / "keras_layers.npz")
    x = torch.from_numpy(data[f"{name}_x"]).permute(0, 3, 1, 2)
    for keep in (True, False):
        network = read_keras(GOLDEN / f"keras_{name}.h5", name, keep_softmax=keep).eval()
        with torch.inference_mode():
            y = network(x) if keep else network(x).softmax(1)
        assert np.abs(y.numpy() - data[f"{name}_y"]).max() < 1e-5


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mini_xception", "face_expression_net"])
def test_torchscript_agrees(shared_data, name, tmp_path):
    x, expected = golden_input(shared_data, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(load_classifier(name).network, x).save(str(tmp_path / "net.ts"))
    spec = catalogue()[name].model_copy(update={"backend": "torchscript", "source": "net.ts", "sha256": None})
    c = Classifier(spec, build_network(spec, CPU, tmp_path))
    assert np.abs(probabilities(c.from_input(x)).numpy() - expected).max() < 1e-5


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["mini_xception", "face_expression_net"])
def test_onnx_of_the_dynamo_exporter_agrees(shared_data, name, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    x, expected = golden_input(shared_data, name)
    export_onnx(load_classifier(name).network, x, tmp_path / "net.onnx", batch=True)
    spec = catalogue()[name].model_copy(update={"backend": "onnx", "source": "net.onnx", "sha256": None})
    c = Classifier(spec, build_network(spec, CPU, tmp_path))
    assert np.abs(probabilities(c.from_input(x)).numpy() - expected).max() < 1e-5
    assert np.abs(probabilities(c.from_input(x[:1])).numpy() - expected[:1]).max() < 1e-5


def export_onnx(network, x, path, batch):
    shapes = ({0: torch.export.Dim("batch", min=1, max=512)},) if batch else None
    torch.onnx.export(network, (x,), str(path), dynamo=True, dynamic_shapes=shapes, verbose=False, external_data=False)


# ---- torch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model_state_dict": s},
        lambda s: {"net": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {"model": s, "optimizer": {"state": {}}},
    ],
)
def test_state_dict_under_the_usual_keys(wrap, tmp_path):
    network = Net().eval()
    torch.save(wrap(network.state_dict()), tmp_path / "w.pth")
    c = build(tmp_path, backend="torch", factory="tests.classifiers.test_adapters:Net", source="w.pth")
    with torch.inference_mode():
        assert torch.equal(c.from_input(torch.ones(2, 3, 32, 32)), network(torch.ones(2, 3, 32, 32)))


def test_prefix_and_safetensors(tmp_path):
    network = Net()
    save = pytest.importorskip("safetensors.torch").save_file
    save({f"backbone.{k}": v for k, v in network.state_dict().items()}, tmp_path / "w.safetensors")
    build(
        tmp_path, backend="torch", factory="tests.classifiers.test_adapters:Net", source="w.safetensors",
        state_prefix="backbone.",
    )  # fmt: skip


class Recorder:
    """What POSTER V2's training script pickles beside the state dict."""

    def __init__(self) -> None:
        self.history = np.zeros(3)


class Hostile:
    """Runs a command where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_pickles_are_not_run(tmp_path):
    marker = tmp_path / "was-here"
    torch.save({"state_dict": Net().state_dict(), "x": Hostile(str(marker))}, tmp_path / "w.pth")
    fields = {"backend": "torch", "factory": "tests.classifiers.test_adapters:Net", "source": "w.pth"}
    with pytest.raises(ClassifierError, match="holds more than tensors .* only with --trust"):
        build(tmp_path, **fields)
    assert not marker.exists()
    build(tmp_path, trust=True, **fields)
    assert marker.exists()


def test_named_bystanders_become_inert(tmp_path):
    torch.save({"state_dict": Net().state_dict(), "recorder": Recorder()}, tmp_path / "w.pth")
    fields = {"backend": "torch", "factory": "tests.classifiers.test_adapters:Net", "source": "w.pth"}
    with pytest.raises(ClassifierError, match="only with --trust"):
        build(tmp_path, **fields)
    names = ["tests.classifiers.test_adapters.Recorder", "numpy._core.multiarray._reconstruct", "numpy.ndarray"]
    build(tmp_path, inert_globals=[*names, "numpy.dtype", "_codecs.encode"], **fields)
    marker = tmp_path / "was-here"
    torch.save({"state_dict": Net().state_dict(), "x": Hostile(str(marker))}, tmp_path / "w.pth")
    with pytest.raises(ClassifierError, match="only with --trust"):
        build(tmp_path, inert_globals=[*names, "numpy.dtype", "_codecs.encode"], **fields)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda: {**Net().state_dict(), "extra": torch.zeros(1)}, "1 unexpected .extra."),
        (lambda: {"fc.weight": torch.zeros(2, 4)}, "3 missing .conv.weight."),
        (lambda: Net(1).state_dict(), r"1 of another shape .conv.weight: .4, 1, 3, 3., not .4, 3, 3, 3.."),
        (lambda: {"a": 1, "b": "x"}, "no state dict in the checkpoint; it has .'a', 'b'."),
        (lambda: torch.zeros(3), "the checkpoint holds a Tensor"),
    ],
)
def test_wrong_checkpoints(state, message, tmp_path):
    torch.save(state(), tmp_path / "w.pth")
    with pytest.raises(ClassifierError, match=message):
        build(tmp_path, backend="torch", factory="tests.classifiers.test_adapters:Net", source="w.pth")


def test_files_that_are_not_there_truncated_or_another(tmp_path):
    fields = {"backend": "torch", "factory": "tests.classifiers.test_adapters:Net", "source": "w.pth"}
    with pytest.raises(MissingDependencyError, match="no weights at .*; put the file there"):
        build(tmp_path, **fields)
    torch.save(Net().state_dict(), tmp_path / "w.pth")
    with pytest.raises(ClassifierError, match="has sha256 .* expected 000000000000"):
        build(tmp_path, sha256="0" * 64, **fields)
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClassifierError, match="is not a readable checkpoint"):
        build(tmp_path, **fields)
    torch.save({"state_dict": {}}, tmp_path / "w.pth")
    with pytest.raises(ClassifierError, match="the checkpoint has no 'ema_model' .state_key.; it has"):
        build(tmp_path, state_key="ema_model", **fields)
    for factory, message in (
        ("no_such_module_:Net", "cannot import no_such_module_:Net: ModuleNotFoundError"),
        ("tests.classifiers.test_adapters:TINY", "is a dict, expected a callable"),
        ("builtins:dict", "gave a dict, expected a torch.nn.Module"),
    ):
        with pytest.raises(ClassifierError, match=message):
            build(tmp_path, backend="torch", factory=factory, source="w.pth")


def test_code_beside_the_yaml_is_found(tmp_path):
    (tmp_path / "mine.py").write_text("def score(x):\n    return x.mean((2, 3))[:, :2]\n")
    c = build(tmp_path, backend="python", factory="mine:score")
    assert c(picture(batch=3), landmarks(batch=3)).shape == (3, 2)
    assert "mine" not in sys.modules


def test_python_classes_are_built(tmp_path):
    c = build(backend="python", factory="tests.classifiers.test_adapters:Net", factory_args={"channels": 3})
    assert c(picture(), landmarks()).shape == (1, 2)
    with pytest.raises(ClassifierError, match="failed: TypeError"):
        build(backend="python", factory="tests.classifiers.test_adapters:Net", factory_args={"wrong": 1})


# ---- ONNX, TorchScript, Keras: refusals ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_onnx_with_a_fixed_batch(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = Net().eval()
    export_onnx(network, torch.zeros(1, 3, 32, 32), tmp_path / "one.onnx", batch=False)
    c = build(tmp_path, backend="onnx", source="one.onnx")
    x = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(c.from_input(x), network(x), atol=1e-5)
    export_onnx(network, torch.zeros(4, 3, 32, 32), tmp_path / "four.onnx", batch=False)
    with pytest.raises(ClassifierError, match="exported for batches of exactly 4; export it with a dynamic batch"):
        build(tmp_path, backend="onnx", source="four.onnx")
    with pytest.raises(ClassifierError, match="expects an input of shape .1, 3, 32, 32., the specification gives"):
        build(tmp_path, backend="onnx", source="one.onnx", input_size=48)
    (tmp_path / "broken.onnx").write_bytes(b"not an onnx file")
    with pytest.raises(ClassifierError, match="is not a usable ONNX file"):
        build(tmp_path, backend="onnx", source="broken.onnx")


@pytest.mark.parametrize("backend", ["torchscript", "keras"])
def test_damaged_files(backend, tmp_path):
    (tmp_path / "net").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ClassifierError, match="is not a readable"):
        build(tmp_path, backend=backend, source="net")


def keras_file(path: Path, layers: list[dict], kind: str = "Sequential") -> Path:
    with h5py.File(path, "w") as f:
        f.attrs["model_config"] = json.dumps({"class_name": kind, "config": {"layers": layers}})
        f.create_group("model_weights")
    return path


@pytest.mark.parametrize(
    ("layers", "kind", "message"),
    [
        ([{"class_name": "Lambda", "config": {"name": "l"}}], "Sequential", "a Lambda layer holds a program"),
        ([{"class_name": "LSTM", "config": {"name": "l"}}], "Sequential", "layers of kind LSTM are not read"),
        ([], "MyModel", "is not a Sequential or Functional model"),
        (
            [{"class_name": "Activation", "config": {"name": "a", "activation": "mish"}}],
            "Sequential",
            "'mish' is not read",
        ),
        ([{"class_name": "Dense", "config": {"name": "d"}}], "Sequential", "damaged or unusual .KeyError"),
    ],
)
def test_keras_models_that_are_not_read(layers, kind, message, tmp_path):
    with pytest.raises(ClassifierError, match=message):
        read_keras(keras_file(tmp_path / "m.h5", layers, kind), "classifier x")
    with h5py.File(tmp_path / "w.h5", "w") as f:
        f.create_group("model_weights")
    with pytest.raises(ClassifierError, match="has weights but no model_config"):
        read_keras(tmp_path / "w.h5", "classifier x")


# ---- HTTP ------------------------------------------------------------------------------------------------------


class Server(BaseHTTPRequestHandler):
    """Answers as its path says."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        x = np.frombuffer(b64decode(body["data"]), "<f4").reshape(body["shape"])
        scores = x.mean((2, 3))[:, :2].astype(float)
        path = self.path.strip("/")
        if path == "slow":
            time.sleep(3)
        answer, kind, status = {
            "good": (json.dumps(scores.tolist()), "application/json", 200),
            "slow": (json.dumps(scores.tolist()), "application/json", 200),
            "trickle": (json.dumps(scores.tolist()), "application/json", 200),
            "object": (json.dumps({"out": {"logits": scores.tolist()}}), "application/json", 200),
            "short": (json.dumps(scores[:1].tolist()), "application/json", 200),
            "ragged": ("[[1, 2], [3]]", "application/json", 200),
            "nan": (json.dumps([[float("nan"), 1.0]] * len(x)), "application/json", 200),
            "words": ('[["a", "b"]]', "application/json", 200),
            "html": ("<html>Sign in</html>", "text/html", 200),
            "noface": (json.dumps({"error": "no_face"}), "application/json", 200),
            "quota": (json.dumps({"error": "quota"}), "application/json", 200),
            "error": ("{}", "application/json", 503),
        }[path]
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            for piece in answer.encode() if path == "trickle" else ():
                self.wfile.write(bytes([piece]))
                time.sleep(0.1)
            self.wfile.write(answer.encode())
        except OSError:
            pass  # the client has gone

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as s:
        threading.Thread(target=s.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{s.server_port}"
        s.shutdown()


def test_endpoint(server):
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = x.mean((2, 3))[:, :2]
    good = build(backend="http", source=f"{server}/good")
    assert torch.allclose(good.from_input(x), expected, atol=1e-6)
    nested = build(backend="http", source=f"{server}/object", output={"select": ["out", "logits"]})
    assert torch.allclose(nested.from_input(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("slow", "did not answer within 0.3 s"),
        ("trickle", "did not answer within 0.3 s"),
        ("html", "answered text/html, not JSON .it begins '<html>Sign in"),
        ("error", "answered status 503"),
        ("short", r"gave shape \(1, 2\), expected \(3, 2\)"),
        ("ragged", "not an array of numbers"),
        ("words", "not an array of numbers"),
        ("nan", "gave nan for label 'happy' of image 0"),
        ("object", "answered an object with .'out'.; pick one with output.select"),
    ],
)
def test_endpoint_failures(server, path, message):
    c = build(backend="http", source=f"{server}/{path}", timeout=0.3)
    with pytest.raises(ClassifierError, match=message):
        c.from_input(torch.ones(3, 3, 32, 32))


def test_endpoint_that_is_down():
    c = build(backend="http", source="http://127.0.0.1:9/none", timeout=2)
    with pytest.raises(ClassifierError, match="tiny: http://127.0.0.1:9/none is out of reach"):
        c.from_input(torch.ones(1, 3, 32, 32))


# ---- transformers, timm ----------------------------------------------------------------------------------------

CONFIG = {"id2label": {"0": "happy", "1": "sad"}, "label2id": {"happy": 0, "sad": 1}}


def test_labels_of_a_consistent_config():
    assert labels_of(CONFIG, "x") == ("happy", "sad")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"id2label": {"0": "happy", "2": "sad"}}, r"keys \[0, 2\], expected 0 to 1"),
        ({"id2label": {}}, "keys .., expected"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "has no names"),
        ({"id2label": {"0": "happy", "1": "happy"}}, "names a label twice"),
        ({**CONFIG, "label2id": {"happy": 1, "sad": 0}}, "label2id and config.id2label disagree .'happy'."),
        ({**CONFIG, "label2id": {"happy": 0}}, "disagree .'sad'."),
        ({**CONFIG, "num_labels": 7}, "num_labels is 7, id2label has 2"),
    ],
)
def test_inconsistent_configs_are_refused(config, message):
    with pytest.raises(ClassifierError, match=message):
        labels_of(config, "x")


def vit(folder: Path) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label={0: "happy", 1: "sad"}, label2id={"happy": 0, "sad": 1},
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3}
        )
    )
    return model


def test_transformers_folder(tmp_path):
    model = vit(tmp_path)
    spec = spec_from_folder(tmp_path, "vit")
    assert spec.labels == ("happy", "sad")
    assert (spec.input_size, spec.mean, spec.std, spec.scale) == ((32, 32), (0.5,) * 3, (0.25,) * 3, 1.0)
    assert spec.resize.interpolation == "bicubic"
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(pixel_values=x).logits
    assert torch.allclose(Classifier(spec, build_network(spec, CPU)).from_input(x), expected, atol=1e-6)
    wrong = spec.model_copy(update={"labels": ("sad", "happy")})
    with pytest.raises(ClassifierError, match=r"labels of .* are \['happy', 'sad'\], the specification says"):
        build_network(wrong, CPU)
    config = json.loads((tmp_path / "config.json").read_text())
    config["label2id"] = {"happy": 1, "sad": 0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ClassifierError, match="label2id and config.id2label disagree"):
        build_network(spec, CPU)


def test_transformers_weights_are_named_in_the_study(tmp_path, monkeypatch):
    """No file of ours holds a hub's weights: the parameters themselves are hashed, and another stated hash is refused."""
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path / "home"))
    model = vit(tmp_path / "vit")
    text = f"id: v\nbackend: transformers\nsource: {tmp_path / 'vit'}\nlabels: [happy, sad]\ninput_size: 32\n"
    (tmp_path / "v.yaml").write_text(text)
    first = load_classifier(str(tmp_path / "v.yaml")).spec.sha256
    assert first == state_sha256(model)
    (tmp_path / "v.yaml").write_text(text + f"sha256: {first}\n")
    load_classifier(str(tmp_path / "v.yaml"))
    with torch.no_grad():
        model.classifier.bias[0] += 1e-3
    model.save_pretrained(tmp_path / "vit")
    with pytest.raises(ClassifierError, match="parameters have sha256 .*; the publisher has changed them"):
        load_classifier(str(tmp_path / "v.yaml"))


def test_transformers_revisions():
    assert _place("owner/name", None) == ("owner/name", "main")
    assert _place("owner/name@4f96cb7", None) == ("owner/name", "4f96cb7")


def test_transformers_pickles_need_trust(tmp_path):
    model = vit(tmp_path)
    spec = spec_from_folder(tmp_path, "vit")
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ClassifierError, match="without --trust only safetensors are read"):
        build_network(spec, CPU)
    build_network(spec, CPU, trust=True)


def test_transformers_folder_without_facts(tmp_path):
    with pytest.raises(InputError, match="needs config.json and preprocessor_config.json"):
        spec_from_folder(tmp_path)


def test_timm(tmp_path):
    timm = pytest.importorskip("timm", exc_type=(ImportError, RuntimeError))
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=2).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pth")
    fields = {"backend": "timm", "source": "mobilenetv3_small_050"}
    c = build(tmp_path, weights={"file": "w.pth"}, **fields)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(c.from_input(x), model(x), atol=1e-6)
    with pytest.raises(ClassifierError, match="a timm model needs weights.file"):
        build(tmp_path, **fields)
    with pytest.raises(ClassifierError, match="do not fit the network"):
        build(tmp_path, weights={"file": "w.pth"}, **{**fields, "labels": ["happy", "sad", "neutral"]})
    with pytest.raises(ClassifierError, match="timm cannot build 'no_such_net'"):
        build(tmp_path, weights={"file": "w.pth"}, **{**fields, "source": "no_such_net"})


@pytest.mark.parametrize(("backend", "package"), [("onnx", "onnxruntime"), ("transformers", "transformers")])
def test_missing_packages_are_named(backend, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'morphsym\[{backend}\]'"):
        build(tmp_path, backend=backend, source="x")


def test_pickle_is_what_the_hostile_file_is():
    """The test above would prove nothing if unpickling did not run the command."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        marker = Path(folder) / "x"
        pickle.loads(pickle.dumps(Hostile(str(marker))))  # noqa: S301 our own
        assert marker.exists()


def test_a_classifier_s_own_detector_may_find_no_face(server):
    """An outcome of its own, through a callable and through an endpoint."""

    def network(x):
        raise NoFaceFound("mine")

    spec = parse_spec({**TINY, "id": "mine", "backend": "python", "factory": "a:b", "crop": {"kind": "full"}})
    with pytest.raises(NoFaceFound, match="classifier mine: its own detector found no face"):
        Classifier(spec, network)(picture(), landmarks())
    with pytest.raises(NoFaceFound, match="tiny: its own detector found no face"):
        build(backend="http", source=f"{server}/noface").from_input(torch.ones(1, 3, 32, 32))
    with pytest.raises(ClassifierError, match="answered the error 'quota'"):
        build(backend="http", source=f"{server}/quota").from_input(torch.ones(1, 3, 32, 32))
