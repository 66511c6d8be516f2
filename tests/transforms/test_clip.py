"""The transforms on the device: exact where they can be, like Pillow elsewhere, and rightly distributed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from r23d_jax.errors import UserError
from r23d_jax.transforms import boxes, colour, mixing
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.transforms.boxes import Augmentation
from r23d_jax.transforms.spec import Preprocessing

SPEC = Preprocessing(resize=(24, 32), crop=16, frames=2)
PLAIN = Augmentation(crop="random", flip=0.0)
CLASSES = ("a", "b", "c")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def sizes(count: int, height: int, width: int) -> np.ndarray:
    return np.tile(np.asarray([height, width], np.int32), (count, 1))


def undo(video, spec=SPEC) -> np.ndarray:
    """Back to 0..255."""
    return (np.asarray(video, np.float32) * spec.std + spec.mean) * 255


def resample(frames, size, boxes, shape, flips=None, dtype="float32"):
    flips = np.zeros(len(frames), bool) if flips is None else flips
    return np.asarray(_resample(frames, size, jnp.asarray(boxes, jnp.float32), flips, shape, dtype))


_resample = jax.jit(clip_transforms.resample, static_argnums=(4, 5, 6))


def boxes_of(augmentation, spec, height, width, count=4000) -> np.ndarray:
    keys = jax.random.split(jax.random.key(1), count)
    size = jnp.asarray([height, width], jnp.int32)
    draw = jax.jit(jax.vmap(lambda key: boxes.train_box(key, size, spec, augmentation)))
    return np.asarray(draw(keys))


# Resampling


@pytest.mark.parametrize("frames_of", [lambda: noise(2, 3, 30, 40, 3), lambda: noise(2, 19, 30, 40, 2)])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-3), ("bfloat16", 2)])
def test_whole_pixels_are_resampled_alike(frames_of, dtype, tolerance):
    frames, boxes = frames_of(), jnp.asarray([[1.5, 2, 20, 30], [-3, 4, 28, 20]], jnp.float32)
    arguments = (frames, sizes(2, 30, 40), boxes, np.asarray([False, True]), (11, 13), dtype)
    expected, found = (_resample(*arguments, whole) for whole in (False, True))
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_box_of_whole_pixels_is_the_identity(dtype):
    frames = noise(3, 2, 30, 40, 3)
    boxes = [[0, 0, 16, 16], [5, 7, 16, 16], [14, 24, 16, 16]]
    found = resample(frames, sizes(3, 30, 40), boxes, (16, 16), dtype=dtype)
    for clip, result, (y, x, _, _) in zip(frames, found, boxes, strict=True):
        assert (result == clip[:, y : y + 16, x : x + 16]).all()


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 96, 128),
        (3, 7, 60, 60),
        (3.3, 7.7, 80.5, 61.25),
        (40, 60, 17, 19),  # enlarged
        (0, 0, 96, 20),  # one side each way
        (31.5, 11.5, 40, 40),
    ],
)
def test_agrees_with_pillow(box):
    frame = noise(96, 128, 3)
    y, x, height, width = box
    expected = Image.fromarray(frame).resize((40, 40), Image.BILINEAR, box=(x, y, x + width, y + height))
    for canvas in ((96, 128), (100, 150)):  # what lies beyond the true frame plays no part
        frames = noise(1, 1, *canvas, 3, seed=1)
        frames[0, 0, :96, :128] = frame
        for dtype, tolerance in (("float32", 1.01), ("bfloat16", 3.0), ("float16", 1.2)):
            found = resample(frames, sizes(1, 96, 128), [box], (40, 40), dtype=dtype)[0, 0]
            assert np.abs(found - np.asarray(expected, np.float32)).max() <= tolerance


def test_agrees_with_torchvision():
    import torch

    frame = noise(96, 128, 3)
    planes = torch.tensor(frame, dtype=torch.float32).permute(2, 0, 1)[None]
    for shape in ((40, 56), (120, 160)):
        expected = torch.nn.functional.interpolate(planes, shape, mode="bilinear", antialias=True)[0]
        found = resample(frame[None, None], sizes(1, 96, 128), [[0, 0, 96, 128]], shape)[0, 0]
        assert np.abs(found - expected.permute(1, 2, 0).numpy()).max() < 0.01


def test_flip_mirrors_left_and_right():
    frames, boxes = noise(2, 3, 20, 30, 3), [[1.5, 2.5, 12, 18], [1.5, 2.5, 12, 18]]
    frames[1] = frames[0]
    found = resample(frames, sizes(2, 20, 30), boxes, (9, 9), flips=np.asarray([False, True]))
    np.testing.assert_array_equal(found[1], found[0][:, :, ::-1])


def test_long_clips_in_parts_are_the_same():
    frames, boxes = noise(2, 38, 20, 30, 3), [[1.5, 2.5, 12, 18], [0, 0, 20, 30]]
    found = resample(frames, sizes(2, 20, 30), boxes, (9, 9))
    parts = [resample(frames[:, t : t + 1], sizes(2, 20, 30), boxes, (9, 9)) for t in range(38)]
    np.testing.assert_allclose(found, np.concatenate(parts, 1), atol=1e-3)


def test_a_box_beyond_the_frame_repeats_its_border():
    frames = noise(1, 1, 12, 12, 3)
    found = resample(frames, sizes(1, 8, 8), [[-4, -4, 16, 16]], (16, 16))[0, 0]
    expected = np.pad(frames[0, 0, :8, :8], ((4, 4), (4, 4), (0, 0)), mode="edge")
    np.testing.assert_allclose(found, expected, atol=1e-4)


# Evaluation


@pytest.mark.parametrize(
    "resize, height, width, top, left",
    [
        ((24, 32), 24, 32, 4, 8),
        ((24, 33), 24, 33, 4, 8),  # 8.5, to even as torchvision does
        (None, 21, 16, 2, 0),
        (20, 20, 41, 2, 12),
    ],
)
def test_centre_crop_by_hand(resize, height, width, top, left):
    spec = dataclasses.replace(SPEC, resize=resize)
    frames = noise(2, 2, 48, 48, 3)
    found = jax.jit(clip_transforms.eval_transform(spec))(frames, sizes(2, height, width), np.zeros(2, np.int32))
    np.testing.assert_allclose(undo(found), frames[:, :, top : top + 16, left : left + 16], atol=1e-3)


def test_three_crops_along_the_longer_side():
    frames = np.concatenate([noise(1, 2, 40, 40, 3)] * 6)
    size = np.concatenate([sizes(3, 24, 40), sizes(3, 40, 18)])
    spec = dataclasses.replace(SPEC, resize=None)
    found = undo(jax.jit(clip_transforms.eval_transform(spec, 3))(frames, size, np.asarray([0, 1, 2, 0, 1, 2])))
    places = [(4, 0), (4, 12), (4, 24), (0, 1), (12, 1), (24, 1)]
    for clip, (y, x) in zip(found, places, strict=True):
        np.testing.assert_allclose(clip, frames[0, :, y : y + 16, x : x + 16], atol=1e-3)


def test_resize_then_crop_agrees_with_pillow():
    frame = noise(48, 64, 3)
    for resize, expected_size in (((24, 32), (32, 24)), (30, (40, 30))):
        spec = dataclasses.replace(SPEC, resize=resize)
        found = undo(
            jax.jit(clip_transforms.eval_transform(spec))(frame[None, None], sizes(1, 48, 64), np.zeros(1, np.int32))
        )
        whole = np.asarray(Image.fromarray(frame).resize(expected_size, Image.BILINEAR), np.float32)
        y, x = (whole.shape[0] - 16) // 2, (whole.shape[1] - 16) // 2
        assert np.abs(found[0, 0] - whole[y : y + 16, x : x + 16]).max() <= 1.01


def test_without_a_crop_the_whole_frame():
    frames = noise(2, 2, 24, 32, 3)
    for resize in (None, (24, 32)):
        spec = dataclasses.replace(SPEC, resize=resize, crop=None)
        found = jax.jit(clip_transforms.eval_transform(spec))(frames, sizes(2, 24, 32), np.zeros(2, np.int32))
        np.testing.assert_allclose(undo(found), frames, atol=1e-3)
    with pytest.raises(UserError, match="short side alone"):
        clip_transforms.eval_transform(dataclasses.replace(SPEC, resize=24, crop=None))


@pytest.mark.parametrize(
    "short, height, width, expected",
    [
        (136, 128, 171, (136, 181)),
        (136, 171, 128, (181, 136)),
        (136, 128, 128, (136, 136)),
        (256, 240, 320, (256, 341)),
    ],
)
def test_resize_by_the_short_side(short, height, width, expected):
    spec = dataclasses.replace(SPEC, resize=short)
    assert np.asarray(boxes.resized(jnp.asarray([height, width]), spec)).tolist() == list(expected)


def test_normalise_by_hand():
    spec = dataclasses.replace(SPEC, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1))
    video = jnp.full((1, 1, 1, 1, 3), 127.5)
    np.testing.assert_allclose(clip_transforms.normalise(video, spec).ravel(), [0.0, 0.5, 2.0], atol=1e-6)
    with pytest.raises(UserError, match="3 and 3 numbers, the frames 2 channels"):
        clip_transforms.normalise(video[..., :2], spec)


# Boxes of training clips


def test_multi_scale_boxes():
    """The study's: scaled to a short side of 136, five sizes, anywhere."""
    spec = Preprocessing(resize=136, crop=112, frames=16)
    found = boxes_of(Augmentation(), spec, 128, 171) * 136 / 128
    sides = np.round(found[:, 2], 2)
    np.testing.assert_allclose(found[:, 3] * (181 / 171) / (136 / 128), sides, atol=0.02)  # square once resized
    values, counts = np.unique(sides, return_counts=True)
    assert values.tolist() == [68, 80, 96, 114, 136]
    assert np.abs(counts / len(found) - 0.2).max() < 5 * np.sqrt(0.16 / len(found))
    small = found[sides == 68]
    tops = np.round(small[:, 0]).astype(int)
    lefts = np.round(small[:, 1] * (181 / 171) / (136 / 128)).astype(int)
    assert (tops.min(), tops.max(), lefts.min(), lefts.max()) == (0, 68, 0, 113)
    assert abs(tops.mean() - 34) < 5 * 20 / np.sqrt(len(small))
    assert abs(lefts.mean() - 56.5) < 5 * 33 / np.sqrt(len(small))
    assert (found[sides == 136][:, 0] == 0).all()


def test_random_resized_boxes():
    spec = Preprocessing(resize=None, crop=112, frames=16)
    found = boxes_of(Augmentation(crop="random_resized"), spec, 128, 171)
    top, left, height, width = found.T
    assert (found == np.round(found)).all()
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 128).all() and (left + width <= 171).all()
    share = height * width / (128 * 171)
    assert share.min() > 0.24 and share.max() <= 1.0
    ratio = width / height
    assert ratio.min() > 0.73 and ratio.max() < 1.36
    assert ratio.min() < 0.8 and ratio.max() > 1.25 and share.min() < 0.3 and share.max() > 0.85
    assert len(set(top)) > 50 and len(set(left)) > 50


def test_random_resized_where_nothing_fits_takes_the_middle():
    spec = Preprocessing(resize=None, crop=16, frames=16)
    options = Augmentation(crop="random_resized", area=(1.0, 1.0), ratio=(1.0, 1.0))
    found = boxes_of(options, spec, 40, 100, count=5)
    assert (found == [0, 30, 40, 40]).all()


def test_random_and_center_boxes():
    found = boxes_of(PLAIN, SPEC, 24, 32)
    assert (found[:, 2:] == 16).all()
    for axis, most in ((0, 8), (1, 16)):
        values, counts = np.unique(found[:, axis], return_counts=True)
        assert values.tolist() == list(range(most + 1))
        assert np.abs(counts / len(found) * (most + 1) - 1).max() < 0.35
    assert (boxes_of(Augmentation(crop="center"), SPEC, 24, 32, 3) == [4, 8, 16, 16]).all()


# The whole transform


def transform(augmentation=PLAIN, spec=SPEC, dtype="float32"):
    return jax.jit(clip_transforms.train_transform(spec, augmentation, CLASSES, dtype))


def test_all_frames_of_a_clip_are_treated_alike():
    everything = Augmentation(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    frames = np.repeat(noise(8, 1, 24, 32, 3), 5, axis=1)
    video, _ = transform(everything)(jax.random.key(0), frames, sizes(8, 24, 32), np.zeros(8, int))
    assert (np.asarray(video) == np.asarray(video)[:, :1]).all()


def test_a_key_gives_the_same_and_another_does_not():
    frames, size, labels = noise(4, 2, 24, 32, 3), sizes(4, 24, 32), np.zeros(4, int)
    step = transform(Augmentation(brightness=0.4))
    one, _ = step(jax.random.key(0), frames, size, labels)
    again, _ = step(jax.random.key(0), frames, size, labels)
    other, _ = step(jax.random.key(1), frames, size, labels)
    assert (np.asarray(one) == np.asarray(again)).all()
    assert (np.asarray(one) != np.asarray(other)).any(axis=(1, 2, 3, 4)).all()


def test_rows_are_independent_of_their_neighbours():
    frames, size, labels = noise(4, 2, 24, 32, 3), sizes(4, 24, 32), np.zeros(4, int)
    step = transform(Augmentation())
    whole, _ = step(jax.random.key(0), frames, size, labels)
    other = frames.copy()
    other[2:] = 0
    part, _ = step(jax.random.key(0), other, size, labels)
    np.testing.assert_array_equal(part[:2], whole[:2])
    assert len({np.asarray(row).tobytes() for row in whole}) == 4


def test_the_frame_is_only_moved_by_a_plain_crop():
    frames = noise(6, 2, 24, 32, 3)
    video, targets = transform()(jax.random.key(3), frames, sizes(6, 24, 32), np.asarray([0, 1, 2, 0, 1, 2]))
    for clip, found in zip(frames, undo(video), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(clip, (16, 16), axis=(1, 2))
        difference = np.abs(windows.transpose(1, 2, 0, 4, 5, 3) - found).max(axis=(2, 3, 4, 5))
        assert (difference < 1e-3).sum() == 1
    assert targets.dtype == np.float32
    assert (np.asarray(targets) == np.eye(3)[[0, 1, 2, 0, 1, 2]]).all()


def test_bfloat16_is_close():
    frames, size = noise(4, 2, 24, 32, 3), sizes(4, 24, 32)
    one, _ = transform(Augmentation())(jax.random.key(0), frames, size, np.zeros(4, int))
    other, _ = transform(Augmentation(), dtype="bfloat16")(jax.random.key(0), frames, size, np.zeros(4, int))
    assert one.dtype == np.float32
    assert other.dtype == jnp.bfloat16
    assert np.abs(undo(one) - undo(other)).max() < 3


def test_flips_come_at_their_rate_and_never_to_sensitive_classes():
    count = 1200
    frames = np.zeros((count, 1, 16, 16, 3), np.uint8)
    frames[:, :, :, 8:] = 255
    spec = dataclasses.replace(SPEC, resize=None)
    labels = np.arange(count) % 3
    step = transform(Augmentation(crop="center", flip=0.3, flip_sensitive=("b",)), spec)
    video, _ = step(jax.random.key(0), frames, sizes(count, 16, 16), labels)
    flipped = np.asarray(video)[:, 0, 0, 0, 0] > 0
    assert not flipped[labels == 1].any()
    assert abs(flipped[labels != 1].mean() - 0.3) < 5 * np.sqrt(0.21 / 800)


def test_a_flipped_flow_points_the_other_way():
    spec = Preprocessing(resize=None, crop=8, frames=1, mean=(0.5, 0.5), std=(0.5, 0.5), channels="flow", flow="tvl1")
    frames = noise(2, 1, 8, 8, 2)
    step = transform(Augmentation(crop="center", flip=1.0), spec)
    found = undo(step(jax.random.key(0), frames, sizes(2, 8, 8), np.zeros(2, int))[0], spec)
    np.testing.assert_allclose(found[..., 0], 255.0 - frames[:, :, :, ::-1, 0], atol=1e-3)
    np.testing.assert_allclose(found[..., 1], frames[:, :, :, ::-1, 1], atol=1e-3)
    with pytest.raises(UserError, match="mean nothing for optical flow"):
        transform(Augmentation(hue=0.1), spec)
    with pytest.raises(UserError, match="grayscale mean nothing for optical flow"):
        transform(Augmentation(extra={"grayscale": 0.5}), spec)


# Colour


def jitter(video, **options):
    options = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, **options}
    keys = jax.random.split(jax.random.key(0), len(video))
    return np.asarray(colour.colour_jitter(keys, jnp.asarray(video, jnp.float32), **options))


def test_colours_within_their_ranges():
    video = 60 + noise(200, 1, 4, 4, 3) / 255 * 60
    assert np.abs(jitter(video) - video).max() < 1e-3
    factors = (jitter(video, brightness=0.4) / video).mean((1, 2, 3, 4))
    assert 0.6 <= factors.min() < 0.7 and 1.3 < factors.max() <= 1.4
    grey = video @ colour._TO_YIQ[0]
    bent = jitter(video, contrast=0.4)
    np.testing.assert_allclose((bent @ colour._TO_YIQ[0]).mean((1, 2, 3)), grey.mean((1, 2, 3)), atol=0.01)
    bent = jitter(video, saturation=0.4)
    np.testing.assert_allclose(bent @ colour._TO_YIQ[0], grey, atol=0.01)
    assert np.abs(bent - video).max() > 1
    bent = jitter(video, hue=0.1)
    np.testing.assert_allclose(bent @ colour._TO_YIQ[0], grey, atol=0.1)
    chroma = [np.hypot(*np.moveaxis(x @ colour._TO_YIQ[1:].T, -1, 0)) for x in (bent, video)]
    np.testing.assert_allclose(*chroma, atol=0.1)
    assert np.abs(bent - video).max() > 5


def test_a_third_of_a_turn_of_hue_exchanges_the_primaries():
    red = np.zeros((50, 1, 1, 1, 3)) + [160.0, 100.0, 100.0]
    turned = jitter(red, hue=1 / 3)
    assert {int(np.argmax(x)) for x in turned.reshape(-1, 3)} == {0, 1, 2}


# Mixing


def mixed(mixup, cutmix, count=600, side=16):
    video = jnp.asarray(np.arange(count), jnp.float32)[:, None, None, None, None] * jnp.ones((1, 2, side, side, 1))
    targets = jnp.eye(count)
    video, targets = jax.jit(mixing.mix, static_argnums=(3, 4))(jax.random.key(0), video, targets, mixup, cutmix)
    share = np.asarray(targets)[np.arange(count), np.arange(count)]
    partner = np.asarray(targets)[np.arange(count), (np.arange(count) + 1) % count]
    np.testing.assert_allclose(share + partner, 1, atol=1e-6)
    return np.asarray(video), share


def test_mixup_blends_clips_as_their_targets():
    video, share = mixed(0.4, 0.0)
    rows = np.arange(600)
    expected = rows * share + (rows + 1) % 600 * (1 - share)
    np.testing.assert_allclose(video, np.broadcast_to(expected[:, None, None, None, None], video.shape), rtol=1e-4)
    assert abs(share.mean() - 0.5) < 0.08
    assert abs(share.var() - 1 / (4 * 1.8)) < 0.02  # of Beta(.4, .4)


def test_cutmix_pastes_a_rectangle_as_large_as_its_target():
    video, share = mixed(0.0, 1.0)
    rows = np.arange(600)[:, None, None, None, None]
    own = video == rows
    assert (own | (video == (rows + 1) % 600)).all()
    assert (own == own[:, :1]).all()  # in every frame
    np.testing.assert_allclose(own.mean((1, 2, 3, 4)), share, atol=1e-6)
    for clip in ~own[:, 0, :, :, 0]:
        assert (clip == np.outer(clip.any(1), clip.any(0))).all()
    assert 0.5 < share.mean() < 0.85
    assert share.min() < 0.2


def test_with_both_a_coin_decides_for_the_batch():
    kinds, mix = set(), jax.jit(mixing.mix, static_argnums=(3, 4))
    for seed in range(12):
        video = jnp.arange(4.0)[:, None, None, None, None] * jnp.ones((1, 1, 8, 8, 1))
        found, _ = mix(jax.random.key(seed), video, jnp.eye(4), 0.8, 0.8)
        again, _ = mix(jax.random.key(seed), video, jnp.eye(4), 0.8, 0.8)
        assert (np.asarray(found) == np.asarray(again)).all()
        kinds.add(bool(np.isin(np.asarray(found), [0, 1, 2, 3]).all()))
    assert kinds == {True, False}


def test_mixed_targets_come_out_of_the_transform():
    frames = noise(4, 2, 24, 32, 3)
    _, targets = transform(Augmentation(mixup=1.0))(
        jax.random.key(0), frames, sizes(4, 24, 32), np.asarray([0, 1, 2, 0])
    )
    np.testing.assert_allclose(np.asarray(targets).sum(1), 1, atol=1e-6)
    assert ((np.asarray(targets) > 0.01).sum(1) > 1).any()


# An augmentation of one's own


def test_an_augmentation_is_one_function_by_its_name(monkeypatch):
    def brighten(keys, video, strength):
        return video + strength * jax.vmap(jax.random.uniform)(keys)[:, None, None, None, None]

    frames, size, labels = noise(6, 2, 24, 32, 3), sizes(6, 24, 32), np.zeros(6, int)
    plain, _ = transform()(jax.random.key(0), frames, size, labels)
    monkeypatch.setitem(colour.AUGMENTATIONS, "brighten", brighten)
    off, _ = transform(Augmentation(crop="random", flip=0.0, extra={"brighten": 0}))(
        jax.random.key(0), frames, size, labels
    )
    assert (np.asarray(off) == np.asarray(plain)).all()
    video, _ = transform(Augmentation(crop="random", flip=0.0, extra={"brighten": 200.0}))(
        jax.random.key(0), frames, size, labels
    )
    before, after = undo(plain), undo(video)
    assert after.max() < 255.01
    change = np.median(after - before, axis=(1, 2, 3, 4))
    assert (change > 0).all() and len(set(change.round(2))) > 1, "each clip draws its own"


def test_grayscale_at_its_rate():
    frames = np.tile(np.asarray([[200, 40, 90]], np.uint8), (400, 1, 20, 20, 1))
    keys = jax.random.split(jax.random.key(2), 400)
    video = np.asarray(colour.grayscale(keys, frames.astype(np.float32), 0.3))
    grey = np.ptp(video, axis=-1).max((1, 2, 3)) == 0
    assert 0.2 < grey.mean() < 0.4
    np.testing.assert_allclose(video[grey], 0.299 * 200 + 0.587 * 40 + 0.114 * 90, rtol=1e-5)
    assert (video[~grey] == frames[~grey]).all()


# Options


@pytest.mark.parametrize(
    "options, message",
    [
        ({"crop": "middle"}, "augment.crop='middle': must be one of multi_scale"),
        ({"scales": ()}, "augment.scales"),
        ({"scales": (1.5,)}, "augment.scales"),
        ({"area": (0.5, 1.5)}, "augment.area"),
        ({"ratio": (2.0, 1.0)}, "augment.ratio"),
        ({"extra": {"sepia": 1.0}}, "augment.extra.sepia: there is no such augmentation; there are grayscale"),
        ({"extra": {"grayscale": -1}}, "augment.extra.grayscale=-1: must be a number of at least 0"),
        ({"extra": {"grayscale": "much"}}, "augment.extra.grayscale='much'"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(UserError, match=message):
        Augmentation(**options)


def test_wrong_combinations_are_told():
    with pytest.raises(UserError, match="no class 'z' in this data set; classes are a, b, c"):
        transform(Augmentation(flip_sensitive=("z",)))
    with pytest.raises(UserError, match="smaller than clip.size=16"):
        transform(spec=dataclasses.replace(SPEC, resize=(12, 20)))
    with pytest.raises(UserError, match="needs a size"):
        transform(spec=dataclasses.replace(SPEC, crop=None))


def test_from_config():
    config = {field.name: getattr(Augmentation(), field.name) for field in dataclasses.fields(Augmentation)}
    config |= {"scales": [1.0, 0.5], "flip_sensitive": ["a"], "extra": {"grayscale": 0.2}}
    expected = Augmentation(scales=(1.0, 0.5), flip_sensitive=("a",), extra={"grayscale": 0.2})
    assert Augmentation.from_config(config) == expected
