"""Contact sheets show what the training step sees, bit for bit; summaries count what is there."""

import json
import subprocess
import sys

import fake_data
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from r23d_jax import browse
from r23d_jax import config as configs
from r23d_jax.data import loader, views
from r23d_jax.data.records import VideoDataset
from r23d_jax.training import preview, step
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.transforms.spec import from_config
from r23d_jax.viz import dataset_summary
from r23d_jax.viz import sheet as sheets
from r23d_jax.weights import clip_values

CONFIG = ["clip.size=16", "clip.resize=20", "clip.frames=4", "clip.stride=2", "batch_size=5", "seed=3"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    fake_data.write(folder, "rgb", classes=3, groups=4, vary=True)
    fake_data.write(folder, "flow", classes=2, groups=3, flow="farneback", frames=9)
    return folder


@pytest.fixture(scope="module")
def dataset(built):
    return VideoDataset.open(built, "tfds_ucf101/rgb")


def load(*overrides):
    return configs.load("small", [*CONFIG, *overrides])


class Spy:
    """A network whose new running statistics are the clips and targets it was trained on."""

    def train(self, params, stats, video, key):
        return jnp.zeros((len(video), 3)) * params["w"], {"video": video}


def seen_in_training(config, dataset, steps):
    """Clips that the real training step hands its network, for each step."""
    spec = from_config(clip_values.of_config(config), dataset.channels, dataset.flow)
    augmentation = clip_transforms.Augmentation.from_config(config.augment)
    transform = clip_transforms.train_transform(spec, augmentation, dataset.class_names, config.dtype)
    tx, params = optax.sgd(0.1), {"w": jnp.ones(())}
    taken = jax.jit(step.make_train_step(config, Spy(), tx, lambda _: 0.1, {"w"}, transform))
    state = step.init_state(params, {"video": jnp.zeros(())}, tx, {"w"}, config.ema, config.seed)
    stream = loader.train_batches(
        dataset, dataset.subset("1", "train"), frames=4, stride=2, batch_size=5, seed=3, num_steps=steps
    )
    found = []
    for batch in stream:
        state, _ = taken(state.replace(ema={}), batch)
        found.append((np.asarray(state.stats["video"]), batch))
    return found


@pytest.mark.parametrize(
    "mixing", [(), pytest.param(("augment.mixup=0.4", "augment.cutmix=1.0"), marks=pytest.mark.slow)]
)
def test_training_clips_are_those_of_the_training_step(dataset, mixing):
    config = load("ema=0.0", *mixing)
    seen = seen_in_training(config, dataset, 2)
    clips = preview.training(config, dataset, 8)
    expected = np.concatenate([video for video, _ in seen])[:8]
    np.testing.assert_array_equal([clip.video for clip in clips], expected)
    positions = np.concatenate([batch["video"] for _, batch in seen])[:8]
    assert [clip.name for clip in clips] == [dataset.videos[position].name for position in positions]
    first = seen[0][1]
    height, width = first["size"][1]
    np.testing.assert_array_equal(clips[1].stored, first["frames"][1, 0, :height, :width])
    # Fewer than a batch, and later ones, are the same clips.
    some = preview.training(config, dataset, 3)
    np.testing.assert_array_equal([clip.video for clip in some], expected[:3])
    later = preview.training(config, dataset, 3, first_step=1)
    np.testing.assert_array_equal([clip.video for clip in later], expected[5:8])
    assert [clip.shares for clip in some + later] == [clips[i].shares for i in (0, 1, 2, 5, 6, 7)]
    assert all(abs(sum(share for _, share in clip.shares) - 1) < 1e-6 for clip in clips)
    if mixing:
        assert [clip.partner for clip in clips[:5]] == [clips[i].name for i in (1, 2, 3, 4, 0)]
        assert max(len(clip.shares) for clip in clips) == 2
    else:
        assert {clip.partner for clip in clips} == {""}
        assert all(clip.shares == ((clip.name.split("/")[0], 1.0),) for clip in clips)


@pytest.mark.parametrize("which", ["dense", "whole"])
def test_test_clips(dataset, which):
    config = load(f"eval.views={which}", "eval.crops=3")
    clips = preview.testing(config, dataset, 3)
    positions = dataset.subset("1", "test")[[0, 2, 5]]  # of six, sorted by name
    plans = views.plans(dataset, positions, frames=4, stride=2, max_frames=256, views=which, crops=3)
    transform = jax.jit(clip_transforms.eval_transform(from_config(clip_values.of_config(config)), 3, "float32"))
    every: dict[str, list[np.ndarray]] = {}
    for plan in plans:
        for batch in loader.eval_batches(dataset, plan, batch_size=len(plan)):
            for row, video in enumerate(transform(batch["frames"], batch["size"], batch["crop"])):
                every.setdefault(dataset.videos[batch["video"][row]].name, []).append(np.asarray(video))
    assert sorted(clip.name for clip in clips) == sorted(every)
    for clip in clips:
        assert clip.shares == ((clip.name.split("/")[0], 1.0),) and clip.partner == ""
        np.testing.assert_allclose(clip.video, every[clip.name][len(every[clip.name]) // 2], atol=1e-5)
    assert which == "whole" or {len(clip.video) for clip in clips} == {4}


def test_sheet_shows_the_input_pixel_by_pixel(dataset):
    config = load("augment.flip=0.0")
    clips = preview.training(config, dataset, 3)
    spec = from_config(clip_values.of_config(config))
    sheet = np.asarray(sheets.draw(clips, spec, "title", "note.", columns=3))
    scale = 7  # 112 / 16
    for clip in clips:
        pictures = np.rint(clip_transforms.denormalise(clip.video, spec)).clip(0, 255).astype(np.uint8)
        shown = pictures[[0, 2, 3]]  # three of four, the first and the last among them
        assert all(_is_in(sheet, picture.repeat(scale, 0).repeat(scale, 1)) for picture in shown)
        if not any(np.array_equal(pictures[1], picture) for picture in shown):
            assert not _is_in(sheet, pictures[1].repeat(scale, 0).repeat(scale, 1))


def _is_in(sheet, picture):
    height, width = picture.shape[:2]
    places = np.argwhere((sheet[: 1 - height, : 1 - width] == picture[0, 0]).all(-1))
    return any(np.array_equal(sheet[y : y + height, x : x + width], picture) for y, x in places)


def test_flow_colours():
    """Right is red, the other directions a turn of the wheel from it; rest is white; fast is not more than full."""
    red, down, left, up, rest, fast = sheets.flow_colours(
        np.array([[2, 0], [0, 2], [-2, 0], [0, -2], [0, 0], [90, 0]], np.float32), 2.0
    )
    assert red.tolist() == fast.tolist() == [255, 64, 64] and rest.tolist() == [255, 255, 255]
    assert left.tolist() == [0, 191, 191] and down[1] > down[0] > down[2] and up[2] > up[0] > up[1]
    pale = sheets.flow_colours(np.array([1.0, 0]), 2.0)
    assert pale.tolist() == [255, 159, 159] or pale.tolist() == [255, 160, 160]


def test_command_draws(built, run, tmp_path):
    shared = ["--config", "small", "--config.dataset.data_dir", built, *(f"--config.{text}" for text in CONFIG)]
    out = tmp_path / "new/sheet.png"
    status, said, _ = run(browse.main, *shared, "--config.dataset.name=rgb", "--out", out, "--clips", 3)
    assert status == 0 and said == f"{out}: 3 clips\n"
    with Image.open(out) as sheet:
        assert sheet.size[1] == 78 + 3 * 124 + 18 and sheet.format == "PNG"
    half = ["--config.clip.mean=0.5,0.5", "--config.clip.std=0.5,0.5"]
    flow = [*shared, "--config.dataset.name=flow", *half, "--out", tmp_path / "flow.jpg", "--part", "test"]
    status, said, _ = run(browse.main, *flow, "--clips", 9)
    assert status == 0 and "2 clips" in said  # there are no more
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flow.jpg", "new"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "one of the arguments --config --data_dir is required"),
        (["--config", "small"], "--out : name the picture to write"),
        (["--config", "small", "--out", "sheet.pdf"], "--out sheet.pdf: name the picture to write"),
        (["--config", "small", "--out", "s.png", "--step", "-1"], "--step -1: must be at least 0"),
        (["--config", "small", "--out", "s.png", "--json", "f"], "--json f: goes with --data_dir"),
        (["--config", "small", "--out", "s.png", "--config.dataset.split=all"], "look at one split"),
        (["--config", "small", "--out", "s.png", "--config.nosuch=1"], "--config.nosuch: there is no such key"),
        (["--config", "rows:10", "--out", "s.png"], "has two streams; name the config of one"),
        (["--data_dir", "x", "--out", "s.png"], "--data_dir x: --out goes with --config"),
        (["--data_dir", "x", "--config.seed=1"], "--data_dir x: --config.seed=1 goes with --config"),
        (["--data_dir", "x"], "no such data set in x"),
    ],
)
def test_mistakes(run, arguments, message):
    status, _, err = run(browse.main, *arguments)
    assert status == 1 and message in err and err.count("\n") == 1


def test_summary(built, dataset, run, tmp_path):
    facts = dataset_summary.summarise(dataset)
    assert facts["videos"] == 12 and facts["classes"] == 3 and facts["shards"] == 2 and facts["groups"] == 12
    assert facts["frames"] == sum(video.num_frames for video in dataset.videos)
    assert facts["seconds"] == pytest.approx(facts["frames"] / 25)
    assert facts["splits"]["1"] == {"train": 6, "test": 6, "neither": 0}
    assert facts["bytes_on_disk"] == sum(path.stat().st_size for path in dataset.path.iterdir())
    assert facts["frame_rates"] == [{"fps": 25.0, "videos": 12}]
    assert sum(one["videos"] for one in facts["sizes"]) == 12
    lengths = sorted(video.num_frames for video in dataset.videos if video.label == 1)
    row = facts["per_class"][1]
    assert row["label"] == dataset.class_names[1] and row["videos"] == row["groups"] == 4
    assert row["duration"]["least"] == lengths[0] / 25 and row["duration"]["most"] == lengths[-1] / 25
    assert row["splits"]["2"] == {"train": 3, "test": 1, "neither": 0}
    status, out, _ = run(browse.main, "--data_dir", built, "--name", "rgb", "--json", tmp_path / "a/facts.json")
    assert status == 0 and json.loads((tmp_path / "a/facts.json").read_text()) == facts
    assert "12 videos" in out and facts["fingerprint"] in out and "split 2: 9 train, 3 test" in out
    assert "nothing was lost in the build" in out
    lines = out.splitlines()
    table = lines[lines.index(next(line for line in lines if line.startswith("class "))) :][:5]
    assert len({len(line) for line in table}) == 1
    assert [line.split()[0] for line in table[2:]] == list(dataset.class_names)


def test_summary_of_losses(dataset):
    facts = dataset_summary.summarise(dataset)
    facts["losses"] = {
        "unreadable": [{"path": f"videos/A/{i}.avi", "reason": "is an empty file"} for i in range(7)],
        "fewer_frames_than_header": [{"path": "videos/B/1.avi", "frames": 3, "header": 90}],
        "in_no_list": [],
        "listed_but_absent": ["A/9"],
    }
    for row in facts["per_class"][1:]:
        row["splits"]["3"]["test"] = 0
    text = dataset_summary.table(facts)
    assert "7 videos unreadable, left out:\n  videos/A/0.avi: is an empty file" in text
    assert "and 2 more (--json FILE has all)" in text and "videos/B/1.avi: 3 frames, the header claims 90" in text
    assert "1 video listed but absent:\n  A/9" in text and "in no list" not in text and "nothing was lost" not in text
    assert f"split 3 has no test video of {', '.join(dataset.class_names[1:])}" in text


def test_needs_no_tensorflow(built, tmp_path):
    overrides = [f"--config.{text}" for text in (*CONFIG, f"dataset.data_dir={built}", "dataset.name=rgb")]
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['apache_beam'] = None\n"
        "from r23d_jax import browse\n"
        f"sys.argv[1:] = ['--data_dir', {str(built)!r}, '--name', 'rgb']; browse.main()\n"
        f"sys.argv[1:] = ['--config', 'small', '--out', {str(tmp_path / 's.png')!r}, '--clips', '3', *{overrides!r}]\n"
        "browse.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s.png").is_file()
