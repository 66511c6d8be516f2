"""One video as one record: its features, its serialisation, and its entry in the index."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from tfds_ucf101 import lists
from tfds_ucf101.sources import Source
from tfds_ucf101.stored import StoredVideo


def features(class_names: Sequence[str] | None = None) -> tfds.features.FeaturesDict:
    """The features of a record. Frames are JPEG or PNG bytes that TFDS does not decode.

    Args:
      class_names: in label order; None where they are yet to be read from a built data set.
    """
    split = tfds.features.ClassLabel(names=list(lists.ROLES))
    return tfds.features.FeaturesDict(
        {
            "name": tfds.features.Text(doc="<Class>/<file stem>, unique"),
            "frames": tfds.features.Sequence(
                tfds.features.Tensor(shape=(), dtype=np.object_), doc="JPEG, or grey PNG of optical flow, x above y"
            ),
            "label": tfds.features.ClassLabel(names=list(class_names) if class_names else None),
            "group": tfds.features.Scalar(np.int32, doc="source video, -1 where the file name has none"),
            "clip": tfds.features.Scalar(np.int32, doc="clip of the source video, -1 where there is none"),
            "fps": tfds.features.Scalar(np.float32, doc="average frame rate"),
            "num_frames": np.int32,
            "height": tfds.features.Scalar(np.int32, doc="of the stored frames"),
            "width": tfds.features.Scalar(np.int32, doc="of the stored frames"),
            "source_height": tfds.features.Scalar(np.int32, doc="of the source's frames, upright"),
            "source_width": tfds.features.Scalar(np.int32, doc="of the source's frames, upright"),
            **{f"split{name}": split for name in lists.SPLITS},
        }
    )


def serialize(source: Source, video: StoredVideo) -> bytes:
    """The record, a tf.train.Example as TFDS writes it for `features`.

    Written out here because TFDS's own serialiser handles one frame at a time, in Python, which costs a
    sixth of the whole build.
    """
    numbers = {
        "label": source.label,
        "group": source.group,
        "clip": source.clip,
        "num_frames": len(video.frames),
        "height": video.height,
        "width": video.width,
        "source_height": video.source_height,
        "source_width": video.source_width,
        **{f"split{name}": role for name, role in zip(lists.SPLITS, source.roles, strict=True)},
    }
    example = tf_example_pb2.Example()
    feature = example.features.feature
    feature["name"].bytes_list.value.append(source.name.encode())
    feature["frames"].bytes_list.value.extend(video.frames)
    feature["fps"].float_list.value.append(video.fps)
    for key, number in numbers.items():
        feature[key].int64_list.value.append(number)
    return example.SerializeToString(deterministic=True)


def index_entry(source: Source, video: StoredVideo, splits: Sequence[str]) -> dict[str, Any]:
    """The video's entry in videos.json, with its side in each of the splits that exist."""
    return {
        "name": source.name,
        "label": source.label,
        "group": source.group,
        "clip": source.clip,
        "fps": video.fps,
        "num_frames": len(video.frames),
        "height": video.height,
        "width": video.width,
        "splits": sides(source, splits),
        "sha256": digest(video.frames),
    }


def sides(source: Source, splits: Sequence[str]) -> dict[str, str]:
    """What the video is in each of the splits that exist: train, test or neither."""
    roles = dict(zip(lists.SPLITS, source.roles, strict=True))
    return {split: lists.ROLES[roles[split]] for split in splits}


def digest(frames: Iterable[bytes]) -> str:
    """SHA-256 over the frames, each after its length in 8 bytes, little endian."""
    total = hashlib.sha256()
    for frame in frames:
        total.update(len(frame).to_bytes(8, "little"))
        total.update(frame)
    return total.hexdigest()
