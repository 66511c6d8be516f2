"""Videos of every odd kind, made with PyAV or by changing bytes: for the tests of decoding, building and predicting."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
from PIL import Image


def scene(t: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 [height, width, 3]: smooth colours that differ from frame to frame and corner to corner."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 19 + t / 3), np.sin(y / 13 - t / 5), np.sin((x + y) / 31 + t / 7)]
    return np.stack([127 + 110 * wave for wave in waves], -1).round().astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(np.float64) - b) ** 2)))


def write(path, count=6, codec="mpeg4", size=(48, 64), rate=25, times=None, options=None, container=None, **context):
    """Writes `count` scenes at a rate, or at times in milliseconds; `context` are attributes of the encoder."""
    muxer = container or {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=muxer) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *size, "bgr0" if codec == "ffv1" else "yuv420p"
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        if times is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for t in range(count):
            frame = av.VideoFrame.from_ndarray(scene(t, *size), "rgb24").reformat(format=stream.pix_fmt)
            if times is not None:
                frame.pts, frame.time_base = int(times[t]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def changing_rate():
    """The times in milliseconds of 10 frames at 1 a second, then 120 at 30."""
    return [1000 * i for i in range(10)] + [10_000 + round(1000 * i / 30) for i in range(120)]


def copied(source, target, start, from_key_frame=False):
    """Copies the packets from `start` seconds on, as `ffmpeg -ss START -i SOURCE -c copy` does.

    The key frame before comes with them, and an MP4 gets an edit list that hides what is before `start`. Or, with
    `from_key_frame`, none before `start`, and the time begins with the first one.
    """
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        shift, begun = round(start / stream.time_base), False
        for packet in read.demux(stream):
            if packet.dts is None:
                continue
            if from_key_frame and not begun:
                if packet.dts < shift or not packet.is_keyframe:
                    continue
                begun, shift = True, packet.dts
            packet.dts -= shift
            packet.pts -= shift
            packet.stream = copy
            written.mux(packet)
    return target


def set_matrix(path, a, b, c, d):
    """Sets the matrix in the header of an MP4's only track: a pixel (x, y) is shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # 16.16 numbers; each row ends in a 0
    struct.pack_into(">5i", data, at, a << 16, b << 16, 0, c << 16, d << 16)
    path.write_bytes(data)
    return path


def picture(pixels, kind="JPEG", orientation=None, **options):
    """Returns an encoded picture, with an orientation in its EXIF if one is given."""
    buffer = io.BytesIO()
    if orientation:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
