"""Crops against PIL, scikit-image and geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.transform import SimilarityTransform, resize

from morphsym.classifiers.crops import _sample, crop_matrix, five_points, sample, similarity
from morphsym.classifiers.preprocess import cropped, normalise, preprocess
from morphsym.classifiers.spec import CropSpec, ResizeSpec, parse_spec
from morphsym.errors import InputError

from .faces import MIRROR68, landmarks, picture

BASE = {"id": "x", "backend": "onnx", "labels": ["happy", "sad"], "input_size": 64}


def spec(**crop):
    return parse_spec({**BASE, "crop": crop})


def apply(matrix, points):
    return torch.einsum("bij,bnj->bni", matrix[:, :, :2], points) + matrix[:, None, :, 2]


def test_box_is_the_landmarks_box_times_margin():
    points = landmarks()
    low, high = points.amin(1), points.amax(1)
    edge = (high - low).max().item()
    corners = apply(crop_matrix(points, spec(margin=1.2, shift=(0.1, -0.15))), torch.tensor([[[0.0, 0.0], [64, 64]]]))
    centre = corners.mean(1)
    assert torch.allclose(corners[:, 1] - corners[:, 0], torch.full((1, 2), 1.2 * edge), atol=1e-3)
    assert torch.allclose(centre, (low + high) / 2 + edge * torch.tensor([0.1, -0.15]), atol=1e-3)


def test_alignment_puts_the_five_points_on_the_template():
    """A rotated, scaled, moved template is brought back exactly."""
    template = torch.tensor(CropSpec().points) * 64
    angle = 0.4
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    five = template @ turn.T * 3.1 + torch.tensor([40.0, 25.0])
    points = landmarks()
    points[0, 36:42], points[0, 42:48] = five[0], five[1]
    points[0, 30], points[0, 48], points[0, 54] = five[2], five[3], five[4]
    assert torch.allclose(five_points(points)[0], five, atol=1e-3)
    back = apply(crop_matrix(points, spec(kind="align")), template[None])
    assert torch.allclose(back[0], five, atol=2e-3)


def test_similarity_equals_scikit_image():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(4, 5, 2)) * 40, rng.normal(size=(4, 5, 2)) * 40
    got = similarity(torch.from_numpy(source), torch.from_numpy(target)).numpy()
    for i in range(4):
        expected = SimilarityTransform.from_estimate(source[i], target[i]).params[:2]
        if np.linalg.det(expected[:, :2]) > 0:
            np.testing.assert_allclose(got[i], expected, atol=1e-9)


@pytest.mark.parametrize("crop", [{"kind": "box", "margin": 1.15, "shift": (0.0, -0.15)}, {"kind": "full"}])
def test_the_mirrored_picture_gives_the_mirrored_crop(crop):
    image, points = picture(), landmarks() + torch.tensor([7.3, -4.0])
    mirrored = points.clone()
    mirrored[..., 0] = 224 - mirrored[..., 0]
    mirrored = mirrored[:, MIRROR68]
    s = spec(**crop)
    a = sample(image, crop_matrix(points, s, (224, 224)), (64, 64), s.resize)
    b = sample(image.flip(-1), crop_matrix(mirrored, s, (224, 224)), (64, 64), s.resize)
    assert torch.allclose(a.flip(-1), b, atol=2e-5)


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_whole_number_reduction_equals_pil(factor, mode):
    """On pixel boundaries, antialiased: PIL's resize of PIL's crop (float pictures, so that nothing is rounded)."""
    image = picture(400)[0, :1]
    n, x, y = 48, 31, 17
    pil = Image.fromarray(image[0].numpy()).crop((x, y, x + n * factor, y + n * factor))
    filter_ = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[mode]
    expected = np.asarray(pil.resize((n, n), filter_))
    matrix = torch.tensor([[[factor, 0, x], [0, factor, y]]], dtype=torch.float32)
    got = sample(image[None], matrix, (n, n), ResizeSpec(interpolation=mode))[0, 0].numpy()
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_enlarging_equals_scikit_image():
    image = picture(32)
    matrix = torch.tensor([[[0.4, 0, 0], [0, 0.4, 0]]])
    got = sample(image, matrix, (80, 80), ResizeSpec(), outside="edge")[0].permute(1, 2, 0).numpy()
    expected = resize(image[0].permute(1, 2, 0).numpy(), (80, 80), order=1, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_antialias_removes_what_the_crop_cannot_show():
    """A one-pixel chequerboard, reduced 3.7 times, is grey; without the filter it is stripes."""
    board = (torch.arange(300)[:, None] + torch.arange(300)[None]) % 2
    image = board.float().expand(1, 3, 300, 300).contiguous()
    matrix = torch.tensor([[[3.7, 0, 20.3], [0, 3.7, 21.1]]])
    flat = sample(image, matrix, (64, 64), ResizeSpec(antialias=True))
    rough = sample(image, matrix, (64, 64), ResizeSpec(antialias=False))
    area = sample(image, matrix, (64, 64), ResizeSpec(interpolation="area"))
    assert flat.std() < 0.02
    assert area.std() < 0.05
    assert rough.std() > 0.1


def test_an_image_does_not_depend_on_its_neighbours():
    images = picture(300, batch=3)
    matrix = torch.tensor([[[1.1, 0, 9], [0, 1.1, 3]], [[3.9, 0, 2], [0, 3.9, 8]], [[0.7, 0, 60], [0, 0.7, 50]]])
    together = sample(images, matrix, (64, 64), ResizeSpec())
    for i in range(3):
        alone = sample(images[i : i + 1], matrix[i : i + 1], (64, 64), ResizeSpec())[0]
        assert torch.allclose(together[i], alone, atol=1e-6)


def test_outside_the_picture():
    image = torch.full((1, 3, 10, 10), 0.25)
    matrix = torch.tensor([[[1.0, 0, -20], [0, 1, -20]]])
    assert torch.allclose(sample(image, matrix, (8, 8), ResizeSpec(), 0.6), torch.tensor(0.6))
    assert torch.allclose(sample(image, matrix, (8, 8), ResizeSpec(), "edge"), torch.tensor(0.25))


def test_wrong_landmarks_are_refused():
    with pytest.raises(InputError, match=r"expected \(B, 68, 2\), got \(1, 5, 2\)"):
        crop_matrix(torch.zeros(1, 5, 2), spec())
    bad = landmarks(batch=3)
    bad[1, 4, 0] = torch.nan
    with pytest.raises(InputError, match="image 1 of the batch has non-finite"):
        crop_matrix(bad, spec())
    for kind in ("box", "align"):
        with pytest.raises(InputError, match="no extent"):
            crop_matrix(torch.ones(1, 68, 2), spec(kind=kind))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "area"])
@pytest.mark.parametrize("outside", ["edge", 0.0, 0.3])
@pytest.mark.parametrize("step", [0.6, 1.0, 1.7, 3.4])
def test_the_fast_path_equals_the_general_one(mode, outside, step):
    """Two matrix products for upright crops against grid_sample, also over the rim of the picture."""
    images = picture(200, batch=2)
    matrix = torch.tensor([[[step, 0, -9.3], [0, step * 1.1, 120.0]], [[step, 0, 60.4], [0, step * 1.1, -40.0]]])
    resize = ResizeSpec(interpolation=mode)
    k = max(1, int(np.ceil(step * 1.1 - 1e-4)))
    got = sample(images, matrix, (40, 48), resize, outside)
    assert torch.allclose(got, _sample(images, matrix, (40, 48), resize, outside, k), atol=2e-5)


def test_grey_before_or_after_the_crop():
    s = parse_spec({**BASE, "colour": "grey", "crop": {"outside": 0.4, "margin": 3.0}})
    images, points = picture(batch=2), landmarks(batch=2)
    assert torch.allclose(preprocess(images, points, s), normalise(cropped(images, points, s), s), atol=1e-5)
