"""`predict`: what goes into the network, what comes out, and what a user sees when something is wrong."""

import csv
import io
import json
import wave

import av
import jax
import numpy as np
import pytest
from fake_videos import LABELS, write_checkpoint, write_video

from r23d_jax import features, models, predict
from r23d_jax.data import flow
from r23d_jax.data import video as videos
from r23d_jax.data.video import read_rgb
from r23d_jax.evaluation import metrics
from r23d_jax.inference import classifier, sources
from r23d_jax.models.functional import Functional
from r23d_jax.runtime import console
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.viz import overlay, timeline
from r23d_jax.weights import checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "one.mkv")


@pytest.fixture
def shell(run):
    """Runs `predict`."""
    return lambda *arguments: run(predict.main, *arguments)


# --- what comes out -------------------------------------------------------------------------------------


def test_json_is_the_contract_and_agrees_with_the_network(shell, folder, clip, tmp_path):
    status, out, err = shell("--checkpoint", folder, clip, "--json", tmp_path / "new" / "p.json", "--top", 2)
    assert (status, err) == (0, "")
    (answer,) = json.loads((tmp_path / "new" / "p.json").read_text())
    assert list(answer) == ["video", "top", "clips", "protocol"]
    assert answer["video"] == str(clip)
    assert answer["clips"] == 6
    assert [list(row) for row in answer["top"]] == [["label", "score"]] * 2

    weights, card = checkpoint.load_weights(folder)
    frames, _ = videos.read_rgb(clip, (32, 44))
    cropped = frames[:, 2:30, 8:36].reshape(6, 4, 28, 28, 3)
    network = Functional(models.from_card(card))
    logits = network.eval(weights, weights, (cropped / 255 - 0.5).astype(np.float32) / 0.5)
    scores = np.asarray(jax.nn.softmax(logits)).mean(axis=0)
    best = np.argsort(-scores)[:2]
    assert [row["label"] for row in answer["top"]] == [LABELS[index] for index in best]
    np.testing.assert_allclose([row["score"] for row in answer["top"]], scores[best], atol=2e-5)
    assert answer["protocol"] == (
        "mean of softmax over every non-overlapping 4-frame clip; centre crop 28x28 of frames resized to 32x44; "
        f"float32; r2plus3d_18, weights {card.tensors_sha256[:12]}"
    )
    assert answer["top"][0]["label"] in out and "(6 clips)" in out


def test_frames_are_decoded_at_the_size_they_were_stored_in(shell, tmp_path, clip):
    """Squares of 40x40 stretched to a short side of 48 are not what 48x64 frames look like."""
    spec = Preprocessing(resize=48, crop=28, frames=4)
    folder = write_checkpoint(tmp_path / "w", spec, stored=[40, 40])
    _, out, _ = shell("--checkpoint", folder, clip, "--json", "-")
    (answer,) = json.loads(out)
    assert "resized to short side 48 (decoded at 40x40)" in answer["protocol"]
    weights, card = checkpoint.load_weights(folder)
    frames, _ = videos.read_rgb(clip, (40, 40))
    transform = clip_transforms.eval_transform(spec)
    video = transform(frames.reshape(6, 4, 40, 40, 3), np.full((6, 2), 40), np.zeros(6, int))
    logits = Functional(models.from_card(card)).eval(weights, weights, video)
    scores = np.sort(np.asarray(jax.nn.softmax(logits)).mean(axis=0))[::-1]
    np.testing.assert_allclose([row["score"] for row in answer["top"]], scores, atol=2e-5)


def test_fewer_labels_than_asked_for_and_uniform_clips(shell, folder, clip):
    status, out, _ = shell("--checkpoint", folder, clip, "--json", "-", "--clips", 3, "--top", 9)
    (answer,) = json.loads(out)
    assert status == 0
    assert answer["clips"] == 3 and "3 uniformly spread 4-frame clips" in answer["protocol"]
    assert sorted(row["label"] for row in answer["top"]) == sorted(LABELS)
    scores = [row["score"] for row in answer["top"]]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-5)


def test_batch_size_and_neighbours_change_nothing(shell, folder, tmp_path):
    """Videos of several lengths and shapes share batches; each gets what it gets alone."""
    spec = Preprocessing(resize=32, crop=28, frames=4)
    weights = write_checkpoint(tmp_path / "short_side", spec)
    shapes = [(9, (48, 64)), (25, (48, 64)), (4, (64, 40)), (13, (48, 50))]
    paths = [write_video(tmp_path / f"{n}.mkv", *shape, seed=n) for n, shape in enumerate(shapes)]

    def answers(*arguments):
        status, out, _ = shell("--checkpoint", weights, "--json", "-", *arguments)
        assert status == 0
        return json.loads(out)

    alone = [answers(path, "--batch", 1)[0] for path in paths]
    for size in (5,):
        for one, other in zip(alone, answers(*paths, "--batch", size), strict=True):
            assert (one["video"], one["clips"]) == (other["video"], other["clips"])
            np.testing.assert_allclose(
                [row["score"] for row in one["top"]], [row["score"] for row in other["top"]], atol=1e-5
            )


def test_whole_video_card(shell, tmp_path, clip):
    weights = write_checkpoint(tmp_path / "w", Preprocessing(resize=None, crop=None, frames=0, max_frames=10))
    status, out, _ = shell("--checkpoint", weights, clip, "--json", "-")
    (answer,) = json.loads(out)
    assert status == 0 and answer["clips"] == 3
    assert "the whole video (as many as cover it 10-frame clips of a longer one)" in answer["protocol"]


def test_a_card_without_labels_numbers_the_classes(shell, tmp_path, clip):
    weights = write_checkpoint(tmp_path / "w", labels=())
    _, out, _ = shell("--checkpoint", weights, clip, "--json", "-")
    assert sorted(row["label"] for row in json.loads(out)[0]["top"]) == ["class 0", "class 1", "class 2"]


def test_workdir_best_and_last(shell, tmp_path, clip):
    write_checkpoint(tmp_path / "checkpoints" / "00000010", seed=1)
    write_checkpoint(tmp_path / "checkpoints" / "00000020", seed=2)
    (tmp_path / "checkpoints" / "scores.json").write_text('{"10": 0.9, "20": 0.5}')
    hashes = [checkpoint.load_weights(tmp_path / "checkpoints" / f"000000{n}0")[1].tensors_sha256 for n in (1, 2)]
    for which, sha256 in zip(("best", "last"), hashes, strict=True):
        _, out, _ = shell("--checkpoint", tmp_path, clip, "--json", "-", "--which", which)
        assert sha256[:12] in json.loads(out)[0]["protocol"]


# --- files written --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_annotated_copy(shell, folder, clip, tmp_path, ending):
    target = tmp_path / "sub" / f"out.{ending}"
    assert shell("--checkpoint", folder, clip, "--annotate", target, "--cam")[0] == 0
    frames, fps = videos.read_rgb(target)
    assert (len(frames), fps) == (24, pytest.approx(10))
    assert frames.shape[2] % 2 == 0 and frames.shape[1] > frames.shape[2] * 3 / 4  # the labels are below
    assert frames[:, -20:].max() > 150  # and there are letters
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_cam_shows_the_first_label_and_where(folder, clip):
    """The heat of a clip is its map, brought to the clip's frames, and 0 to 1; weak moments are brightened."""
    network = classifier.load(folder, which="best")
    source = sources.VideoSource(clip, clip)
    (prediction,) = network.iter_predictions([source], clips=2)
    result = prediction.result
    heat = overlay.class_heat(network, result, int(result.outputs.mean(0).argmax()))
    assert heat.at(4) is None  # between the two clips
    seen = [heat.at(frame) for frame in (*range(4), *range(20, 24))]
    assert all(frame.shape == (28, 28) for frame in seen)
    assert min(frame.min() for frame in seen) >= 0 and max(frame.max() for frame in seen) <= 1
    assert heat.box == pytest.approx((2 / 32, 8 / 44, 30 / 32, 36 / 44))


def test_the_only_colour_under_a_map_is_its_own():
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    drawn = overlay.blend(frame, np.ones((5, 5)), (0.0, 0.5, 1.0, 1.0))
    assert np.ptp(drawn[:, :15], axis=-1).max() == 0 and drawn[:, :15].max() < 128
    assert np.ptp(drawn[:, 15:], axis=-1).min() > 0


def test_the_video_itself_is_never_written_over(shell, folder, clip, tmp_path):
    copy = tmp_path / "one.mp4"
    copy.write_bytes(clip.read_bytes())
    status, _, err = shell("--checkpoint", folder, copy, "--annotate", copy)
    assert status == 1 and "is the video itself" in err
    assert copy.read_bytes() == clip.read_bytes()


def test_several_copies_go_into_a_folder(shell, folder, clip, tmp_path):
    second = write_video(tmp_path / "in" / "two.mkv", count=5)
    assert shell("--checkpoint", folder, clip, second, "--annotate", tmp_path, "--timeline", tmp_path / "t")[0] == 0
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"in/two.mkv", "one.mp4", "two.mp4", "t/one.csv", "t/one.png", "t/two.csv", "t/two.png"}
    status, _, err = shell("--checkpoint", folder, clip, second, "--annotate", tmp_path / "x.mp4")
    assert status == 1 and "there are 2 videos; name a folder" in err


def test_timeline(shell, folder, clip, tmp_path):
    arguments = ("--timeline", tmp_path / "t", "--window", 0.8, "--step", 0.4, "--annotate", tmp_path / "a.mp4")
    assert shell("--checkpoint", folder, clip, *arguments)[0] == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))
    assert [row["start_seconds"] for row in rows] == ["0.000", "0.400", "0.800", "1.200", "1.600"]
    assert list(rows[0])[2:] == [f"{name}_{rank}" for rank in (1, 2, 3) for name in ("label", "score")]
    assert sum(float(rows[0][f"score_{rank}"]) for rank in (1, 2, 3)) == pytest.approx(1, abs=1e-5)
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    assert len(videos.read_rgb(tmp_path / "a.mp4")[0]) == 24


def test_only_classes_that_stand_out_have_a_line_in_the_timeline():
    scores = np.array([[0.9, 0.06, 0.0, 0.04], [0.3, 0.1, 0.6, 0.0], [0.2, 0.1, 0.7, 0.0]])
    assert timeline.top_classes(scores) == [2, 0, 1]
    assert timeline.top_classes(np.full((2, 9), 1 / 9)) == [0, 1, 2, 3, 4, 5, 6]


# --- many files, bad files ------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path):
    """A folder with two good videos and every kind of bad one."""
    root = tmp_path / "mixed"
    write_video(root / "deep" / "er" / "b.MKV")
    good = write_video(root / "z.mkv")
    (root / "cut.mkv").write_bytes(good.read_bytes()[:300])
    (root / "empty.mp4").touch()
    (root / "text.avi").write_text("a text\n")
    (root / "notes.txt").write_text("not looked at\n")
    (root / ".hidden.mkv").write_bytes(b"not looked at")
    with wave.open(str(root / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    (root / "sound.wav").rename(root / "sound.mp4")
    return root


def test_bad_files_are_named_and_the_others_done(shell, folder, mixed, tmp_path):
    missing = mixed / "missing.mkv"
    status, out, err = shell("--checkpoint", folder, mixed, missing, "--json", tmp_path / "p.json")
    assert status == 1
    answers = json.loads((tmp_path / "p.json").read_text())
    assert [answer["video"] for answer in answers] == [str(mixed / "z.mkv"), str(mixed / "deep/er/b.MKV")]
    lines = err.splitlines()
    assert len(lines) == 5 and all(line.startswith("error: ") for line in lines)
    for name in ("cut.mkv", "empty.mp4", "text.avi", "sound.mp4", "missing.mkv"):
        assert sum(name in line for line in lines) == 1
    assert "2 of 7 videos, 5 errors" in out


def test_every_video_bad(shell, folder, tmp_path):
    (tmp_path / "a.avi").touch()
    status, _, err = shell("--checkpoint", folder, tmp_path / "a.avi", "--json", tmp_path / "p.json")
    assert (status, err) == (1, f"error: {tmp_path}/a.avi: is an empty file\n")
    assert json.loads((tmp_path / "p.json").read_text()) == []


@pytest.mark.parametrize("argument, message", [("*.mp4", "no video matches this pattern"), ("", "no video in this")])
def test_nothing_found(shell, folder, tmp_path, argument, message):
    status, _, err = shell("--checkpoint", folder, str(tmp_path / argument))
    assert status == 1 and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--checkpoint", "/nowhere"), "no such file or folder"),
        (("--checkpoint", __file__), "neither a PyTorch"),
        (("--cam",), "--annotate"),
        (("--json", "/"), "--json /: is a folder"),
        (("--annotate", "x.avi"), "must end in .mp4 or .gif"),
        (("--timeline", "t", "--clips", "3"), "leave it out"),
    ],
)
def test_wrong_arguments_are_one_line(shell, folder, clip, arguments, message):
    status, _, err = shell("--checkpoint", folder, clip, *arguments)
    assert status == 1 and message in err and err.count("\n") == 1


def test_flow_checkpoint_sees_the_flow(shell, tmp_path, clip):
    spec = Preprocessing(
        resize=(32, 44), crop=28, frames=4, mean=(0.5,) * 2, std=(0.5,) * 2, channels="flow", flow="farneback"
    )
    folder = write_checkpoint(tmp_path / "w", spec)
    outputs = ("--json", tmp_path / "out.json", "--annotate", tmp_path / "a.mp4", "--cam")
    status, _, _ = shell("--checkpoint", folder, clip, *outputs)
    (answer,) = json.loads((tmp_path / "out.json").read_text())
    assert status == 0 and answer["clips"] == 5 and "of farneback optical flow" in answer["protocol"]  # 23 fields

    grey = [flow.grey(frame) for frame in read_rgb(clip, (32, 44))[0]]
    compute = flow.Flow("farneback")
    fields = np.stack([flow.quantise(compute.field(a, b)) for a, b in zip(grey[:-1], grey[1:], strict=True)])
    network = classifier.load(folder, which="last")
    clips = fields[:20].reshape(5, 4, 32, 44, 2)
    logits = network(network.prepare(clips, np.tile([32, 44], (5, 1))))
    scores = metrics.softmax(np.asarray(logits)).mean(axis=0)
    assert answer["top"][0]["score"] == pytest.approx(float(scores.max()), abs=1e-5)
    assert (tmp_path / "a.mp4").stat().st_size


@pytest.mark.parametrize("option", ["--top", "--clips", "--batch", "--window", "--step"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "nan"])
def test_numbers_out_of_range(shell, option, value):
    status, _, err = shell("--checkpoint", "x", "y", f"{option}={value}")
    assert status == 1 and option in err and err.count("\n") == 1


def test_bars_and_names_for_any_terminal():
    utf8 = io.TextIOWrapper(io.BytesIO(), "utf-8")
    ascii_only = io.TextIOWrapper(io.BytesIO(), "ascii")
    assert console.bar(0.5, 9, utf8) == "████▌" and console.bar(1, 3, utf8) == "███"
    assert console.bar(0.5, 9, ascii_only) == "####" and console.bar(0, 9, utf8) == ""
    assert console.printable("é\x1b[1m\udcff", ascii_only) == "\\xe9\\x1b[1m\\udcff"
    assert console.printable("é", utf8) == "é"


@pytest.mark.parametrize("command", ["predict", "features"])
def test_several_streams_are_said_once(run, folder, tmp_path, command):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", rate=10) for _ in range(2)]
        for stream, size in zip(streams, ((48, 64), (96, 128)), strict=True):
            stream.height, stream.width, stream.pix_fmt = *size, "bgr0"
            stream.disposition = av.stream.Disposition(0)
        for stream in streams:
            picture = np.zeros((stream.height, stream.width, 3), np.uint8)
            for _ in range(5):
                frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="bgr0")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    main, more = (predict.main, ()) if command == "predict" else (features.main, ("--out", tmp_path / "f"))
    status, _, err = run(main, "--checkpoint", folder, path, *more)
    assert status == 0
    assert err == f"note: {path} has 2 video streams; number 2, the default or largest, is used\n"
