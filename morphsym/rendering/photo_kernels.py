"""Compiled kernels of the photo counterfactuals: displacement of every pixel, its smooth extension, and resampling.

All arrays are C-contiguous numpy; images are (H, W, …) with pixel (row, column) centred at (column + 0.5, row + 0.5).
Displacements are in pixels and point from a pixel of the edited picture to where the photo shows the same point.
"""

from __future__ import annotations

import numpy as np

from .backends._compile import kernel

BACKGROUND, STILL, FACE, EYE_RIGHT, EYE_LEFT, MOUTH = -1, 0, 1, 2, 3, 4
"""Layers of a pixel: nothing; neck, ears and back of the head, which stay; the face; what lids and lips open on."""


@kernel
def layers_of(triangle, layer):
    """Layer (H, W) int8 of every pixel from its triangle (H, W) int32 and the triangles' ``layer`` (F,) int8."""
    out = np.full(triangle.shape, np.int8(BACKGROUND))
    for i in range(triangle.shape[0]):
        for j in range(triangle.shape[1]):
            if triangle[i, j] >= 0:
                out[i, j] = layer[triangle[i, j]]
    return out


@kernel
def displacement(
    triangle, barycentric, faces, layer, shift, fitted_z, photo_layer, photo_depth, tolerance, own, known, new
):
    """The mesh's own displacement ``own`` (H, W, 2) float32 of every pixel of an edited picture.

    ``shift`` (V, 2) float32 is where a vertex projects as fitted minus where it projects as edited. ``known`` (H, W)
    becomes 1 where moving skin is seen that the photo shows too (a depth test against ``photo_depth`` with a
    ``tolerance`` in cm), ``new`` 1 where the edit uncovers something that the photo hides.
    """
    height, width = triangle.shape
    for i in range(height):
        for j in range(width):
            t = triangle[i, j]
            own[i, j, 0] = 0.0
            own[i, j, 1] = 0.0
            known[i, j] = 0.0
            new[i, j] = 0.0
            if t < 0:
                if photo_layer[i, j] == FACE:
                    new[i, j] = 1.0
                continue
            kind = layer[t]
            if kind == STILL:  # what a shape pulls along of neck, ears and scalp stays: hair and clothes may cover it
                if photo_layer[i, j] == FACE:
                    new[i, j] = 1.0
                continue
            a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
            wa, wb, wc = barycentric[i, j, 0], barycentric[i, j, 1], barycentric[i, j, 2]
            dx = wa * shift[a, 0] + wb * shift[b, 0] + wc * shift[c, 0]
            dy = wa * shift[a, 1] + wb * shift[b, 1] + wc * shift[c, 1]
            own[i, j, 0] = dx
            own[i, j, 1] = dy
            x = min(max(j + dx, 0.0), width - 1.0)
            y = min(max(i + dy, 0.0), height - 1.0)
            if kind == FACE:
                z = wa * fitted_z[a] + wb * fitted_z[b] + wc * fitted_z[c] - tolerance
                x0, y0 = int(x), int(y)
                x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
                if z <= max(
                    max(photo_depth[y0, x0], photo_depth[y0, x1]), max(photo_depth[y1, x0], photo_depth[y1, x1])
                ):
                    known[i, j] = 1.0
                else:
                    new[i, j] = 1.0
            elif photo_layer[int(y + 0.5), int(x + 0.5)] != kind:
                new[i, j] = 1.0


@kernel
def erode(known, layer, r):
    """Forget, in place, what is ``known`` within ``r`` pixels (max norm) of where the moving face ends.

    There the mesh is seen at a grazing angle, and a pixel of misfit takes background for skin; the smooth continuation
    from further inside is better.
    """
    height, width = layer.shape
    columns = np.zeros((height, width), np.bool_)  # the end of the face lies within r columns
    for i in range(height):
        last = -r - 1
        for j in range(width):
            if layer[i, j] < FACE:
                last = j
            if j - last <= r:
                columns[i, j] = True
        last = width + r
        for j in range(width - 1, -1, -1):
            if layer[i, j] < FACE:
                last = j
            if last - j <= r:
                columns[i, j] = True
    for i in range(height):
        for j in range(width):
            if known[i, j] > 0:
                for k in range(max(i - r, 0), min(i + r + 1, height)):
                    if columns[k, j]:
                        known[i, j] = 0.0
                        break


@kernel
def relax(values, weight, passes):
    """Smooth ``values`` (H, W, C), in place, where ``weight`` (H, W) is 0, towards the mean of their neighbours.

    Gauss-Seidel sweeps of Laplace's equation with the known values as its boundary, from both ends in turn.
    """
    height, width, channels = values.shape
    for sweep in range(passes):
        for ii in range(height):
            i = ii if sweep % 2 == 0 else height - 1 - ii
            a, b = max(i - 1, 0), min(i + 1, height - 1)
            for jj in range(width):
                j = jj if sweep % 2 == 0 else width - 1 - jj
                if weight[i, j] > 0:
                    continue
                l, r = max(j - 1, 0), min(j + 1, width - 1)
                for c in range(channels):
                    values[i, j, c] = 0.25 * (values[a, j, c] + values[b, j, c] + values[i, l, c] + values[i, r, c])


@kernel
def pull_push(values, weight, levels):
    """Fill ``values`` (H, W, C) float32 where ``weight`` (H, W) float32 is 0, in place, smoothly from where it is 1.

    Gortler et al. 1996, *The Lumigraph*, section 3.4: averages of known values down a pyramid, back up where a finer
    level knows nothing. With ``levels`` below a full pyramid's, values reach about ``2**levels`` pixels and 0 lies
    beyond.
    """
    channels = values.shape[2]
    vs = [values.copy()]
    ws = [weight.copy()]
    for level in range(levels):
        fine, fw = vs[level], ws[level]
        fh, fwid = fw.shape
        ch, cw = (fh + 1) // 2, (fwid + 1) // 2
        coarse = np.zeros((ch, cw, channels), np.float32)
        cweight = np.zeros((ch, cw), np.float32)
        for i in range(fh):
            for j in range(fwid):
                q = fw[i, j]
                if q > 0:
                    cweight[i // 2, j // 2] += q
                    for c in range(channels):
                        coarse[i // 2, j // 2, c] += q * fine[i, j, c]
        for i in range(ch):
            for j in range(cw):
                q = cweight[i, j]
                if q > 0:  # what the coarsest level does not know stays 0
                    for c in range(channels):
                        coarse[i, j, c] /= q
                    cweight[i, j] = min(1.0, q)
        vs.append(coarse)
        ws.append(cweight)
    for level in range(levels - 1, -1, -1):
        fine, fw, coarse = vs[level], ws[level], vs[level + 1]
        fh, fwid = fw.shape
        ch, cw = coarse.shape[0], coarse.shape[1]
        for i in range(fh):
            # a fine pixel's centre lies a quarter of a coarse pixel from the centre of its parent
            i0 = i // 2
            i1 = min(max(i0 + (1 if i % 2 else -1), 0), ch - 1)
            for j in range(fwid):
                q = fw[i, j]
                if q >= 1:
                    continue
                j0 = j // 2
                j1 = min(max(j0 + (1 if j % 2 else -1), 0), cw - 1)
                for c in range(channels):
                    up = (
                        0.5625 * coarse[i0, j0, c]
                        + 0.1875 * (coarse[i1, j0, c] + coarse[i0, j1, c])
                        + 0.0625 * coarse[i1, j1, c]
                    )
                    fine[i, j, c] = q * fine[i, j, c] + (1 - q) * up
    values[:] = vs[0]


@kernel
def _box_rows(source, target, r):
    height, width = source.shape
    scale = np.float32(1.0 / (2 * r + 1))
    for i in range(height):
        total = np.float32(0.0)
        for j in range(min(r, width)):
            total += source[i, j]
        for j in range(width):
            if j + r < width:
                total += source[i, j + r]
            if j - r - 1 >= 0:
                total -= source[i, j - r - 1]
            target[i, j] = total * scale


@kernel
def _box_columns(source, target, r):
    height, width = source.shape
    scale = np.float32(1.0 / (2 * r + 1))
    total = np.zeros(width, np.float32)
    for i in range(min(r, height)):
        for j in range(width):
            total[j] += source[i, j]
    for i in range(height):
        for j in range(width):
            if i + r < height:
                total[j] += source[i + r, j]
            if i - r - 1 >= 0:
                total[j] -= source[i - r - 1, j]
            target[i, j] = total[j] * scale


@kernel
def blur(mask, r):
    """Three box filters of radius ``r``: near a Gaussian of sigma ``sqrt(r (r + 1))``; 0 outside the picture.

    ``mask`` holds small integers divided by nothing, so running sums of the first pass are exact; reach is ``3 r``.
    """
    a, b = mask.copy(), np.empty_like(mask)
    if r < 1:
        return a
    for _ in range(3):
        _box_rows(a, b, r)
        _box_columns(b, a, r)
    return a


@kernel
def extend(own, layer, known, new, field, radius_out, radius_eye, radius_mouth):
    """The displacement ``field`` (H, W, 2) of the whole picture, in place.

    Known skin keeps its own displacement. What lies beside it (background, neck, eyeballs, teeth) goes along near the
    edge and keeps its own further off, so that an outline never tears away from what is beside it and is never seen
    twice; uncovered pixels go along entirely.
    """
    height, width = layer.shape
    source = new.copy()
    for i in range(height):
        for j in range(width):
            if layer[i, j] == FACE:
                source[i, j] = 1.0
    out, eye, mouth = blur(source, radius_out), blur(source, radius_eye), blur(source, radius_mouth)
    for i in range(height):
        for j in range(width):
            if known[i, j] > 0:
                field[i, j, 0], field[i, j, 1] = own[i, j, 0], own[i, j, 1]
                continue
            kind = layer[i, j]
            w = out[i, j]
            if kind == MOUTH:
                w = mouth[i, j]
            elif kind in (EYE_LEFT, EYE_RIGHT):
                w = eye[i, j]
            w = min(1.0, max(0.0, 2.2 * w - 0.02))  # half the blur at a straight edge: 1 there, 0 where it fades out
            w = w * w * (3 - 2 * w)
            if kind == FACE:  # skin that the photo hides, or the face's rim
                w = 1.0
            for c in range(2):
                field[i, j, c] = own[i, j, c] + w * (field[i, j, c] - own[i, j, c])


@kernel
def smooth(field, out):
    """One pass of the 3×3 binomial filter over ``field`` (H, W, 2)."""
    height, width = field.shape[0], field.shape[1]
    for i in range(height):
        a, b = max(i - 1, 0), min(i + 1, height - 1)
        for j in range(width):
            l, r = max(j - 1, 0), min(j + 1, width - 1)
            for c in range(2):
                out[i, j, c] = 0.25 * field[i, j, c] + 0.125 * (
                    field[a, j, c] + field[b, j, c] + field[i, l, c] + field[i, r, c]
                ) + 0.0625 * (field[a, l, c] + field[a, r, c] + field[b, l, c] + field[b, r, c])  # fmt: skip


@kernel
def _cubic(t):
    """Catmull-Rom weights of the four neighbours at fraction ``t``."""
    t2, t3 = t * t, t * t * t
    return 0.5 * (2 * t2 - t - t3), 0.5 * (3 * t3 - 5 * t2 + 2), 0.5 * (4 * t2 - 3 * t3 + t), 0.5 * (t3 - t2)


@kernel
def resample(photo, field, least, image):
    """``image`` (3, H, W) float32 in [0, 1]: ``photo`` (H, W, 3) float32 looked up at every pixel plus ``field``.

    Bicubic (Catmull-Rom), edge pixels repeated. Displacements shorter than ``least`` pixels leave the pixel untouched.
    """
    height, width = photo.shape[0], photo.shape[1]
    for i in range(height):
        for j in range(width):
            dx, dy = field[i, j, 0], field[i, j, 1]
            if dx * dx + dy * dy < least * least:
                for c in range(3):
                    image[c, i, j] = photo[i, j, c]
                continue
            x, y = min(max(j + dx, 0.0), width - 1.0), min(max(i + dy, 0.0), height - 1.0)
            x0, y0 = int(x), int(y)
            a0, a1, a2, a3 = _cubic(x - x0)
            b0, b1, b2, b3 = _cubic(y - y0)
            ja, jc, jd = max(x0 - 1, 0), min(x0 + 1, width - 1), min(x0 + 2, width - 1)
            ia, ic, id_ = max(y0 - 1, 0), min(y0 + 1, height - 1), min(y0 + 2, height - 1)
            for c in range(3):
                r0 = a0 * photo[ia, ja, c] + a1 * photo[ia, x0, c] + a2 * photo[ia, jc, c] + a3 * photo[ia, jd, c]
                r1 = a0 * photo[y0, ja, c] + a1 * photo[y0, x0, c] + a2 * photo[y0, jc, c] + a3 * photo[y0, jd, c]
                r2 = a0 * photo[ic, ja, c] + a1 * photo[ic, x0, c] + a2 * photo[ic, jc, c] + a3 * photo[ic, jd, c]
                r3 = a0 * photo[id_, ja, c] + a1 * photo[id_, x0, c] + a2 * photo[id_, jc, c] + a3 * photo[id_, jd, c]
                v = b0 * r0 + b1 * r1 + b2 * r2 + b3 * r3
                image[c, i, j] = min(max(v, 0.0), 1.0)
