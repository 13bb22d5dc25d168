"""Shading in torch: the same formulas as the fused CPU path, differentiable, for any backend's fragments.

A vertex is lit in linear RGB by ``albedo * (ambient + environment + intensity * max(0, n·l)) + specular * intensity *
max(0, n·h)**32`` (Lambert; Blinn 1977; :mod:`.lights` for the environment and point lights), with area-weighted normals
``n``, and the radiance is interpolated over its triangles: the meshes here have triangles of a few pixels, so that
lighting every pixel instead changes nothing that can be seen. Back faces get ``BACK_LIGHT`` of the ambient light and of
the environment's mean only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..types import Cameras, Fragments, Lights
from . import cameras as cams
from . import lights as lamps
from .backends.numba_kernels import BACK_LIGHT, NEAREST, POINT_DISTANCE, SHININESS_SQUARINGS
from .color import linear_to_srgb, srgb_to_linear
from .normals import vertex_normals

SHININESS = 2**SHININESS_SQUARINGS


def light_vertices(
    vertices: Tensor, normals: Tensor, albedo: Tensor, cameras: Cameras, lights: Lights
) -> tuple[Tensor, Tensor]:
    """Linear radiance of vertices seen from the front and from the back, (B, V, 3) each; ``albedo`` is linear."""
    lit, gloss, inside = light_parts(vertices, normals, cameras, lights)
    return albedo * lit + gloss, (albedo * inside).expand_as(lit)


def light_parts(vertices: Tensor, normals: Tensor, cameras: Cameras, lights: Lights) -> tuple[Tensor, Tensor, Tensor]:
    """What reaches the vertices: light that the albedo takes part of and highlights (B, V, 3), and the inside (B, 1, 3).

    Seen from the front a surface of linear ``albedo`` shows ``albedo * lit + gloss``, from the back ``albedo * inside``.
    """
    n = normals @ cameras.R.to(vertices).transpose(1, 2)
    place = cams.to_camera(cameras, vertices)
    view = normalize(-place, dim=-1)
    inside = lights.ambient.to(vertices)[:, None]
    intensity = lights.intensity.to(vertices)[:, None]
    diffuse, shine = _lamp(n, view, lights.direction.to(vertices)[:, None])
    lit, gloss = inside + intensity * diffuse, intensity * shine
    if lights.sh is not None:
        sh = lights.sh.to(vertices)
        lit = lit + lamps.environment_light(n, sh)
        inside = inside + (sh[:, :1] * lamps.SCALES[0].to(sh)).clamp(min=0)
    if lights.position is not None and lights.power is not None:
        for position, power in zip(lights.position.to(vertices).unbind(1), lights.power.to(vertices).unbind(1)):
            way = position[:, None] - place
            squared = (way * way).sum(-1, keepdim=True)
            fall = POINT_DISTANCE**2 / squared.clamp(min=NEAREST**2)
            diffuse, shine = _lamp(n, view, normalize(way, dim=-1))
            lit, gloss = lit + power[:, None] * fall * diffuse, gloss + power[:, None] * fall * shine
    return lit, lights.specular.to(vertices)[:, None, None] * gloss, inside * BACK_LIGHT


def _lamp(n: Tensor, view: Tensor, light: Tensor) -> tuple[Tensor, Tensor]:
    """Lambert's cosine and Blinn's highlight (B, V, 1) of unit normals, and directions to the camera and the light."""
    diffuse = (n * light).sum(-1, keepdim=True).clamp(min=0)
    half = normalize(light + view, dim=-1)
    return diffuse, (n * half).sum(-1, keepdim=True).clamp(min=0) ** SHININESS * (diffuse > 0)


def faces_front(vertices: Tensor, faces: Tensor, cameras: Cameras) -> Tensor:
    """(B, F) bool: whether the camera sees a triangle's front (counter-clockwise from outside)."""
    a, b, c = (cams.to_camera(cameras, vertices)[:, faces[:, k].long()] for k in range(3))
    # The determinant of the corners: the side of the triangle's plane on which the camera's centre lies.
    return (torch.linalg.cross(a, b) * c).sum(-1) < 0


def interpolate(values: Tensor, faces: Tensor, fragments: Fragments) -> Tensor:
    """Values (B, V, C) at the vertices -> (B, H, W, C) at the pixels; 0 on the background."""
    shape, channels = fragments.triangle.shape, values.shape[-1]
    corner = faces.long()[fragments.triangle.clamp(min=0).long()].reshape(shape[0], -1)
    picked = values.gather(1, corner[..., None].expand(-1, -1, channels)).reshape(*shape, 3, channels)
    return (picked * fragments.barycentric.to(values)[..., None]).sum(-2)


def shade(
    fragments: Fragments, vertices: Tensor, faces: Tensor, albedo: Tensor, cameras: Cameras, lights: Lights
) -> Tensor:
    """Linear radiance (B, H, W, 3) of the pixels, 0 on the background; ``albedo`` (1 or B, V, 3) sRGB."""
    normals = vertex_normals(vertices, faces)
    front, back = light_vertices(vertices, normals, srgb_to_linear(albedo.to(vertices)), cameras, lights)
    if not len(faces):
        return torch.zeros(*fragments.triangle.shape, 3).to(vertices)
    is_front = faces_front(vertices, faces, cameras)
    index = fragments.triangle.clamp(min=0).long().flatten(1)
    seen = is_front.gather(1, index).reshape(fragments.triangle.shape)[..., None]
    return torch.where(seen, interpolate(front, faces, fragments), interpolate(back, faces, fragments))


def render_fragments(
    rasterize: Callable[[Tensor, Tensor, Cameras], Fragments], textured: Callable[..., Tensor] | None = None
) -> Callable[..., tuple[Tensor, Tensor]]:
    """``render`` for a backend that has no fused path; the returned function takes the same, checked, arguments.

    ``textured`` shades in place of :func:`shade`, from the fragments' triangles and the same other arguments.
    """

    def draw(
        vertices: Tensor,
        faces: Tensor,
        albedo: Tensor,
        cameras: Cameras,
        lights: Lights,
        background: Tensor,
        side: int,
    ) -> tuple[Tensor, Tensor]:
        fine = cams.resized(cameras, cameras.height * side, cameras.width * side)
        fragments = rasterize(vertices, faces, fine)
        faces = faces.to(vertices.device)
        covered = (fragments.triangle >= 0)[..., None]
        behind = background.to(vertices).expand(len(vertices), 3)
        if textured is None:
            light = shade(fragments, vertices, faces, albedo, cameras, lights)
        else:
            light = textured(fragments.triangle.to(vertices.device), vertices, faces, albedo, fine, lights)
        light = torch.where(covered, light, srgb_to_linear(behind)[:, None, None])
        pooled = torch.nn.functional.avg_pool2d(light.permute(0, 3, 1, 2), side)
        share = torch.nn.functional.avg_pool2d(covered.permute(0, 3, 1, 2).to(vertices), side)
        images = torch.where(share > 0, linear_to_srgb(pooled), behind[:, :, None, None])
        return images.float(), share.mean((1, 2, 3)).float()

    return draw
