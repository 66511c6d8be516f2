"""Optical flow between neighbouring frames, and its storage as uint8.

A field is in pixels of the frames it was computed on: x to the right, y down. As in DeepMind's I3D and TSN it is
clipped to +-20 and scaled to 0..255; later cropping and resizing do not rescale the values.
"""

from typing import Any

import cv2
import numpy as np

from r23d_jax.errors import UserError

BOUND = 20.0  # pixels, as in DeepMind's I3D and TSN
_STEP = 255 / (2 * BOUND)

# OpenCV's names. TV-L1: OpenCV's defaults, which are those of the paper (Zach et al. 2007; Sanchez et al. 2013).
# Farneback: VMZ's (caffe2/video/optical_flow.cc), whose weights expect them. DIS: OpenCV's medium preset.
ALGORITHMS: dict[str, dict[str, Any]] = {
    "tvl1": {
        "tau": 0.25,
        "lambda_": 0.15,
        "theta": 0.3,
        "nscales": 5,
        "warps": 5,
        "epsilon": 0.01,
        "innnerIterations": 30,
        "outerIterations": 10,
        "scaleStep": 0.8,
        "gamma": 0.0,
        "medianFiltering": 5,
        "useInitialFlow": False,
    },
    "farneback": {
        "pyr_scale": 2**0.5 / 2,
        "levels": 5,
        "winsize": 10,
        "iterations": 2,
        "poly_n": 7,
        "poly_sigma": 1.5,
        "flags": cv2.OPTFLOW_FARNEBACK_GAUSSIAN,
    },
    "dis": {"preset": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM},
}


def describe(algorithm: str) -> dict[str, Any]:
    """Returns what a data set records of its flow: algorithm, parameters, library and version, bound in pixels.

    Raises:
      UserError: there is no such algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise UserError(f"optical flow {algorithm!r} is unknown; there are {', '.join(ALGORITHMS)}")
    return {
        "algorithm": algorithm,
        "parameters": ALGORITHMS[algorithm],
        "library": f"OpenCV {cv2.__version__}",
        "bound": BOUND,
    }


class Flow:
    """Computes flow fields; not thread-safe, and without state between pairs of frames.

    Args:
      algorithm: a key of `ALGORITHMS`.

    Raises:
      UserError: there is no such algorithm, or OpenCV lacks its contributed modules.
    """

    def __init__(self, algorithm: str):
        options = describe(algorithm)["parameters"]
        if algorithm == "tvl1":
            if not hasattr(cv2, "optflow"):
                raise UserError("optical flow 'tvl1' needs the package opencv-contrib-python-headless")
            self._compute = cv2.optflow.DualTVL1OpticalFlow_create(**options).calc
        elif algorithm == "dis":
            self._compute = cv2.DISOpticalFlow_create(**options).calc
        else:
            self._compute = lambda before, after, out: cv2.calcOpticalFlowFarneback(before, after, out, **options)

    def field(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Returns the flow from one grey frame uint8 [H, W] to the next: float32 [H, W, 2], x and y in pixels."""
        return self._compute(before, after, None)


def grey(frame: np.ndarray) -> np.ndarray:
    """Converts uint8 [H, W, 3] RGB to uint8 [H, W]."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def quantise(field: np.ndarray) -> np.ndarray:
    """Converts pixels, float32 [..., 2], to uint8: `round((clip(field, -20, 20) + 20) * 255 / 40)`; 0 becomes 128."""
    return np.rint((np.clip(field, -BOUND, BOUND) + BOUND) * _STEP).astype(np.uint8)


def dequantise(stored: np.ndarray) -> np.ndarray:
    """Inverts `quantise`: float32 in pixels, exact to 0.08 pixels."""
    return stored.astype(np.float32) / np.float32(_STEP) - np.float32(BOUND)


def to_png(stored: np.ndarray) -> bytes:
    """Encodes uint8 [H, W, 2] losslessly as a grey PNG [2 H, W], x above y."""
    picture = np.concatenate([stored[..., 0], stored[..., 1]])
    # Higher levels are far slower and save little.
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def from_png(data: bytes | memoryview) -> np.ndarray | None:
    """Decodes uint8 [H, W, 2]; returns None if `data` is no such picture."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 2 or picture.shape[0] % 2:
        return None
    return np.stack(np.split(picture, 2), axis=-1)
