"""The parts of `benchmarks/gpu.py`.

`parts` decides what is measured next. Every measurement is a process of its own: `machine`, `step`, `theirs`, `loop` or
`numerics`, run as `python -m gpu_parts.NAME SETTINGS`, which reports what it finds as it finds it (`children`).
`results` keeps it in a file, `table` prints it.
"""
