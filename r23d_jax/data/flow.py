"""Optical flow between neighbouring frames, and the uint8 picture it is stored as.

A field is in pixels of the frames it was computed on: x to the right, y down. As DeepMind's I3D and TSN have it,
it is clipped to +-20 and put on 0..255, and stays in those pixels when the network later crops and resizes it.
"""

from typing import Any

import cv2
import numpy as np

from r23d_jax.errors import UserError

BOUND = 20.0  # pixels; DeepMind's and TSN's
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
    """What a data set says of its flow: algorithm, parameters, library and version, bound in pixels.

    Raises:
      UserError: no such algorithm.
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
    """Computes fields. One for one thread at a time; nothing is carried from one pair to the next.

    Args:
      algorithm: a key of `ALGORITHMS`.

    Raises:
      UserError: no such algorithm, or an OpenCV without its contributed modules.
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
        """The motion from one grey frame uint8 [H, W] to the next: float32 [H, W, 2], x and y in pixels."""
        return self._compute(before, after, None)


def grey(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W] of uint8 [H, W, 3] RGB."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def quantise(field: np.ndarray) -> np.ndarray:
    """float32 [..., 2] in pixels to uint8: `round((clip(field, -20, 20) + 20) * 255 / 40)`; rest is 128."""
    return np.rint((np.clip(field, -BOUND, BOUND) + BOUND) * _STEP).astype(np.uint8)


def dequantise(stored: np.ndarray) -> np.ndarray:
    """The field in pixels again, float32, to within 0.08 pixels."""
    return stored.astype(np.float32) / np.float32(_STEP) - np.float32(BOUND)


def to_png(stored: np.ndarray) -> bytes:
    """uint8 [H, W, 2] as one grey PNG of [2 H, W], x above y: lossless."""
    picture = np.concatenate([stored[..., 0], stored[..., 1]])
    # Level 1: a tenth larger than the best, twenty times faster.
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def from_png(data: bytes | memoryview) -> np.ndarray | None:
    """uint8 [H, W, 2], or None where `data` is no such picture."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 2 or picture.shape[0] % 2:
        return None
    return np.stack(np.split(picture, 2), axis=-1)
