"""The eleven rows of the study's results table; the argument is the row.

    tfds build tfds_ucf101 --config flow256 --manual_dir=UCF101 --data_dir=data
    python -m r23d_jax.main --config configs/rows.py:ROW --workdir runs/rowROW --config.dtype=bfloat16

| row | network, input              | starts from (init_from)                      | data           | GMAC | bound  |
|-----|-----------------------------|----------------------------------------------|----------------|------|--------|
| 1   | I3D RGB                     | nothing                                      | rgb256         | 111  | 5 min  |
| 2   | I3D RGB                     | slim-inception_v1-imagenet, inflated         | rgb256         | 111  | 5 min  |
| 3   | I3D flow (TV-L1)            | slim-inception_v1-imagenet, inflated         | flow256        | 102  | 4 min  |
| 4   | I3D two-stream              | rows 2 and 3                                 |                |      | 9 min  |
| 5   | R(2+1)D-34 RGB              | nothing                                      | rgb            | 152  | 15 min |
| 6   | R(2+1)D-34 flow (Farneback) | nothing                                      | flow_farneback | 152  | 15 min |
| 7   | R(2+1)D-34 two-stream       | rows 5 and 6                                 |                |      | 31 min |
| 8   | R(2+1)D-34 RGB              | vmz-r2plus1d_34-32-sports1m-kinetics400      | rgb            | 152  | 15 min |
| 9   | R(2+1)D-34 flow (Farneback) | vmz-r2plus1d_34-32-flow-sports1m-kinetics400 | flow_farneback | 152  | 15 min |
| 10  | R(2+1)D-34 two-stream       | rows 8 and 9                                 |                |      | 31 min |
| 11  | R(2+3)D-18 RGB              | vmz-rmc4_18-16-kinetics400 (r23d.py)         | rgb128         | 29   | 11 min |

`python -m r23d_jax.table --study` prints the study's figures and the published ones, with what to know about each. No
time or score is measured here; "bound" is computed: epochs * 9,537 clips * 3 * 2 * GMAC over the 790 TFLOP/s of dense
bfloat16 of one H200, split 1.

Sports-1M weights of R(2+1)D-34 alone are not published: VMZ has them trained on to Kinetics-400, in RGB and in flow,
and rows 8 to 10 start from those. (Tran et al. 2018 give 96.8, 95.5 and 97.3 on UCF101 from Kinetics-400 alone.) For
rows 2 and 3 torchvision-googlenet-imagenet is the other start; for flow the first kernel is averaged over its input
channels. Where weights cannot be fetched, the error says which file to put where. `--config.init_from=` trains from
nothing.

Rows 4, 7 and 10 train both networks in WORKDIR/rgb and WORKDIR/flow; where they are trained already,
`python -m r23d_jax.two_stream runs/row2 runs/row3 --out runs/row4` gives the same.

Recipes: configs/i3d.py (1 to 3), configs/vmz.py (5 to 9; from nothing with VMZ's Kinetics rate .01 and decay 1e-4, for
as long as it fine-tunes), configs/r23d.py (11), which also say what was chosen here.
"""

from . import common, i3d, r23d, vmz

_IMAGENET = "slim-inception_v1-imagenet"
_NOTHING = {"init_from": "", "lr": 0.01, "optimizer.weight_decay": 1e-4}
_ROWS = {  # recipe and input, and what the row changes of it
    "1": (i3d, "rgb", {}),
    "2": (i3d, "rgb", {"init_from": _IMAGENET}),
    "3": (i3d, "flow", {"init_from": _IMAGENET}),
    "5": (vmz, "rgb", _NOTHING),
    "6": (vmz, "flow", _NOTHING),
    "8": (vmz, "rgb", {}),
    "9": (vmz, "flow", {}),
}
_STREAMS = {"4": ("rows:2", "rows:3"), "7": ("rows:5", "rows:6"), "10": ("rows:8", "rows:9")}


def get_config(row="11"):
    if row == "11":
        config = r23d.get_config()
        config.update_from_flattened_dict({"dataset.name": "tfds_ucf101/rgb128", "lr_batch": config.batch_size})
    elif row in _STREAMS:
        config = common.get_config()
        config.streams = _STREAMS[row]
    else:
        recipe, stream, changes = _ROWS[row]
        config = recipe.get_config(stream)
        config.update_from_flattened_dict(changes)
    return config
