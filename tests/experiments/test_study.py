"""The study: which runs it makes, that none is made twice, and what its table says."""

import json
import os
import signal
import sys

import fake_data
import jax
import pytest
from flax import nnx

from r23d_jax import config as configs
from r23d_jax import models, study
from r23d_jax.data import records
from r23d_jax.errors import UserError
from r23d_jax.experiments import single, study_table
from r23d_jax.experiments import study as ladder
from r23d_jax.models.summary import cost
from r23d_jax.runtime.signals import EXIT_STATUS, Interrupted
from r23d_jax.runtime.workdir import claim_workdir
from r23d_jax.viz import study_plot

# Data and program of test_loop.py, so that both files compile it once.
SMALL = fake_data.RUN


def load(data, *overrides):
    return configs.load("demo", [*SMALL, f"dataset.data_dir={data}", *overrides])


def run(config, root, archs, seeds=2):
    return ladder.run(config, root, ladder.networks(archs, 18), seeds)


@pytest.fixture(scope="module")
def real(data, tmp_path_factory):
    """A study of one network, asked for under both of its names, with two seeds; and what it compiled by seed."""
    root, asked = tmp_path_factory.mktemp("study") / "w", []

    def note(event, **_):
        if event.startswith("/jax/compilation_cache/cache_"):  # cache_hits or cache_misses
            asked.append((max((path.name for path in root.glob("*/seed*")), default=""), event.rpartition("_")[2]))

    least = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.monitoring.register_event_listener(note)  # for good: JAX 0.7 does not take it back
    try:
        found = run(load(data), root, "r2plus3d_18,rmc4_18")
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
    return root, found, tuple(asked)


def test_a_network_of_two_names_is_trained_once_and_shown_as_both(real):
    root, found, _ = real
    assert sorted(str(path.parent.relative_to(root)) for path in root.glob("*/*/results.json")) == [
        "rmc4_18/seed0",
        "rmc4_18/seed1",
    ]
    (row,) = found["rows"]
    assert row["network"] == "R(2+3)D = rMC4" and row["names"] == ["rmc4_18", "r2plus3d_18"]


def test_the_second_seed_compiles_no_step(real):
    """But perhaps one program of the report, whose shapes follow the videos it chooses."""
    second = [outcome for seed, outcome in real[2] if seed == "seed1"]
    assert second.count("hits") >= 2 and second.count("misses") <= 1


def test_the_table_is_what_the_runs_found(real):
    root, found, _ = real
    assert json.loads((root / "study.json").read_text()) == found and found["finished"] == found["cells"] == 2
    (row,) = found["rows"]
    runs = [json.loads((root / "rmc4_18" / f"seed{k}" / "results.json").read_text()) for k in (0, 1)]
    a, b = (one["top1"] for one in runs)
    assert row["top1"]["values"] == [a, b] and row["top1"]["mean"] == pytest.approx((a + b) / 2)
    assert row["top1"]["deviation"] == pytest.approx(abs(a - b) / 2**0.5)
    assert row["clips_per_second"] > 0 and row["train_seconds"] > 0 and row["parameters"] > 1000
    text = (root / "study.md").read_text()
    for part in (
        f"| {100 * row['top1']['mean']:.1f} ± {100 * row['top1']['deviation']:.1f} % (2) |",
        runs[0]["protocol"],
        runs[0]["commit"],
        runs[0]["dataset_fingerprint"][:16],
        "seeds 0, 1",
        "1 x cpu",
        "`rmc4_18`, `r2plus3d_18`",
        f"{runs[0]['videos_expected']} test videos",
    ):
        assert part in text
    assert (root / "study.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_finished_is_not_run_again(real, data, monkeypatch):
    monkeypatch.setattr(single, "train", None)  # calling it would be an error
    assert run(load(data), real[0], "rmc4_18") == real[1]


def test_a_finished_run_is_one_of_this_evaluation_and_length(real, data, tmp_path):
    workdir, fingerprint = real[0] / "rmc4_18" / "seed0", real[1]["dataset_fingerprint"]

    def check(*overrides, steps=12, fingerprint=fingerprint, workdir=workdir):
        return ladder.finished(workdir, load(data, "arch=rmc4_18", *overrides), fingerprint, steps)

    assert check() == json.loads((workdir / "results.json").read_text())
    assert check("eval.crops=3") is check(steps=13) is check("seed=1") is check(fingerprint="0") is None
    assert check(workdir=tmp_path) is None
    assert check("budget_minutes=0.0001", steps=13) is not None and check("budget_minutes=1000", steps=13) is None
    (tmp_path / "results.json").write_text('{"top1": 0.')
    assert check(workdir=tmp_path) is None


# --- which runs are made, and when: with runs that only leave files


class Runs:
    """Stands in for `train_and_evaluate`: notes where it was called, and does there what it is told to.

    Attributes:
      calls: `<network>/seed<k>` of every call.
      instead: by such a name, the exception to raise once.
    """

    def __init__(self, dataset):
        self.calls, self.instead, self._dataset = [], {}, dataset

    def __call__(self, config, workdir):
        name = "/".join(workdir.parts[-2:])
        self.calls.append(name)
        claim_workdir(workdir, config, self._dataset)
        (workdir / "checkpoints" / "00000012").mkdir(parents=True, exist_ok=True)
        if name in self.instead:
            raise self.instead.pop(name)
        line = {"step": 12, "seconds": 7.5, "clips_per_second": 100.0 + config.seed}
        (workdir / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        results = {
            "top1": 0.5 + 0.1 * config.seed,
            "mean_class": 0.5,
            "videos_expected": 12,
            "videos_evaluated": 12,
            "step": 12,
            "arch": config.arch,
            "seed": config.seed,
            "protocol": "of a test",
            "commit": "c" * 40,
            "dataset_fingerprint": self._dataset.fingerprint,
        }
        (workdir / "results.json").write_text(json.dumps(results))
        return results


@pytest.fixture
def runs(data, monkeypatch):
    stand_in = Runs(records.VideoDataset.open(data))
    monkeypatch.setattr(single, "train", stand_in)
    monkeypatch.setattr(study_plot, "write", lambda *_: None)  # a second each
    return stand_in


def test_seed_by_seed_and_on_where_it_was_interrupted(data, tmp_path, runs):
    order = ["r2d_18/seed0", "rmc4_18/seed0", "r2d_18/seed1", "rmc4_18/seed1"]
    runs.instead["r2d_18/seed1"] = Interrupted("saved at step 5")
    with pytest.raises(Interrupted):
        run(load(data), tmp_path, "r2d_18,r2plus3d_18")
    assert runs.calls == order[:3]
    assert "2 of 4 runs" in (tmp_path / "study.md").read_text()
    found = run(load(data), tmp_path, "r2d_18,rmc4_18")
    assert runs.calls == [*order[:3], *order[2:]] and found["finished"] == 4
    found = run(load(data), tmp_path, "r2d_18,rmc4_18,r3d_18", seeds=3)  # more of it
    assert runs.calls[5:] == ["r3d_18/seed0", "r3d_18/seed1", "r2d_18/seed2", "rmc4_18/seed2", "r3d_18/seed2"]
    assert found["rows"][0]["top1"]["mean"] == pytest.approx(0.6)
    assert found["rows"][0]["top1"]["deviation"] == pytest.approx(0.1)
    assert found["rows"][0]["clips_per_second"] == 101 and found["rows"][0]["train_seconds"] == 7.5


def test_a_failing_run_is_in_the_table_and_the_others_go_on(data, tmp_path, runs):
    runs.instead["r2d_18/seed0"] = UserError("the loss is nan at step 3")
    runs.instead["r2d_18/seed1"] = RuntimeError("RESOURCE_EXHAUSTED:\n out of memory")
    runs.instead["rmc4_18/seed1"] = UserError("the loss is inf at step 4")
    found = run(load(data), tmp_path, "r2d_18,rmc4_18")
    assert len(runs.calls) == 4 and found["finished"] == 1 and found["rows"][0]["top1"] is None
    text = (tmp_path / "study.md").read_text()
    assert "* R2D, seed 1: RuntimeError: RESOURCE_EXHAUSTED: out of memory\n" in text
    assert "| failed (2) |" in text and "| 50.0 % (1, 1 failed) |" in text
    runs.instead["r2d_18/seed0"] = OSError(28, "No space left on device")
    with pytest.raises(OSError):  # the others would meet it too
        run(load(data), tmp_path, "r2d_18,rmc4_18")
    assert run(load(data), tmp_path, "r2d_18,rmc4_18")["finished"] == 4


def test_another_recipe_in_the_same_folder_is_refused(data, tmp_path, runs):
    run(load(data), tmp_path, "rmc4_18", seeds=1)
    with pytest.raises(UserError, match="lr=0.05 there, 0.1 now.*new workdir"):
        run(load(data, "lr=0.1"), tmp_path, "r2d_18,rmc4_18")
    with pytest.raises(UserError, match="networks on one split"):
        run(load(data, "dataset.split=all"), tmp_path, "rmc4_18")
    assert runs.calls == ["rmc4_18/seed0"]


def test_the_command_leaves_with_its_own_status(data, tmp_path, runs, monkeypatch, capsys):
    def command(arch):
        overrides = [f"--config.{text}" for text in (*SMALL, f"dataset.data_dir={data}")]
        flags = ["--config", "demo", "--workdir", str(tmp_path), "--seeds", "1", "--arch", arch]
        monkeypatch.setattr(sys, "argv", ["study", *flags, *overrides])
        return study.main()

    assert command("rmc4_18") == 0 and capsys.readouterr().out.strip() == str(tmp_path / "study.md")
    runs.instead["r2d_18/seed0"] = UserError("the loss is nan")
    assert command("r2d_18") == 1
    assert "cell 1 of 1: R2D (r2d_18), seed 0: failed: the loss is nan" in capsys.readouterr().err
    runs.instead["r2d_18/seed0"] = Interrupted("saved at step 1")
    assert command("r2d_18") == EXIT_STATUS
    monkeypatch.setattr(single, "train", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert command("r2d_18") == EXIT_STATUS and signal.getsignal(signal.SIGTERM) is before  # where no run listens


def test_the_ladder_by_depth():
    assert len(ladder.networks("", 18)) == 12 and "rmc4_18" in ladder.networks("", 18)
    assert ladder.networks("", 34) == "r2d_34 f_r2d_34 r3d_34 r2plus1d_34 r2plus3d_34 r3plus2d_34".split()
    assert study_table.label("r2plus3d_34") == "R(2+3)D-34" and study_table.label("mc4_18") == "R(3+2)D = MC4"
    kinds = {name: models.get(name).kind for name in ladder.networks("", 18)}
    assert kinds["f_r2d_18"] == kinds["r2d_18"] == "2D" and kinds["r3d_18"] == "3D" and kinds["r2plus1d_18"] == "(2+1)D"
    assert {kinds[f"mc{group}_18"] for group in (2, 3, 4, 5)} == {"3D early, 2D late"}
    assert {kinds[f"rmc{group}_18"] for group in (2, 3, 4, 5)} == {"2D early, 3D late"}
    assert study_table.label("i3d") == "I3D" and study_table.label("rmc2_18") == "rMC2"
    with pytest.raises(UserError, match="--depth 20"):
        ladder.networks("", 20)
    with pytest.raises(UserError, match="no network is called"):
        ladder.networks("r3d_19", 18)


def test_the_recipes_load():
    small, full = configs.load("study"), configs.load("study:ucf101")
    assert small.dataset.name == "tfds_ucf101/motion" and full.model.width == 64 and full.epochs == 300
    with pytest.raises(UserError, match="one for ucf101"):
        configs.load("study:hmdb51")


def test_the_compilers_count_and_the_papers():
    found = cost(lambda: models.create("r2plus3d_18", 400, rngs=nnx.Rngs(0)), (16, 112, 112, 3))
    assert found.nominal_macs == pytest.approx(29.1e9, rel=0.002) and found.parameters == pytest.approx(32e6, rel=0.002)
    assert 0.8 < found.macs / found.nominal_macs < 1
