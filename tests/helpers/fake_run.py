"""Workdirs of runs that never were: what the report reads, with plausible numbers."""

import json
from pathlib import Path

import numpy as np

from r23d_jax import config as configs
from r23d_jax.evaluation import metrics
from r23d_jax.evaluation.predictions import Predictions

PROTOCOL = (
    "video level, mean of softmax over every non-overlapping 8-frame clip; centre crop 56x56 of frames resized to "
    "short side 64 (stored 64x64); test videos of split 1; last checkpoint, not chosen by test score; float32"
)


def predictions(class_names, per_class=20, right=0.8, seed=0, clips=4) -> Predictions:
    """Scores of a classifier that errs among neighbouring classes and is somewhat too sure."""
    rng = np.random.default_rng(seed)
    classes = len(class_names)
    labels = np.repeat(np.arange(classes, dtype=np.int32), per_class)
    ease = np.clip(rng.normal(right, 0.12, classes), 0.1, 0.995)
    elsewhere = (labels + rng.choice([1, -1, 2, 7], len(labels), p=[0.5, 0.3, 0.1, 0.1])) % classes
    guess = np.where(rng.random(len(labels)) < ease[labels], labels, elsewhere)
    logits = rng.normal(0, 0.6, (len(labels), classes))
    logits[np.arange(len(labels)), guess] += rng.gamma(3, 2.0, len(labels)) + 1
    logits = logits.astype(np.float32)
    stems = [f"v_{class_names[label]}_g{i % 7 + 1:02d}_c{i:02d}" for i, label in enumerate(labels)]
    return Predictions(
        names=np.array([f"{class_names[label]}/{stem}" for label, stem in zip(labels, stems, strict=True)]),
        labels=labels,
        aggregates={"mean_softmax": metrics.softmax(logits).astype(np.float32), "mean_logits": logits},
        clips=np.full(len(labels), clips, np.int32),
        class_names=np.array(class_names),
        clip_top1=0.7135,
    )


def log_lines(lines=80, epochs=8.0, evals=False, seed=0) -> list[dict]:
    """Lines of metrics.jsonl."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(lines):
        share = (i + 1) / lines
        made.append(
            {
                "step": 10 * (i + 1),
                "epoch": epochs * share,
                "seconds": 400 * share,
                "loss": 2.1 * np.exp(-2.5 * share) + 0.1 * rng.random(),
                "accuracy": 0.9 - 0.78 * np.exp(-3 * share),
                "lr": 0.05 * np.cos(np.pi / 2 * share),
                "grad_norm": 1 + rng.random(),
                "clips_per_second": 20.0 if i == 0 else 80 + 5 * rng.random(),
                "data_wait": 0.02 + 0.03 * rng.random(),
            }
        )
        if evals and i % (lines // 30) == 0:
            made.append({**{k: made[-1][k] for k in ("step", "epoch", "seconds")}, "eval_top1": 0.85 * share**0.5})
    return made


def write(workdir: Path, found: Predictions, lines=(), data_dir="nowhere", **results) -> Path:
    """The workdir of a run with these predictions and log lines; `results` override results.json's."""
    workdir.mkdir(parents=True, exist_ok=True)
    found.save(workdir / "predictions.npz")
    fields = {
        "dataset": "tfds_ucf101/motion/1.0.0",
        "split": "1",
        "protocol": PROTOCOL,
        "videos_expected": len(found.names),
        "videos_evaluated": len(found.names),
        **found.results(),
        "step": max((line["step"] for line in lines), default=0),
        "arch": "r2plus3d_18",
        "init": "scratch",
        "seed": 0,
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dataset_fingerprint": "f" * 64,
        **results,
    }
    (workdir / "results.json").write_text(json.dumps(fields))
    if lines:
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = json.loads(json.dumps(configs.flatten(configs.load("demo"))))
    config["dataset.data_dir"] = str(data_dir)
    data = {"name": fields["dataset"], "fingerprint": fields["dataset_fingerprint"]}
    environment = {"commit": fields["commit"], "python": "3.11.9", "jax": "0.10.2", "devices": "1 x cpu", "x": ""}
    claim = {"config": config, "dataset": data, "environment": environment}
    (workdir / "config.json").write_text(json.dumps(claim))
    return workdir
