"""A face in front of its photo: pictures of it, what colours and light explain, and derivatives by everything else.

The picture of a face is made by :mod:`morphsym.rendering.harmonics`, whole: what lids, lips and the nose hide and uncover is
in it, and so in its derivatives, which are differences of two pictures (half a pixel of movement apart; many expression
shapes share one, see :mod:`.photometric`). Light and colours are eliminated: they are always what explains the photo best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_erosion
from torch import Tensor

from ..faces.appearance import decode_srgb
from ..rendering import harmonics, rasterize
from ..types import Cameras
from .photometric import Front
from .view import View

STEP = 0.5
"""Pixels that a step of differentiation moves the fastest visible point."""

MOST_STEP = 0.25
"""Largest such step of an expression coefficient."""

SEEN = 0.013
"""cm per unit: identity directions that move the visible face less on average keep the value that the landmarks gave them."""

BEHIND = 0.35
"""Cosine between a triangle and the line of sight beyond which it can be left out."""

POSE_STEP = (0.01, 0.01, 0.01, 0.001, 0.001, 0.01, 0.01)
"""Steps of rotation (rad), t_x/t_z, t_y/t_z, log t_z and log f."""

LIGHT_MEAN = np.array([0.9, 0.0, 0.0, -0.25, 0.0, 0.0, 0.0, 0.0, 0.0])
LIGHT_SIGMA = np.array([1.0, 0.6, 0.6, 0.6, 0.3, 0.3, 0.3, 0.3, 0.15])
"""Prior of the light's coefficients: from the front, by the order of :func:`morphsym.rendering.harmonics.harmonics`."""

COLOUR_SIGMA = 0.6
"""Standard deviation of a material's colour around the average, relative to it plus 0.03."""

PRECISION = 1 / (0.05**2 * 12.0)
"""Inverse variance of a pixel's channel (sRGB units) as the priors of light and colour see it, whatever the residual is:
these are not what is sought, and a photo that is badly explained must not be explained worse for it."""

DARKEST = 0.01
"""Linear light below which a change counts no more than here: sRGB's slope grows without bound."""

CHUNK = 32
"""Pictures made at once, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One shape in front of the camera. n pixels of the view lie well inside the face."""

    vertices: np.ndarray  # (V'', 3) float32: of the rows that can be seen
    rows: np.ndarray  # (V'',)
    faces: np.ndarray  # (F'', 3) uint32 into rows
    camera: tuple[np.ndarray, np.ndarray, np.ndarray]  # K (3, 3) of the view, R (3, 3), t (3,)
    pixels: np.ndarray  # (n,) flat index into the view
    corner: np.ndarray  # (n,) a vertex (of the front) of the triangle seen
    harmonics: np.ndarray  # (n, 9)
    paint: np.ndarray  # (n, M)
    texture: np.ndarray  # (n, 3)


class Scene:
    """A view with the light and the colours found so far."""

    def __init__(self, front: Front, view: View) -> None:
        self.front = front
        self.size = len(view.pixels)
        self.crop = view.crop
        self.target = view.pixels.reshape(-1, 3)
        self._linear = decode_srgb(self.target.astype(np.float64)).astype(np.float32)
        self.light = np.repeat(LIGHT_MEAN[:, None], 3, 1).astype(np.float32)  # (9, 3)
        self.colour = front.colour.copy()  # (M, 3)

    # -- pictures ----------------------------------------------------------------------------------------------------
    def shot(self, coefficients: np.ndarray, K: np.ndarray, R: np.ndarray, t: np.ndarray) -> Shot:
        """The shape ``coefficients (P,)`` seen by a camera of the photo (float64)."""
        f = self.front
        v = f.mean + (coefficients.astype(np.float32) @ f.shape.reshape(len(f.shape), -1)).reshape(-1, 3)
        camera = (self.crop @ K, np.ascontiguousarray(R), np.ascontiguousarray(t))
        keep = self._facing(v, camera)
        faces = f.faces[keep]
        K_view, R_view, t_view = (torch.from_numpy(x[None]) for x in camera)
        one = Cameras(K_view, R_view, t_view, self.size, self.size)
        fragments = rasterize(torch.from_numpy(v[None]), torch.from_numpy(faces), one, "numba")
        triangle = fragments.triangle[0].numpy()
        pixels = np.flatnonzero(binary_erosion(triangle >= 0, iterations=2))
        corners = faces[triangle.reshape(-1)[pixels]]
        weights = fragments.barycentric[0].numpy().reshape(-1, 3)[pixels]

        def at(values: np.ndarray) -> np.ndarray:
            return np.einsum("nkc,nk->nc", values[corners], weights)

        normals, y = harmonics.normals(v, f.faces), np.empty((len(v), harmonics.TERMS), np.float32)
        harmonics.harmonics(normals, R.astype(np.float32), y)
        # Of eyeballs and the mouth only what is seen, and its neighbours, takes part in the pictures.
        near = np.zeros(len(v), dtype=bool)
        near[faces[np.unique(triangle[triangle >= 0])]] = True
        drawn = faces[~(f.inner[keep] & ~near[faces].any(1)) | f.teeth[keep]]
        rows, index = np.unique(drawn, return_inverse=True)
        index = np.ascontiguousarray(index.reshape(-1, 3), np.uint32)
        return Shot(v[rows], rows, index, camera, pixels, corners[:, 0], at(y), at(f.paint), at(f.texture))

    def _facing(self, v: np.ndarray, camera: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        """Triangles that the camera sees from the front, or nearly."""
        _, R, t = (x.astype(np.float32) for x in camera)
        x = v @ R.T + t
        a, b, c = (x[self.front.faces[:, k]] for k in range(3))
        n = np.cross(b - a, c - a)
        cosine = (n * a).sum(1) / np.maximum(np.linalg.norm(n, axis=1) * np.linalg.norm(a, axis=1), 1e-12)
        return np.flatnonzero(cosine < BEHIND)

    def picture(self, shot: Shot) -> np.ndarray:
        """(S * S, 3) float32 sRGB."""
        return self._pictures(shot, shot.vertices[None], [shot.camera])[0]

    def _pictures(self, shot: Shot, vertices: np.ndarray, cameras: list) -> np.ndarray:
        K, R, t = (np.ascontiguousarray(np.stack([c[i] for c in cameras])) for i in range(3))
        albedo = np.ascontiguousarray((self.front.paint[shot.rows] @ self.colour) * self.front.texture[shot.rows])
        images = harmonics.render(
            np.ascontiguousarray(vertices), shot.faces, albedo, K, R, t, self.light, self.size, self.size
        )
        return images.reshape(len(images), 3, -1).transpose(0, 2, 1)

    # -- light and colours -------------------------------------------------------------------------------------------
    def explain(self, shot: Shot, weight: np.ndarray, rounds: int = 3) -> None:
        """Light and colours that explain the photo best: alternating least squares, ``weight (n,)`` of the pixels."""
        linear = self._linear[shot.pixels]
        squared = (_slope(linear) ** 2 * weight[:, None] * PRECISION).astype(np.float32)
        albedo = (shot.paint @ self.colour) * shot.texture
        for _ in range(rounds):
            for c in range(3):
                a = albedo[:, c : c + 1] * shot.harmonics
                left = a.T @ (a * squared[:, c : c + 1]) + np.diag(LIGHT_SIGMA**-2)
                right = a.T @ (squared[:, c] * linear[:, c]) + LIGHT_MEAN * LIGHT_SIGMA**-2
                self.light[:, c] = np.linalg.solve(left, right)
            shade = np.maximum(shot.harmonics @ self.light, 0)
            for c in range(3):
                a = shot.paint * (shade[:, c] * shot.texture[:, c])[:, None]
                known = self._colour_precision(c)
                left = a.T @ (a * squared[:, c : c + 1]) + np.diag(known)
                right = a.T @ (squared[:, c] * linear[:, c]) + known * self.front.colour[:, c]
                self.colour[:, c] = np.clip(np.linalg.solve(left, right), 0.001, 1.2)
            albedo = (shot.paint @ self.colour) * shot.texture

    def _colour_precision(self, channel: int) -> np.ndarray:
        return (COLOUR_SIGMA * (self.front.colour[:, channel] + 0.03)) ** -2.0

    # -- derivatives -------------------------------------------------------------------------------------------------
    def jacobian(
        self, shot: Shot, room: np.ndarray, identities: int, cameras: list, known: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The picture's (S * S, 3), and its derivatives (3, P + 7, n) by the shape and by the pose.

        ``room (P,)``: how far each coefficient may still rise. ``cameras``: the camera moved by :data:`POSE_STEP`, one a
        pose variable. ``known (3, Kr, S * S)``: derivatives by the identity from an earlier call.
        """
        f, base = self.front, self.picture(shot)
        p = len(f.shape)
        pixels_per_cm = shot.camera[0][0, 0] / shot.camera[2][2]
        visible = np.unique(shot.corner)
        size = np.stack([np.linalg.norm(s.take(visible, 0), axis=1) for s in f.shape])  # cm per unit of what is seen
        step = STEP / np.maximum(size.max(1) * pixels_per_cm, 1e-3)
        step[identities:] = np.minimum(step[identities:], MOST_STEP)
        step = (np.where(room >= step, 1, -1) * step).astype(np.float32)
        out = np.zeros((3, p + 7, len(shot.pixels)), np.float32)
        at = base[shot.pixels]
        if known is None:
            seen = np.flatnonzero(size[:identities].mean(1) > SEEN)
            for start in range(0, len(seen), CHUNK):
                k = seen[start : start + CHUNK]
                moved = np.stack([shot.vertices + step[i] * f.shape[i].take(shot.rows, 0) for i in k])
                images = self._pictures(shot, moved, [shot.camera] * len(k))[:, shot.pixels]
                out[:, k] = ((images - at) / step[k, None, None]).transpose(2, 0, 1)
        else:
            out[:, :identities] = known[:, :, shot.pixels]
        each = np.arange(len(shot.pixels))
        for start in range(0, len(f.groups), CHUNK):
            groups = f.groups[start : start + CHUNK]
            moved = np.repeat(shot.vertices[None], len(groups), 0)
            for (g, _), one in zip(groups, moved, strict=True):
                for k in identities + g:
                    one += step[k] * f.shape[k].take(shot.rows, 0)
            images = self._pictures(shot, moved, [shot.camera] * len(groups))[:, shot.pixels]
            for (_, nearest), image in zip(groups, images, strict=True):
                own = identities + nearest[shot.corner]
                out[:, own, each] = ((image - at) / step[own, None]).T
        views = [(self.crop @ K, R, t) for K, R, t in cameras]
        images = self._pictures(shot, np.repeat(shot.vertices[None], len(views), 0), views)[:, shot.pixels]
        out[:, p:] = ((images - at) / np.array(POSE_STEP, np.float32)[:, None, None]).transpose(2, 0, 1)
        return base, out

    def by_appearance(self, shot: Shot, picture: np.ndarray, channel: int) -> np.ndarray:
        """Derivatives (n, 9 + M) of one channel by its light and by the materials' colours; analytic."""
        slope = _slope(decode_srgb(picture[shot.pixels, channel].astype(np.float64)))[:, None].astype(np.float32)
        shade = np.maximum(shot.harmonics @ self.light[:, channel], 0)[:, None] * shot.texture[:, channel : channel + 1]
        albedo = ((shot.paint @ self.colour[:, channel]) * shot.texture[:, channel])[:, None]
        return np.concatenate([slope * albedo * shot.harmonics, slope * shade * shot.paint], 1).astype(np.float32)

    def normal_equations(
        self, shot: Shot, picture: np.ndarray, jacobian: np.ndarray, weight: np.ndarray, precision: float
    ) -> tuple[Tensor, Tensor]:
        """Gauss–Newton matrix (P + 7, P + 7) and half the gradient (P + 7,), float64, light and colours eliminated.

        ``weight (n,)`` of the pixels, ``precision``: inverse variance of a channel of weight 1. The
        elimination is the Schur complement of the joint equations.
        """
        p = jacobian.shape[1]
        matrix, gradient = torch.zeros(p, p, dtype=torch.float64), torch.zeros(p, dtype=torch.float64)
        root = np.sqrt(weight * precision).astype(np.float32)
        residual = (picture - self.target)[shot.pixels]
        for c in range(3):
            a = torch.from_numpy(jacobian[c] * root)
            n = torch.from_numpy(self.by_appearance(shot, picture, c) * root[:, None])
            r = torch.from_numpy(residual[:, c] * root)
            prior = np.concatenate([LIGHT_SIGMA**-2, self._colour_precision(c)]) * (precision / PRECISION)
            cross = (a @ n).double()
            off = np.concatenate([self.light[:, c] - LIGHT_MEAN, self.colour[:, c] - self.front.colour[:, c]])
            own = (n.T @ r).double() + torch.from_numpy(prior * off)
            right = torch.cat([cross.T, own[:, None]], 1)
            solved = torch.linalg.solve((n.T @ n).double() + torch.diag(torch.from_numpy(prior)), right)
            matrix += (a @ a.T).double() - cross @ solved[:, :-1]
            gradient += (a @ r).double() - cross @ solved[:, -1]
        return matrix, gradient


def _slope(linear: np.ndarray) -> np.ndarray:
    """Derivative of sRGB's encoding at linear light, bounded at :data:`DARKEST`."""
    return 1.055 / 2.4 * np.maximum(linear, DARKEST) ** (1 / 2.4 - 1)
