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


def features(
    split_names: Sequence[str], class_names: Sequence[str] | None = None, flow: bool = False
) -> tfds.features.FeaturesDict:
    """The features of a record. Frames are JPEG or PNG bytes that TFDS does not decode.

    Args:
      split_names: of all splits that a record tells of.
      class_names: in label order; None where they are yet to be read from a built data set.
      flow: whether the frames are optical flow.
    """
    split = tfds.features.ClassLabel(names=list(lists.ROLES))
    return tfds.features.FeaturesDict(
        {
            "name": tfds.features.Text(doc="<Class>/<file stem>, unique"),
            "frames": tfds.features.Sequence(
                tfds.features.Tensor(shape=(), dtype=np.object_), doc="JPEG, or grey PNG of optical flow, x above y"
            ),
            "seconds": tfds.features.Sequence(np.float32, doc="of each frame from the first"),
            "picture": tfds.features.Image(
                shape=(None, None, 1 if flow else 3),
                encoding_format="png" if flow else "jpeg",
                doc="the middle one of frames once more, for the viewers of TFDS, which show images only",
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
            **{f"split{name}": split for name in split_names},
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
        **{f"split{number}": role for number, role in enumerate(source.roles, 1)},
    }
    example = tf_example_pb2.Example()
    feature = example.features.feature
    feature["name"].bytes_list.value.append(source.name.encode())
    feature["frames"].bytes_list.value.extend(video.frames)
    feature["picture"].bytes_list.value.append(video.frames[len(video.frames) // 2])
    feature["fps"].float_list.value.append(video.fps)
    feature["seconds"].float_list.value.extend(seconds(video).tolist())
    for key, number in numbers.items():
        feature[key].int64_list.value.append(number)
    return example.SerializeToString(deterministic=True)


def seconds(video: StoredVideo) -> np.ndarray:
    """The time of each frame from the first, float64 [N]; frames of a constant rate lie at multiples of 1 / fps."""
    if video.times is not None:
        return np.asarray(video.times, np.float64)
    return np.arange(len(video.frames)) / (video.fps or 1)


def index_entry(source: Source, video: StoredVideo, splits: Sequence[str]) -> dict[str, Any]:
    """The video's entry in the index, with its side in each of the splits that exist, as JSON values."""
    entry = {
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
        "origin": source.origin,
    }
    return entry if video.times is None else entry | {"times": np.asarray(video.times, np.float64).tolist()}


def sides(source: Source, splits: Sequence[str]) -> dict[str, str]:
    """What the video is in each of the splits that exist: train, val, test or neither."""
    return {split: lists.ROLES[source.roles[int(split) - 1]] for split in splits}


def digest(frames: Iterable[bytes]) -> str:
    """SHA-256 over the frames, each after its length in 8 bytes, little endian."""
    total = hashlib.sha256()
    for frame in frames:
        total.update(len(frame).to_bytes(8, "little"))
        total.update(frame)
    return total.hexdigest()
