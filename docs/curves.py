"""Learning curves of several runs in one picture.

PYTHONPATH=. python docs/curves.py OUT.png WORKDIR...
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from r23d_jax.training.log import read_metrics  # noqa: E402


def main() -> None:
    out, *workdirs = map(Path, sys.argv[1:])
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    for workdir in workdirs:
        results = json.loads((workdir / "results.json").read_text())
        lines = [line for line in read_metrics(workdir) if "loss" in line]
        for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
            label = f"{results['arch']}: top-1 {results['top1']:.3f} on {results['videos_evaluated']} test videos"
            axis.plot([x["epoch"] for x in lines], [x[name] for x in lines], label=label)
            axis.set(xlabel="epoch", title=f"training {name}")
            axis.spines[["top", "right"]].set_visible(False)
    axes[1].axhline(0.5, color="0.6", linewidth=0.8, linestyle="--")
    axes[1].set_ylim(0, 1)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
