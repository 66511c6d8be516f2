"""When each frame of a video is shown, from the time stamps of its decoded frames."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

# Seconds. A longer gap between frames is an error of the clock that made the stamps.
_LONGEST_GAP = 3600


class Clock:
    """Collects the time stamps of one video's frames, in the order of presentation."""

    def __init__(self, time_base: Fraction):
        self._time_base = time_base
        self._pts: list[int | None] = []
        self._dts: list[int | None] = []

    def __len__(self) -> int:
        return len(self._pts)

    def add(self, pts: int | None, dts: int | None) -> None:
        """Takes the next frame's stamps of presentation and of decoding, in ticks; None where it has none."""
        self._pts.append(pts)
        self._dts.append(dts)

    def seconds(self) -> np.ndarray | None:
        """Returns the time from the first frame to each, float64 [N]; None if stamps are missing, disordered, absurd.

        AVI has stamps in the order of decoding only. FFmpeg guesses the others from them, and not well for H.264:
        then those of decoding are the ones that ascend.
        """
        for stamps in (self._pts, self._dts):
            if stamps and None not in stamps:
                ticks = np.asarray(stamps, np.int64)
                gaps = np.diff(ticks)
                if (gaps > 0).all() and (gaps < _LONGEST_GAP / self._time_base).all():
                    return (ticks - ticks[0]) * self._time_base.numerator / self._time_base.denominator
        return None

    def rate(self, seconds: np.ndarray | None) -> float | None:
        """Returns the average number of frames a second; None if it cannot be told.

        Args:
          seconds: what `seconds` returned. Without it the earliest and the latest stamp must do.
        """
        if seconds is None:
            known = [stamp for stamp in self._pts if stamp is not None]
            length = float((max(known) - min(known)) * self._time_base) if known else 0.0
        else:
            length = seconds[-1]
        return (len(self) - 1) / length if length > 0 else None

    def varies(self, seconds: np.ndarray) -> bool:
        """Returns whether the frames are not evenly spaced.

        Even frames keep within a tick of a straight line through their times: containers round to their time base. A
        frame that is left out or put in moves all later ones by a whole period. The threshold lies between, at half a
        period: nearer than that, counting frames finds the one that is shown. It is two ticks at least, as the line
        goes through the first and the last stamp, which are rounded themselves.
        """
        count = len(seconds)
        if count < 3:
            return False
        period = seconds[-1] / (count - 1)
        away = seconds - np.arange(count) * period
        return bool(np.ptp(away) > max(period / 2, 2 * float(self._time_base) * (1 + 1e-6)))


def end_of(times: Sequence[float] | np.ndarray, fps: float) -> float:
    """Returns when the last frame's time is over: it lasts as long as the one before it, a lone one 1 / fps."""
    return float(times[-1] + (times[-1] - times[-2] if len(times) > 1 else 1 / fps))
