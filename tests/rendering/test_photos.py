"""Photo counterfactuals, on pictures whose truth is known: a rendered face as the photo, its edit rendered again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, maximum_filter, minimum_filter

from morphsym.errors import InputError, RenderError
from morphsym.faces import MorphableModel, load_model
from morphsym.intervention import MIRROR68
from morphsym.intervention.edit import edit
from morphsym.rendering import cameras, lights, photo_fill, photo_lids, render
from morphsym.rendering import photo_kernels as kernels
from morphsym.rendering.photos import PhotoScene, working_view
from morphsym.types import Cameras, FaceFit, Unit

SIZE = 256
SMILE = {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "mouthUpperUpLeft": 0.4, "mouthUpperUpRight": 0.4,
         "eyeSquintLeft": 0.5, "eyeSquintRight": 0.5, "browInnerUp": 0.5}  # fmt: skip


@pytest.fixture(scope="module", params=["makehuman", "ict"])
def model(request) -> MorphableModel:
    if request.param == "makehuman":
        return load_model("makehuman")
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / "face_models" / "ict_facekit.npz"
    if not path.is_file():
        pytest.skip("needs ../shared/data (ICT-FaceKit), which is not here")
    return load_model(str(path))


def make_unit(model: MorphableModel, scores: dict[str, float], yaw: float = 8.0, size: int = SIZE) -> Unit:
    """A rendered 'photo' of a face with ``scores`` before a textured background, and its perfect fit."""
    identity = np.zeros(model.n_identity, np.float32)
    expression = model.coefficients(scores)
    vertices = model.forward(torch.from_numpy(identity)[None], torch.from_numpy(expression)[None])
    marks = model.landmarks(vertices)
    camera = cameras.portrait_camera(size, 75.0, 20.0, yaw=yaw, target=marks[0].mean(0).tolist())
    photo = (picture(model, vertices, camera)[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
    pixels, _ = cameras.project(camera, marks)
    return Unit("u", "s", "photo", "happiness", identity, expression, camera, pixels[0].numpy(), photo=photo)


def picture(model: MorphableModel, vertices: torch.Tensor, camera: Cameras) -> torch.Tensor:
    n = len(vertices)
    albedo = torch.as_tensor(np.asarray(model.albedo, np.float32))
    images, _ = render(vertices, torch.as_tensor(model.faces), albedo, cameras.repeat(camera, n),
                       lights.default_lights(n), (0.35, 0.45, 0.6), samples=16)  # fmt: skip
    return images


def edited(model: MorphableModel, unit: Unit, side: str, strength: float) -> torch.Tensor:
    e = edit(model.sided, unit.expression, side, strength)
    return model.forward(torch.from_numpy(unit.identity)[None], torch.as_tensor(e, dtype=torch.float32)[None])


@pytest.fixture(scope="module")
def unit(model) -> Unit:
    return make_unit(model, SMILE)


@pytest.fixture(scope="module")
def scene(model, unit) -> PhotoScene:
    return PhotoScene(unit, model)


def photo_of(unit: Unit) -> np.ndarray:
    assert unit.photo is not None
    return unit.photo.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def test_null_is_the_photo(model, unit, scene):
    images, coverage, leak = scene.render(edited(model, unit, "left", 0.0))
    np.testing.assert_array_equal(images[0].numpy(), photo_of(unit))
    assert leak[0] == 0
    # rounding of another summation order, which the chain may have, changes nothing either
    noise = 1e-6 * torch.randn(1, model.n_vertices, 3, generator=torch.Generator().manual_seed(0))
    again = scene.render(edited(model, unit, "left", 0.0) + noise)
    np.testing.assert_array_equal(again.images.numpy(), images.numpy())
    assert 0.2 < coverage[0] < 0.95


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_agrees_with_the_rendered_truth(model, unit, scene, side):
    """The warped photo is nearer to the render of the edited mesh than the unedited photo is, where the edit acts."""
    vertices = edited(model, unit, side, 1.0)
    truth = picture(model, vertices, unit.camera)[0].numpy()
    made = scene.render(vertices).images[0].numpy()
    photo = photo_of(unit)
    acts = np.abs(truth - photo).max(0) > 0.08
    assert acts.sum() > 100
    assert np.abs(made - truth)[:, acts].mean() < 0.62 * np.abs(photo - truth)[:, acts].mean()


def test_landmarks_move_as_the_mesh_says(model, unit, scene):
    """At the moved mouth corner the warp points to the corner in the photo, to a quarter of a pixel."""
    vertices = edited(model, unit, "left", 1.0)
    triangle, barycentric, _ = scene._rasterize(vertices)
    pixels, _ = scene._project(vertices + scene.offset)
    field, _, _ = scene.warp(triangle[0], barycentric[0], (scene._fitted_pixels - pixels[0]).astype(np.float32))
    after, _ = cameras.project(unit.camera, model.landmarks(vertices + scene.offset))
    for mark in (54, 52, 35):  # the subject's left corner of the mouth, left upper lip, left nostril
        x, y = after[0, mark].numpy() - 0.5
        source = np.array([x, y]) + field[round(float(y)), round(float(x))]
        assert np.abs(source - (unit.landmarks[mark] - 0.5)).max() < 1.0
    assert np.linalg.norm(after[0, 54].numpy() - unit.landmarks[54]) > 3  # the edit is not small


def test_nothing_changes_outside_the_reach(model, unit, scene):
    vertices = torch.cat([edited(model, unit, s, x) for s in ("left", "right", "both") for x in (0.5, 1.0)])
    assert scene._sides(vertices) == ["left", "left", "right", "right", "both", "both"]
    images, _, leak = scene.render(vertices)
    assert torch.isfinite(images).all()
    assert images.min() >= 0
    assert images.max() <= 1
    assert leak.max() <= 2 / 255  # ICT-FaceKit's left shapes move the right half by up to 0.15 mm
    photo = photo_of(unit)
    change = np.abs(images.numpy() - photo).max(1)
    assert (change.reshape(6, -1).max(1) > 0.1).all()
    corners = np.concatenate([change[:, :20, :20], change[:, :20, -20:]], -1)
    assert corners.max() == 0
    # the measure can fail: a change on the other cheek is found
    spoiled = images.numpy().copy()
    x, y = unit.landmarks[3].astype(int)  # on the subject's right jaw
    spoiled[0, :, y, x + 12] = 1 - photo[:, y, x + 12]
    found = scene.leak(spoiled, vertices)
    assert found.largest[0] > 0.05
    assert 0 < found.mean[0] < found.largest[0]


def test_deterministic_and_independent_of_the_batch(model, unit, scene, monkeypatch):
    vertices = torch.cat([edited(model, unit, "left", x) for x in (0.25, 0.5, 1.0)])
    whole = scene.render(vertices)
    monkeypatch.setenv("MORPHSYM_THREADS", "1")
    again = PhotoScene(unit, model).render(vertices)
    alone = scene.render(vertices[1:2])
    np.testing.assert_array_equal(whole.images.numpy(), again.images.numpy())
    np.testing.assert_array_equal(whole.images[1].numpy(), alone.images[0].numpy())


def test_left_edit_of_the_mirrored_photo_is_the_mirrored_right_edit(model, unit, scene):
    assert unit.photo is not None
    flip = torch.tensor([-1.0, 1.0, 1.0])
    c = unit.camera
    turned = Cameras(c.K, c.R * flip[:, None] * flip, c.t * flip, c.height, c.width)
    marks = unit.landmarks[np.asarray(MIRROR68)] * [-1, 1] + [c.width, 0]
    mirrored = dataclasses.replace(
        unit,
        identity=np.asarray(model.mirror_identity(unit.identity), np.float32),
        expression=model.mirror_expression(unit.expression),
        camera=turned,
        landmarks=marks.astype(np.float32),
        photo=np.ascontiguousarray(unit.photo[:, ::-1]),
    )
    right = scene.render(edited(model, unit, "right", 0.75)).images[0]
    left = PhotoScene(mirrored, model).render(edited(model, mirrored, "left", 0.75)).images[0]
    difference = (left - right.flip(-1)).abs()
    change = (right - torch.from_numpy(photo_of(unit))).abs()
    changed = change.amax(0) > 0.02
    assert difference.mean() < 1e-3
    assert difference.flip(-1)[:, changed].mean() < 0.15 * change[:, changed].mean()


def test_a_shut_eye_that_opens_is_filled(model):
    """What the photo never showed comes from the model's parts; what it shows on the other side comes from there."""
    shut = make_unit(model, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, yaw=0.0)
    opened = edited(model, shut, "both", 1.0)
    made = PhotoScene(shut, model).render(opened).images[0].numpy()
    truth = picture(model, opened, shut.camera)[0].numpy()
    wink = make_unit(model, {"eyeBlinkLeft": 1.0}, yaw=0.0)
    winked = PhotoScene(wink, model)
    from_mirror = winked.render(edited(model, wink, "left", 1.0)).images[0].numpy()
    for eye in (slice(36, 42), slice(42, 48)):
        x, y = np.rint(shut.landmarks[eye].mean(0)).astype(int)
        box = np.s_[:, y - 4 : y + 11, x - 9 : x + 10]  # with the lid line of the shut eye, which must go
        assert np.abs(made[box] - truth[box]).mean() < 0.6 * np.abs(photo_of(shut)[box] - truth[box]).mean()
    assert np.abs(from_mirror[box] - truth[box]).mean() < 0.6 * np.abs(photo_of(wink)[box] - truth[box]).mean()


def changed(model: MorphableModel, unit: Unit, scores: dict[str, float]) -> torch.Tensor:
    e = model.coefficients(scores)
    return model.forward(torch.from_numpy(unit.identity)[None], torch.from_numpy(e)[None])


def strange(image: np.ndarray, photo: np.ndarray, radius: int) -> float:
    """Share of the edited pixels (3, H, W) with a colour that the photo does not have within ``radius`` pixels."""
    size = (1, 2 * radius + 1, 2 * radius + 1)
    low, high = minimum_filter(photo, size) - 0.06, maximum_filter(photo, size) + 0.06
    acts = np.abs(image - photo).max(0) > 0.02
    return float((((image < low) | (image > high)).any(0) & acts).sum() / max(acts.sum(), 1))


def test_edits_have_only_colours_of_the_photo_nearby(model, unit, scene):
    """No grey rims, holes or smears: a weakened smile is made of the face's own pixels."""
    vertices = torch.cat([edited(model, unit, s, x) for s in ("left", "right", "both") for x in (0.5, 1.0)])
    photo, radius = photo_of(unit), round(scene.pixels_per_cm)
    shares = [strange(x, photo, radius) for x in scene.render(vertices).images.numpy()]
    assert max(shares) < 0.001
    grey = scene.render(vertices[:1]).images[0].numpy().copy()  # the measure can fail: a rim of grey about the lips
    lips = np.concatenate([unit.landmarks[48:60] * (1 - t) + np.roll(unit.landmarks[48:60], -1, 0) * t
                           for t in np.linspace(0, 1, 12)])  # fmt: skip
    x, y = lips.astype(int).T
    for dy in (0, 1):
        grey[:, y + dy, x] = np.array([0.35, 0.45, 0.6])[:, None]
    assert strange(grey, photo, radius) > 0.01


def test_an_eye_that_shuts_gets_a_lid_of_skin(model):
    unit = make_unit(model, {}, yaw=0.0)
    scene = PhotoScene(unit, model)
    shut = changed(model, unit, {"eyeBlinkLeft": 1.0})
    made = scene.render(shut).images[0].numpy()
    truth, photo = picture(model, shut, unit.camera)[0].numpy(), photo_of(unit)
    x, y = np.rint(unit.landmarks[42:48].mean(0)).astype(int)
    box = np.s_[:, y - 7 : y + 8, x - 11 : x + 12]
    assert np.abs(made[box] - truth[box]).mean() < 0.5 * np.abs(photo[box] - truth[box]).mean()
    lid = np.s_[:, y - 3 : y + 1, x - 6 : x + 7]  # where the iris was
    cheek = np.s_[:, y + 14 : y + 20, x - 6 : x + 7]
    assert np.abs(made[lid].mean((1, 2)) - photo[cheek].mean((1, 2))).max() < 0.12
    assert made[lid].std((1, 2)).max() < 0.5 * photo[lid].std((1, 2)).max()
    half = model.hemiface_left[np.maximum(scene._layers.faces[scene._photo_triangle], 0)].max(-1) < 0.01
    assert np.abs(made - photo)[:, half & (scene._photo_layer == kernels.FACE)].max() < 2 / 255  # the other eye stays


def test_lids_grow_with_the_closing_and_leave_small_ones_to_the_warp():
    lids = photo_lids.Lids.__new__(photo_lids.Lids)
    lids.area = {kernels.EYE_LEFT: 100}
    weights = [lids.weight(kernels.EYE_LEFT, a) for a in (120, 100, 66, 45, 25, 0)]
    assert weights[:3] == [0, 0, 0]
    assert 0 < weights[3] < 1
    assert weights[4:] == [1, 1]
    lids.area = {kernels.EYE_LEFT: 2}  # shut in the photo already
    assert lids.weight(kernels.EYE_LEFT, 0) == 0


def test_a_closed_mouth_that_opens_shows_the_inside_without_a_rim(model):
    unit = make_unit(model, {}, yaw=0.0)
    opened = changed(model, unit, {"jawOpen": 0.6})
    scene = PhotoScene(unit, model)
    made = scene.render(opened).images[0].numpy()
    truth, photo = picture(model, opened, unit.camera)[0].numpy(), photo_of(unit)
    mouth = kernels.layers_of(scene._rasterize(opened)[0][0], scene._layers.layer) == kernels.MOUTH
    assert mouth.sum() > 100
    # Teeth, tongue and dark are where the model has them, not stretched lips; the truth is rendered without shadow
    inner = binary_erosion(mouth)
    likeness = [np.corrcoef(x.mean(0)[inner], truth.mean(0)[inner])[0, 1] for x in (made, photo)]
    assert likeness[0] > max(0.6, likeness[1] + 0.3)
    assert made[:, inner].mean() < truth[:, inner].mean()
    rim = binary_dilation(mouth, iterations=2) & ~mouth
    assert np.abs(made - truth)[:, rim].mean() < 0.12
    # the rim is lip, not the background's grey-blue nor teeth: red before blue
    assert (made[0] - made[2])[rim].min() > -0.02


def test_fill_weight_grows_as_less_is_visible():
    filler = photo_fill.Filler.__new__(photo_fill.Filler)
    filler.area, filler.least = {kernels.MOUTH: 100, kernels.EYE_LEFT: 100}, 5
    assert filler.weight(kernels.MOUTH, 130) == 0  # most is visible: the photo is stretched
    assert filler.weight(kernels.EYE_LEFT, 190) == 0
    assert filler.weight(kernels.MOUTH, 1000) == filler.weight(kernels.EYE_LEFT, 1000) == 1
    assert 0 < filler.weight(kernels.MOUTH, 150) < 1
    assert 0 < filler.weight(kernels.EYE_LEFT, 300) < 1
    filler.area = {kernels.MOUTH: 0}
    assert filler.weight(kernels.MOUTH, 4) == 0  # a few pixels are a rounding of the lips, not an opening


def test_bad_input(model, unit, scene):
    with pytest.raises(RenderError, match=r"expected vertices of shape \(B, \d+, 3\), got \(1, 5, 3\)"):
        scene.render(torch.zeros(1, 5, 3))
    bad = scene.fitted[None].repeat(2, 1, 1)
    bad[1, 7] = float("nan")
    with pytest.raises(RenderError, match="vertices of image 1 hold a value that is not finite"):
        scene.render(bad)
    with pytest.raises(RenderError, match="has no photo"):
        PhotoScene(dataclasses.replace(unit, photo=None), model)
    with pytest.raises(RenderError, match=r"expected a photo of \(256, 256, 3\) uint8"):
        PhotoScene(dataclasses.replace(unit, photo=np.zeros((64, 64, 3), np.uint8)), model)
    away = dataclasses.replace(unit.camera, t=unit.camera.t + torch.tensor([500.0, 0, 0]))
    with pytest.raises(RenderError, match="pixels off its landmarks"):
        PhotoScene(dataclasses.replace(unit, camera=away), model)


# -- the working view ------------------------------------------------------------------------------------------------


def make_fit(height: int, width: int, centre: tuple[float, float], face: float) -> FaceFit:
    """A fit whose 68 landmarks fill a square of side ``face`` pixels."""
    rng = np.random.default_rng(0)
    marks = rng.uniform(-0.5, 0.5, (68, 2))
    marks[:4] = [(-0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (0.5, -0.5)]
    K = np.array([[900.0, 0, width / 2], [0, 900.0, height / 2], [0, 0, 1]])
    return FaceFit(
        "f", "f.png", "", 0, "ok", "", "m", "", np.zeros(1), np.zeros(1), ("a",), K, np.diag([1.0, -1, -1]),
        np.array([0.0, 0, 100]), height, width, (marks * face + centre).astype(np.float32), 0.0, 0.0, 0.0, 0.0,
    )  # fmt: skip


@pytest.mark.parametrize(("face", "centre"), [(300.0, (500.0, 420.0)), (60.0, (800.0, 100.0)), (200.0, (40.0, 600.0))])
def test_working_view_pixels_and_camera_agree(face, centre):
    """Colours that are linear in the photo's coordinates tell where each pixel of the view came from."""
    height, width = 700, 900
    v, u = np.mgrid[:height, :width] + 0.5
    photo = np.stack([u / width, v / height, 0.5 + 0 * u], -1)
    photo = np.round(photo * 255).astype(np.uint8)
    fit = make_fit(height, width, centre, face)
    view, camera = working_view(photo, fit, 200)
    assert view.shape == (200, 200, 3)
    assert (camera.height, camera.width) == (200, 200)
    points = torch.tensor([[[-2.0, 3.0, 1.0], [4.0, -1.0, 0.0], [0.0, 0.0, -3.0]]])
    old = Cameras(*(torch.from_numpy(np.asarray(x)[None]).float() for x in (fit.K, fit.R, fit.t)), height, width)
    there, _ = cameras.project(old, points)
    here, _ = cameras.project(camera, points)
    scale = float(camera.K[0, 0, 0]) / 900
    assert scale == pytest.approx(200 / (1.7 * face), rel=1e-5)
    shift = camera.K[0, :2, 2].numpy() - scale * fit.K[:2, 2]
    np.testing.assert_allclose(here[0].numpy(), there[0].numpy() * scale + shift, atol=1e-2)
    rows, columns = np.mgrid[10:190:20, 10:190:20]
    x = (columns + 0.5 - shift[0]) / scale
    y = (rows + 0.5 - shift[1]) / scale
    inside = (x > 8) & (x < width - 8) & (y > 8) & (y < height - 8)
    assert inside.sum() > 20
    np.testing.assert_allclose(view[rows, columns, 0][inside], (x / width * 255)[inside], atol=1.2)
    np.testing.assert_allclose(view[rows, columns, 1][inside], (y / height * 255)[inside], atol=1.2)
    assert (np.abs(view[..., 2].astype(int) - 128) <= 1).all()  # the border's pixels are repeated, not black


def test_working_view_is_antialiased():
    photo = np.zeros((1200, 1200, 3), np.uint8)
    photo[::2] = 255  # the finest stripes
    view, _ = working_view(photo, make_fit(1200, 1200, (600, 600), 500), 128)
    assert np.abs(view.astype(int) - 128).max() < 12


def test_working_view_bad_input():
    fit = make_fit(100, 120, (60, 50), 40)
    with pytest.raises(InputError, match="belongs to a photo of 120×100 pixels, this one has 50×50"):
        working_view(np.zeros((50, 50, 3), np.uint8), fit)
    with pytest.raises(InputError, match="working size must be 1 to 512 pixels, got 4096"):
        working_view(np.zeros((100, 120, 3), np.uint8), fit, 4096)
    with pytest.raises(InputError, match="uint8"):
        working_view(np.zeros((100, 120), np.uint8), fit)
    with pytest.raises(InputError, match="only 2.0 pixels large"):
        working_view(np.zeros((100, 120, 3), np.uint8), make_fit(100, 120, (60, 50), 2))


# -- kernels against independent references --------------------------------------------------------------------------


def test_blur_is_three_box_filters():
    from scipy.ndimage import uniform_filter

    mask = (np.random.default_rng(1).random((41, 37)) > 0.7).astype(np.float32)
    for r in (1, 4, 15):
        expected = mask.astype(np.float64)
        for _ in range(3):
            expected = uniform_filter(expected, 2 * r + 1, mode="constant")
        np.testing.assert_allclose(kernels.blur(mask, r), expected, atol=1e-5)


def test_resample_reproduces_shifts_and_leaves_the_rest():
    rng = np.random.default_rng(2)
    small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
    photo = np.asarray(small, np.float32) / 255
    field = np.zeros((64, 64, 2), np.float32)
    field[:, 32:] = (3.0, -2.0)
    image = np.empty((3, 64, 64), np.float32)
    kernels.resample(photo, field, np.float32(0.02), image)
    np.testing.assert_array_equal(image[:, :, :32].transpose(1, 2, 0), photo[:, :32])
    np.testing.assert_allclose(image[:, 4:60, 32:58].transpose(1, 2, 0), photo[2:58, 35:61], atol=1e-6)
    from scipy.ndimage import map_coordinates

    field[:] = (0.3, 0.6)
    kernels.resample(photo, field, np.float32(0.02), image)
    rows, columns = np.mgrid[4:60, 4:60].astype(float)
    expected = map_coordinates(photo[..., 0].astype(float), [rows + 0.6, columns + 0.3], order=3)
    np.testing.assert_allclose(image[0, 4:60, 4:60], expected, atol=0.02)  # another cubic kernel


def test_pull_push_keeps_the_known_and_continues_a_ramp():
    rows, columns = np.mgrid[:50, :70].astype(np.float32)
    values = np.stack([0.1 * columns, 0.05 * rows], -1).astype(np.float32)
    weight = np.ones((50, 70), np.float32)
    weight[20:30, 25:40] = 0
    filled = np.where(weight[..., None] > 0, values, 0).astype(np.float32)
    kernels.pull_push(filled, weight, 6)
    np.testing.assert_array_equal(filled[weight > 0], values[weight > 0])
    kernels.relax(filled, weight, 60)
    np.testing.assert_allclose(filled, values, atol=0.05)


def test_erode_forgets_a_rim():
    from scipy.ndimage import binary_dilation

    layer = np.full((30, 40), kernels.FACE, np.int8)
    layer[10:13, 20:22] = kernels.STILL
    layer[:, :2] = kernels.BACKGROUND
    layer[20, 30] = kernels.MOUTH
    known = (layer == kernels.FACE).astype(np.float32)
    expected = known * ~binary_dilation(layer < kernels.FACE, np.ones((7, 7)))
    kernels.erode(known, layer, 3)
    np.testing.assert_array_equal(known, expected)
