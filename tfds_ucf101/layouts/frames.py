"""What is one video among the pictures of a folder, and what is its optical flow."""

import re
from collections.abc import Mapping, Sequence

from r23d_jax.errors import UserError
from tfds_ucf101.errors import InputError
from tfds_ucf101.layouts.tree import Folder, Pictures
from tfds_ucf101.media import FlowFiles, Media

# Optical flow as dense_flow, TSN and mmaction write it, beside the frames or alone.
_FLOW_X, _FLOW_Y = re.compile(r"(flow[_-]?)?[xu]", re.IGNORECASE), re.compile(r"(flow[_-]?)?[yv]", re.IGNORECASE)
# One direction of it alone, or in other forms, or of several videos.
_FLOW_ALONE = re.compile(r"flow[_-]?([a-z]|[xyuv][_-].*)", re.IGNORECASE)


def one_video(folder: Folder, flow_files: bool) -> Media:
    """Returns the video whose frames a folder holds; one without frames where there are no pictures.

    Args:
      folder: with pictures in it.
      flow_files: the video is the optical flow that lies beside the frames.

    Raises:
      UserError: they are of several videos, or there are only frames where flow is asked for, or the other way round.
    """
    flow, frames = divide(folder.pictures)
    if flow_files:
        if not flow:
            raise UserError(f"{folder} holds no flow_x_# and flow_y_# pictures, and the config asks for flow_files")
        x, y = flow
        if x.runs != y.runs:
            raise UserError(
                f"{folder} holds {len(x)} of {x.pattern} and {len(y)} of {y.pattern}, of other numbers: both must have "
                "the same"
            )
        return FlowFiles(folder.path, folder.frames(x), folder.frames(y))
    if len(frames) > 1:
        there = ", ".join(f"{len(one)} of {one.pattern}" for one in frames)
        raise UserError(f"{folder} holds pictures of {len(frames)} names: {there}; keep those of one video in it")
    if flow and not frames:
        raise InputError(
            f"{folder} holds optical flow only",
            config='; build it with "flow": "tvl1", "flow_files": true',
            plain=", which is read once `tfds build` has stored it: give the frames, or move the folder away",
        )
    refuse_flow(folder, frames)
    return folder.frames(frames[0] if frames else Pictures("", ".jpg", 1, ()))


def divide(pictures: Sequence[Pictures]) -> tuple[list[Pictures], list[Pictures]]:
    """Returns the sets of optical flow, x and y, or none of the two is not there; and all other sets."""
    x = [one for one in pictures if _FLOW_X.fullmatch(one.stem)]
    y = [one for one in pictures if _FLOW_Y.fullmatch(one.stem)]
    flow = [*x, *y] if len(x) == len(y) == 1 else []
    return flow, [one for one in pictures if one not in flow]


def refuse_flow(folder: Folder, frames: Sequence[Pictures]) -> None:
    """Raises a `UserError` where what should be frames is called as optical flow is, which is never stored as RGB."""
    flow = next((one for one in frames if _FLOW_ALONE.fullmatch(one.stem)), None)
    if flow is not None:
        raise UserError(
            f"{folder} holds {flow.pattern}, optical flow by its name, and not flow_x_# and flow_y_# of one video, "
            "which are what is read: move it away, or rename it if it is no flow"
        )


def refuse_flow_folders(folders: Mapping[str, Folder]) -> None:
    """Raises a `UserError` where two folders are the directions of optical flow: `flow_x` and `flow_y`, `u` and `v`.

    They are called so, and the same folders and pictures lie in both.
    """
    x = [folder for name, folder in folders.items() if _FLOW_X.fullmatch(name)]
    y = [folder for name, folder in folders.items() if _FLOW_Y.fullmatch(name)]
    if len(x) == len(y) == 1 and _has_pictures(x[0]) and _are_alike(x[0], y[0]):
        raise UserError(
            f"{x[0]} and {y[0].name}/ beside it hold optical flow, a folder a direction, which is not read: put the "
            "pictures of each video into one folder as flow_x_# and flow_y_#, or move both away"
        )


def _has_pictures(folder: Folder) -> bool:
    return bool(folder.pictures) or any(map(_has_pictures, folder.folders.values()))


def _are_alike(one: Folder, other: Folder) -> bool:
    """Whether the same pictures and folders lie in two folders, and no videos."""
    if one.videos or other.videos or one.pictures != other.pictures or [*one.folders] != [*other.folders]:
        return False
    return all(_are_alike(child, other.folders[name]) for name, child in one.folders.items())
