"""Features of videos: computed once for what a video shows, and the same from the cache."""

import dataclasses
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from probe_videos import link

from r23d_jax.data.video import VideoError
from r23d_jax.models.head import VIEWS
from r23d_jax.probing import network
from r23d_jax.probing.data import open_data
from r23d_jax.probing.extract import Extractor, VideoFeatures, records_of, samples_of
from r23d_jax.probing.samples import PARTS, FeatureSet
from r23d_jax.weights import checkpoint


@pytest.fixture(scope="module")
def frozen(probe_paths):
    return network.frozen(*checkpoint.load_weights(probe_paths.weights), "float32")


@pytest.fixture
def folder(probe_paths, tmp_path):
    """Two classes of two videos each, of 16 frames; for writing."""
    videos = tmp_path / "videos"
    for name in ("blue", "red"):
        for number in (1, 5):
            file = f"{name}{number}.mkv"
            (videos / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(probe_paths.root / ("train" if number == 1 else "test") / name / file, videos / name)
    return videos


@pytest.fixture
def extract(frozen, tmp_path):
    """Runs a fresh extractor on a folder and returns (data, features, failed, number of computed videos)."""

    def run(folder, views=VIEWS[:1], clf=frozen, **options):
        data = open_data(folder)
        extractor = Extractor(clf, tmp_path / "features", lambda line: None, **options)
        features, failed = extractor.run(data, range(len(data.videos)), views)
        return data, features, failed, extractor.computed

    return run


def same(one, other):
    def equal(a, b):
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
        return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b

    return all(equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))


def test_features_are_those_of_the_stages(probe_paths, frozen):
    """Those that `r23d features` writes, for videos of one clip and of several."""
    root = probe_paths.root
    data = open_data(root)
    places = [index for index, video in enumerate(data.videos) if video.part == "test"]
    extractor = Extractor(frozen, probe_paths.features, lambda line: None)
    assert extractor.stages == ("layer1", "layer2", "layer3", "layer4")
    features, failed = extractor.run(data, places, VIEWS)
    samples = samples_of(data, features, places)
    assert not failed and samples.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    counts = np.bincount(samples.video).tolist()
    assert counts == [1, 2, 1] * 3
    found = [frozen.features(root / data.videos[index].shown, layer="layer3").features for index in places]
    seen = samples.vectors(FeatureSet(("layer3",), 1, False), "plain")
    np.testing.assert_allclose(seen, np.concatenate(found), atol=1e-5)
    mirrored = samples.vectors(FeatureSet(("layer4",), PARTS, False), "mirrored")
    assert np.abs(mirrored - samples.vectors(FeatureSet(("layer4",), PARTS, False), "plain")).max() > 1e-3
    records = records_of(data, features)
    assert {(record.num_frames, record.height, record.width) for record in records if record.splits["1"] == "test"} == {
        (16, 36, 48),
        (25, 36, 48),
        (13, 36, 48),
    }
    assert {record.splits["1"] for record in records} == {"test", "neither"}, "others are not used"


def test_a_second_run_computes_nothing(folder, extract):
    data, first, _, computed = extract(folder)
    again_data, again, _, computed_again = extract(folder)
    assert (computed, computed_again) == (4, 0)
    assert all(same(first[index], again[index]) for index in range(4))


def test_a_video_may_have_another_name_and_folder(folder, extract, tmp_path):
    _, first, _, _ = extract(folder)
    (folder / "red/red5.mkv").rename(folder / "red/another.mkv")
    moved = folder.rename(tmp_path / "moved")
    (moved / "blue").rename(moved / "a class")
    data, again, _, computed = extract(moved)
    assert computed == 0
    names = [video.name for video in data.videos]
    assert same(again[names.index("red/another")], first[3])


def test_with_another_class_only_its_videos_are_computed(probe_paths, folder, extract):
    extract(folder)
    link(folder / "green", *(probe_paths.root / "test/green").glob("*[57].mkv"))
    *_, computed = extract(folder)
    assert computed == 2


def test_views_and_grids_are_added_to_what_is_there(folder, extract):
    _, plain, _, _ = extract(folder)
    _, both, _, computed = extract(folder, VIEWS)
    assert computed == 4 and set(both[0].averages) == set(VIEWS)
    for index in range(4):
        assert all(
            np.array_equal(value, plain[index].averages["plain"][key])
            for key, value in both[index].averages["plain"].items()
        )
    _, mirrored, _, computed = extract(folder, VIEWS[1:])
    assert computed == 0 and np.array_equal(
        mirrored[2].averages["mirrored"]["layer4"], both[2].averages["mirrored"]["layer4"]
    )
    _, grids, _, computed = extract(folder, with_grid=True)
    assert computed == 4 and grids[0].grids["plain"].shape == (1, 8 * 4 * 4, 16)
    _, again, _, computed = extract(folder, with_grid=True)
    assert computed == 0 and all(same(grids[index], again[index]) for index in range(4))
    assert extract(folder, VIEWS)[-1] == 0


def test_other_weights_sizes_and_types_are_not_mixed_up(probe_paths, folder, extract, monkeypatch):
    """Which are computed, not what comes out."""
    nothing = {stage: np.zeros((1, PARTS, 4), np.float32) for stage in ("layer1", "layer2", "layer3", "layer4")}
    features = VideoFeatures({"plain": nothing}, None, 16, 10.0, 36, 48, None)
    monkeypatch.setattr(Extractor, "_compute", lambda self, data, videos, *_: [(index, features) for index in videos])
    values, card = checkpoint.load_weights(probe_paths.weights)

    def computed(dtype="float32", size=0, change=(), **fields):
        clf = network.frozen({**values, **dict(change)}, dataclasses.replace(card, **fields), dtype, size)
        return extract(folder, clf=clf)[-1]

    assert (computed(), computed()) == (4, 0)
    assert computed(change={"stem.1.bias": values["stem.1.bias"] + 1}) == 4
    assert computed(size=40) == computed("bfloat16") == computed(bn_epsilon=1e-2) == 4
    assert computed(preprocessing=dataclasses.replace(card.preprocessing, fps=5.0)) == 4
    # The classifier is no part of what is computed.
    assert computed(change={"fc.bias": values["fc.bias"] + 1}) == 0


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_computed_again(folder, extract, tmp_path, damage):
    _, first, _, _ = extract(folder)
    files = sorted((tmp_path / "features").rglob("*.npz"))
    assert len(files) == 4
    content = files[0].read_bytes()
    changed = bytearray(content)
    changed[len(content) // 2] ^= 255
    files[0].write_bytes({"cut": content[: len(content) // 2], "changed": bytes(changed), "empty": b""}[damage])
    _, again, _, computed = extract(folder)
    assert computed == 1
    for index in range(4):
        for stage, values in first[index].averages["plain"].items():
            np.testing.assert_allclose(again[index].averages["plain"][stage], values, atol=1e-6)
    assert extract(folder)[-1] == 0


def test_after_an_interruption_it_goes_on(folder, extract, monkeypatch):
    write, written = Extractor._write, []

    def interrupted(extractor, sha, features):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(sha)
        write(extractor, sha, features)

    monkeypatch.setattr(Extractor, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(folder)
    monkeypatch.undo()
    _, features, _, computed = extract(folder)
    assert computed == 1 and sorted(features) == [0, 1, 2, 3]


def test_what_another_process_computes_meanwhile_is_not_computed_again(folder, extract):
    """Locks are of open files, so that threads stand for processes."""
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(extract, [folder, folder])
    assert sorted([one[-1], other[-1]]) == [0, 4]
    assert all(same(one[1][index], other[1][index]) for index in range(4))


def test_equal_files_are_computed_once(folder, extract):
    shutil.copy(folder / "blue/blue1.mkv", folder / "blue/blue9.mkv")
    data, features, _, computed = extract(folder)
    assert computed == 4 and len(features) == 5
    assert same(features[0], features[2]) and data.videos[2].name == "blue/blue9"


def test_what_cannot_be_read_is_named_and_the_rest_computed(folder, extract):
    (folder / "red/red9.mkv").write_bytes(b"no video")
    shutil.copy(folder / "red/red9.mkv", folder / "red/red10.mkv")
    os.remove(folder / "blue/blue1.mkv")
    (folder / "blue/blue1.mkv").symlink_to("nowhere")
    data, features, failed, computed = extract(folder)
    assert computed == 3 and {data.videos[index].name for index in features} == {
        "blue/blue5",
        "red/red1",
        "red/red5",
    }
    names = {data.videos[index].name: error for index, error in failed.items()}
    assert names.keys() >= {"red/red9", "red/red10"}
    assert all(isinstance(error, VideoError) for error in names.values())
