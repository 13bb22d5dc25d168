"""The face model: one frozen record that every later stage reads, and ``forward``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError, UsageError
from ..types import SidedBasis
from .arkit import side_of
from .furrows import Furrows, furrows
from .split import fade_weights, split_mixed, split_named


class Embedding(NamedTuple):
    """Points on a mesh: the index of a triangle (N,) int64 and barycentric weights (N, 3) float32 that sum to one."""

    triangle: np.ndarray
    barycentric: np.ndarray


@dataclass(frozen=True, eq=False)
class MorphableModel:
    """A 3D morphable model of a head: ``vertices = mean + identity @ identity_basis + expression @ sided.basis``.

    Frame: +X the subject's left, +Y up, +Z out of the face; cm. Identity coefficients have unit variance. Tensors live on
    one device (:meth:`to`); index maps and masks are numpy arrays. Every field is checked on construction; a
    :class:`ModelError` names the file and the field.
    """

    name: str
    source: str  # where it comes from: the file, for messages and the manifest
    licence: str
    sha256: str  # of the file (of its parts, where the model is a folder)
    mean: Tensor  # (V, 3) float32, cm
    identity_basis: Tensor  # (Ki, V, 3) float32, cm per standard deviation
    expression_basis: Tensor  # (Ke, V, 3) float32, cm per unit coefficient
    expression_names: tuple[str, ...]  # Ke; ARKit's where the model has them
    expression_low: np.ndarray  # (Ke,) float32, smallest plausible coefficient
    expression_high: np.ndarray  # (Ke,) float32, largest
    faces: np.ndarray  # (F, 3) int32, counter-clockwise from outside
    part: np.ndarray  # (F,) uint8, index into part_names
    part_names: tuple[str, ...]  # 'skin' is always among them
    landmarks68: Embedding  # iBUG-68
    mirror: np.ndarray  # (V,) int64: the vertex at the mirrored place; its own inverse
    hemiface_left: np.ndarray  # (V,) float32: the left weight; the right one is 1 minus it
    regions: Mapping[str, np.ndarray]  # brow, eye, nose, cheek, mouth: (V,) float32, sum 1 at every vertex
    albedo: np.ndarray  # (V, 3) float32, sRGB in [0, 1]: an average painted face
    landmarks478: Embedding | None = None  # MediaPipe's; the ten iris points may be missing (468)
    uv: np.ndarray | None = None  # (U, 2) float32
    faces_uv: np.ndarray | None = None  # (F, 3) int32 into uv
    paint: Mapping[str, np.ndarray] = field(default_factory=dict)  # material → (V,) float32 in [0, 1]
    attributes: Mapping[str, Any] = field(default_factory=dict)  # what the sampler of people needs; see people.py
    joints: Mapping[str, np.ndarray] = field(default_factory=dict)  # name → (3,) cm on the mean: neck, jaw, eye_left, …
    native_sides: bool = True  # the names say which side a shape moves; else split by side and region
    notes: tuple[str, ...] = ()  # what the loader did to the official file

    def __post_init__(self) -> None:
        from .validate import validate

        for name in ("mean", "identity_basis", "expression_basis"):
            value = getattr(self, name)
            object.__setattr__(self, name, value if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value)))
        validate(self)

    # -- sizes ---------------------------------------------------------------------------------------------------
    @property
    def n_vertices(self) -> int:
        return int(self.mean.shape[0])

    @property
    def n_identity(self) -> int:
        return int(self.identity_basis.shape[0])

    @property
    def device(self) -> torch.device:
        return self.mean.device

    # -- the split -----------------------------------------------------------------------------------------------
    @cached_property
    def sided(self) -> SidedBasis:
        """The expression basis with every shape on one half; see :mod:`morphsym.faces.split`. Built once."""
        basis = self.expression_basis.detach().cpu().numpy()
        mean = self.mean.detach().cpu().numpy()
        fade = fade_weights(mean, self.mirror)
        if self.native_sides:
            parts = split_named(self.expression_names, basis, self.hemiface_left, fade, self.mirror)
        else:
            regions = dict(self.regions)
            parts = split_mixed(self.expression_names, basis, self.hemiface_left, fade, self.mirror, regions)
        # One matrix for forward(); identity_basis and sided.basis become views of it, so nothing is held twice.
        ki = self.n_identity
        stacked = torch.empty(ki + len(parts.names), self.n_vertices, 3, dtype=self.mean.dtype, device=self.device)
        stacked[:ki] = self.identity_basis
        stacked[ki:] = torch.from_numpy(parts.basis)
        object.__setattr__(self, "identity_basis", stacked[:ki])
        object.__setattr__(self, "_stack", stacked.reshape(ki + len(parts.names), -1))
        return SidedBasis(
            names=parts.names,
            basis=stacked[ki:],
            side=parts.side,
            partner=parts.partner,
            source=parts.source,
            nerve=parts.nerve,
            region=parts.region,
            low=self.expression_low[parts.source],
            high=self.expression_high[parts.source],
        )

    @cached_property
    def furrows(self) -> Furrows:
        """What furrows the skin has with which expression; see :mod:`morphsym.faces.furrows`. Built once."""
        return furrows(self)

    def _matrix(self) -> Tensor:
        """(Ki + Ks, 3V): what identity_basis and sided.basis are views of."""
        if "_stack" not in vars(self):
            _ = self.sided
        return vars(self)["_stack"]

    # -- shape ---------------------------------------------------------------------------------------------------
    def forward(self, identity: Tensor, expression: Tensor, pose: Tensor | None = None) -> Tensor:
        """Vertices (B, V, 3) in cm from ``identity`` (B, Ki) and sided ``expression`` (B, Ks); one matrix product.

        ``pose`` (B, 6) moves the head as a whole: a rotation about :attr:`pivot` as axis times angle in radians, then a
        translation in cm; without it the vertices are in the head's own frame, where every stage of this package leaves
        them (the pose is the camera's there). Differentiable in all three. A batch of 1 is broadcast to the others'.
        Raises :class:`UsageError` when the shapes do not fit the model.
        """
        ks = len(self.sided)
        for what, c, k in (("identity", identity, self.n_identity), ("expression", expression, ks)):
            if c.ndim != 2 or c.shape[1] != k:
                raise UsageError(f"{self.name}: {what} must be (B, {k}), got {tuple(c.shape)}")
        b, e = identity.shape[0], expression.shape[0]
        if b != e and 1 not in (b, e):
            raise UsageError(f"{self.name}: identity has batch {b} but expression {e}; they must agree or be 1")
        n = max(b, e)
        base, matrix = self.mean.reshape(1, -1), self._matrix()
        ki = self.n_identity
        if b == 1 and e > 1:  # arms of one unit: the identity once, then the expressions
            base = torch.addmm(base, identity, matrix[:ki])
            flat = torch.addmm(base, expression, matrix[ki:])
        else:
            flat = torch.addmm(base, torch.cat([identity.expand(n, -1), expression.expand(n, -1)], 1), matrix)
        vertices = flat.reshape(n, -1, 3)
        return vertices if pose is None else self._posed(vertices, pose)

    def _posed(self, vertices: Tensor, pose: Tensor) -> Tensor:
        if pose.ndim != 2 or pose.shape[1] != 6:
            raise UsageError(
                f"{self.name}: pose must be (B, 6), axis times angle and translation, got {tuple(pose.shape)}"
            )
        if pose.shape[0] != vertices.shape[0] and 1 not in (pose.shape[0], vertices.shape[0]):
            raise UsageError(
                f"{self.name}: the faces have batch {vertices.shape[0]} but pose {pose.shape[0]}; they must agree or be 1"
            )
        x, y, z = pose[:, :3].unbind(dim=1)
        zero = torch.zeros_like(x)
        generator = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
        rotation = torch.linalg.matrix_exp(generator)
        pivot = torch.as_tensor(self.pivot, dtype=vertices.dtype, device=vertices.device)
        return (vertices - pivot) @ rotation.transpose(1, 2) + pivot + pose[:, None, 3:]

    @property
    def pivot(self) -> np.ndarray:
        """(3,) cm: what the head turns about, the joint ``neck`` where the model has one, else the frame's origin."""
        return self.joints.get("neck", np.zeros(3, dtype=np.float32))

    def landmarks(self, vertices: Tensor) -> Tensor:
        """The 68 landmarks (B, 68, 3) of meshes (B, V, 3), in the frame of ``vertices``."""
        return self.embed(vertices, self.landmarks68)

    def embed(self, vertices: Tensor, points: Embedding) -> Tensor:
        """Points on the mesh: (B, N, 3) of meshes (B, V, 3)."""
        corners = torch.as_tensor(self.faces[points.triangle].astype(np.int64), device=vertices.device)
        weights = torch.as_tensor(points.barycentric, dtype=vertices.dtype, device=vertices.device)
        return torch.einsum("bncx,nc->bnx", vertices[:, corners], weights)

    # -- mirror images -------------------------------------------------------------------------------------------
    def mirror_vertices(self, vertices: Any) -> Any:
        """The mirror image of meshes (…, V, 3) through the mid-sagittal plane, vertex by vertex."""
        if isinstance(vertices, Tensor):
            flip = torch.tensor([-1.0, 1.0, 1.0], dtype=vertices.dtype, device=vertices.device)
            return vertices[..., torch.as_tensor(self.mirror, device=vertices.device), :] * flip
        return vertices[..., self.mirror, :] * np.array([-1.0, 1.0, 1.0], dtype=vertices.dtype)

    def mirror_expression(self, c: Any) -> Any:
        """Sided coefficients (…, Ks) of the mirrored face: left and right trade places.

        Exact for models with native sides (their loaders make partner shapes exact mirror images).
        """
        partner = self.sided.partner
        return c[..., torch.as_tensor(partner, device=c.device)] if isinstance(c, Tensor) else c[..., partner]

    @cached_property
    def identity_mirror(self) -> tuple[np.ndarray, float]:
        """(Ki, Ki) float32 matrix A with ``mirror_identity(c) = c @ A``, and the relative residual of that.

        The residual is the share of the identity basis' energy that its own mirror image has outside its span: 0 where
        every component is symmetric or antisymmetric (both models that this package builds), and then A is diagonal
        with ±1 and the mirror is exact. Otherwise A is the least-squares answer.
        """
        basis = self.identity_basis.detach().cpu().numpy()
        image = self.mirror_vertices(basis)
        signs = np.zeros(len(basis), dtype=np.float32)
        for k, (b, m) in enumerate(zip(basis, image)):
            signs[k] = 1.0 if np.array_equal(m, b) else -1.0 if np.array_equal(m, -b) else 0.0
        if np.all(signs):
            return np.diag(signs), 0.0
        flat, flipped = basis.reshape(len(basis), -1), image.reshape(len(basis), -1)
        gram = (flat @ flat.T).astype(np.float64)
        a = np.linalg.lstsq(gram, (flat @ flipped.T).astype(np.float64), rcond=None)[0].T
        energy = np.trace(gram)
        residual = float(max(energy - np.trace(a @ gram @ a.T), 0.0) / energy) if energy > 0 else 0.0
        return a.astype(np.float32), residual

    def mirror_identity(self, c: Any) -> Any:
        """Identity coefficients (…, Ki) of the mirrored face; see :attr:`identity_mirror` for when that is exact."""
        a = self.identity_mirror[0]
        return c @ torch.as_tensor(a, dtype=c.dtype, device=c.device) if isinstance(c, Tensor) else c @ a

    # -- coefficients --------------------------------------------------------------------------------------------
    def expand(self, c: Any) -> Any:
        """The model's own coefficients (…, Ke) as sided ones (…, Ks): the same on both halves."""
        source = self.sided.source
        return c[..., torch.as_tensor(source, device=c.device)] if isinstance(c, Tensor) else c[..., source]

    def coefficients(self, scores: Mapping[str, float], strict: bool = True) -> np.ndarray:
        """Sided coefficients (Ks,) float32 from ARKit-named ``scores``, such as MediaPipe's blendshapes.

        A name may be a sided shape of the model (``mouthSmileLeft``, ``mouthPucker.left``) or an unsided one
        (``mouthPucker``: both halves). With ``strict`` a name that the model lacks raises :class:`UsageError`; without,
        it is left out (MediaPipe's ``_neutral``, or ``tongueOut`` for ICT-FaceKit).
        """
        found = np.zeros(len(self.sided), dtype=np.float32)
        index = {n: i for i, n in enumerate(self.sided.names)}
        for name, value in scores.items():
            targets = [index[n] for n in (name, f"{name}.left", f"{name}.right") if n in index]
            if not targets and strict:
                raise UsageError(f"the model {self.name!r} has no expression shape {name!r}; it has {self.shape_names}")
            found[targets] = value
        return found

    @property
    def shape_names(self) -> str:
        """The names of the model's expression shapes in a line, for messages."""
        return ", ".join(self.expression_names)

    # -- devices -------------------------------------------------------------------------------------------------
    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> MorphableModel:
        """This model with its tensors on ``device`` and of ``dtype``; itself where nothing changes."""
        device = self.device if device is None else torch.device(device)
        dtype = dtype or self.mean.dtype
        if self.mean.to(device=device, dtype=dtype) is self.mean:
            return self
        moved = {k: getattr(self, k).to(device=device, dtype=dtype) for k in ("mean", "identity_basis")}
        return replace(self, **moved, expression_basis=self.expression_basis.to(device=device, dtype=dtype))

    def vertices_of(self, *parts: str) -> np.ndarray:
        """Indices of the vertices of the named parts. Raises :class:`ModelError` for a part the model lacks."""
        if missing := [p for p in parts if p not in self.part_names]:
            raise ModelError(f"{self.name} has no part {missing[0]!r}; it has {', '.join(self.part_names)}")
        wanted = [self.part_names.index(p) for p in parts]
        return np.unique(self.faces[np.isin(self.part, wanted)])

    @property
    def unsided(self) -> tuple[str, ...]:
        """The expression shapes without a side, which the hemiface weights split."""
        return tuple(n for n in self.expression_names if side_of(n) == 0)
