"""TFDS's own test of a builder, its viewers, and loading without this package's help."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import fake_data
import matplotlib
import numpy as np
import pytest
import simplejpeg
import tensorflow_datasets as tfds
from building import SMALL, build, read, write_folder

from r23d_jax.data.records import VideoDataset
from r23d_jax.errors import UserError
from tfds_ucf101 import config
from tfds_ucf101.tfds_ucf101_dataset_builder import Builder

# TFDS, TensorFlow and pandas, at work in its viewers and its test.
pytestmark = pytest.mark.filterwarnings("ignore")


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """Everything that TFDS checks of a builder, on tiny videos."""

    DATASET_CLASS = Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [config.VideoConfig(**SMALL)]
    SPLITS = {"videos": 4}

    @classmethod
    def setUpClass(cls):
        cls._input = tempfile.mkdtemp()
        cls.EXAMPLE_DIR = write_folder(Path(cls._input), (1, 8))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls._input)

    def _make_builder(self, config=None):
        # TFDS reads ArrayRecord through `as_data_source` only, which this test of its own does not call.
        return Builder(data_dir=self.tmp_dir, config=config, version=self.VERSION, file_format="tfrecord")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("input"), (1, 8))


@pytest.fixture(scope="module")
def loaded(folder, tmp_path_factory):
    """A data set as TFRecord files, from its folder alone: builder and data_dir."""
    out = tmp_path_factory.mktemp("tfrecord")
    return tfds.builder_from_directory(build(folder, out, SMALL, file_format="tfrecord")), out


def test_plain_load_reads_tfrecord(loaded):
    """In another process, where nothing but TFDS is imported."""
    _, out = loaded
    code = (
        "import tensorflow_datasets as tfds\n"
        f"ds, info = tfds.load('tfds_ucf101/small', data_dir={str(out)!r}, split='videos', with_info=True)\n"
        "for one in tfds.as_numpy(ds):\n"
        "    assert len(one['frames']) == one['num_frames'] == len(one['seconds']), one\n"
        "    assert one['picture'].shape == (24, 33, 3)\n"
        "print(len(ds), info.features['label'].names, info.metadata['splits'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=out, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "4 ['Jump', 'Run'] ['1', '2']"


def test_training_refuses_tfrecord_in_one_line(loaded):
    with pytest.raises(
        UserError, match="tfrecord-00000-of-0000.: not an ArrayRecord shard; build it again without"
    ) as told:
        VideoDataset.open(loaded[1])
    assert "\n" not in str(told.value)


def test_features_and_metadata_as_tfds_reads_them(loaded, folder, tmp_path):
    for builder in (loaded[0], tfds.builder_from_directory(build(folder, tmp_path, SMALL))):
        info = builder.info
        assert builder.name == "tfds_ucf101" and info.full_name == "tfds_ucf101/small/1.1.0"
        assert list(info.splits) == ["videos"] and info.splits["videos"].num_examples == 4
        assert info.features["label"].names == ["Jump", "Run"]
        assert info.features["split1"].names == ["neither", "train", "test", "val"]
        assert info.features["seconds"].feature.dtype == np.float32
        metadata = json.loads((Path(builder.data_dir) / "metadata.json").read_text())
        assert metadata == {key: info.metadata[key] for key in metadata}
        assert metadata["splits"] == ["1", "2"] and metadata["leak_check"] == "on" and metadata["flow"] == {}
    assert {"1.0.0", "1.1.0"} == Builder.RELEASE_NOTES.keys() and str(Builder.VERSION) == "1.1.0"


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_viewers(folder, loaded, tmp_path, file_format):
    matplotlib.use("agg")
    if file_format == "tfrecord":
        examples = loaded[0].as_dataset("videos")
        info = loaded[0].info
        frame = tfds.as_dataframe(examples.take(3), info)
        assert frame.shape == (3, len(info.features)) and set(frame["width"]) == {33}
        assert "Run" in frame._repr_html_() and "<img" in frame._repr_html_()
    else:
        builder = tfds.builder_from_directory(build(folder, tmp_path, SMALL))
        examples, info = builder.as_data_source("videos"), builder.info
    figure = tfds.show_examples(examples, info, rows=1, cols=2, label_key="label")
    shown = [axis.get_images()[0].get_array() for axis in figure.axes]
    assert [image.shape for image in shown] == [(24, 33, 3)] * 2
    assert {axis.get_xlabel().split(" ")[0] for axis in figure.axes} <= {"Jump", "Run"}
    assert tfds.show_examples(examples, info, rows=1, cols=1).axes


def test_flow_has_a_grey_picture(folder, tmp_path):
    done = build(folder, tmp_path, {"name": "dis", "size": [24, 33], "flow": "dis"})
    for example in read(done):
        assert example["picture"].shape == (48, 33, 1) and len(example["seconds"]) == example["num_frames"]


def test_picture_is_the_middle_frame(folder, tmp_path):
    for example in read(build(folder, tmp_path, SMALL)):
        frames = [simplejpeg.decode_jpeg(frame).astype(int) for frame in example["frames"]]
        differences = [np.abs(frame - example["picture"]).mean() for frame in frames]
        assert np.argmin(differences) == len(frames) // 2 and min(differences) < 1


def test_a_1_0_0_folder_beside_the_newer(folder, tmp_path):
    """Both open by their names, and the newest without."""
    fake_data.write(tmp_path, "small", version="1.0.0", index_format=1)
    build(folder, tmp_path, SMALL)
    assert VideoDataset.open(tmp_path).full_name == "tfds_ucf101/small/1.1.0"
    assert len(VideoDataset.open(tmp_path, "tfds_ucf101/small/1.0.0").videos) == 12
