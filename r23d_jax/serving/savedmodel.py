"""Writes a portable network as a TensorFlow SavedModel, and runs a SavedModel by TensorFlow alone."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from r23d_jax.errors import UserError
from r23d_jax.serving import run_savedmodel
from r23d_jax.serving.portable import Portable


def require_tensorflow() -> None:
    """Raises a `UserError` that says what to install if TensorFlow is missing."""
    if importlib.util.find_spec("tensorflow") is None:
        needed = "'tensorflow>=2.20,<2.23'" if sys.version_info < (3, 14) else "'tensorflow>=2.22.0rc0,<2.23'"
        raise UserError(f"--format savedmodel: needs TensorFlow: pip install {needed}")
    # Before its first import, which otherwise logs unused CPU instructions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def write(portable: Portable, folder: Path) -> None:
    """Writes the SavedModel: signature `serving_default`, the portable's input to `logits`, weights as variables.

    It contains the network as StableHLO for every platform, which TensorFlow compiles with its own XLA. The module is
    written in the version of StableHLO that the installed TensorFlow knows: JAX's own is usually newer.
    """
    import tensorflow as tf
    from jax.extend.mlir.dialects import stablehlo
    from tensorflow.compiler.mlir.stablehlo import stablehlo as known
    from tensorflow.compiler.tf2xla.python import xla

    if jax.default_backend() != "cpu":
        tf.config.set_visible_devices([], "GPU")  # JAX uses it
    exported = portable.stablehlo_of_weights()
    version = stablehlo.get_smaller_version(stablehlo.get_current_version(), known.get_current_version())
    names = sorted(portable.weights)
    module = tf.Module()
    module.weights = [tf.Variable(portable.weights[name], trainable=False, name=_variable(name)) for name in names]
    attributes = {
        "version": exported.calling_convention_version,
        "module": stablehlo.serialize_portable_artifact_str(exported.mlir_module(), version),
        "platforms": [platform.upper() for platform in exported.platforms],
        "Sout": [[None, *exported.out_avals[0].shape[1:]]],
        "Tout": [tf.float32],
    }

    def serve(inputs):
        arguments = [*module.weights, inputs]
        arguments = [tf.convert_to_tensor(arguments[index]) for index in exported.module_kept_var_idx]
        (logits,) = xla.call_module(arguments, **attributes)
        return {"logits": logits}

    spec = tf.TensorSpec([None, *portable.shape], portable.dtype, name=portable.name)
    module.serve = tf.function(serve, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures=module.serve.get_concrete_function())


def run(folder: Path, batches: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the logits of batches, computed on the CPU by a new process that has TensorFlow but not JAX.

    Raises:
      UserError: TensorFlow cannot load or run the model; with the last line of its output.
    """
    with tempfile.TemporaryDirectory(prefix="r23d_export_") as scratch:
        inputs, outputs = Path(scratch) / "inputs.npz", Path(scratch) / "outputs.npz"
        np.savez(inputs, **{str(number): batch for number, batch in enumerate(batches)})
        # -I keeps this package's folder and the user's PYTHONPATH off its path.
        command = [sys.executable, "-I", run_savedmodel.__file__, str(folder), str(inputs), str(outputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise UserError(f"{folder}: TensorFlow cannot run it: {said[-1]}")
        with np.load(outputs) as logits:
            return [logits[str(number)] for number in range(len(batches))]


def _variable(name: str) -> str:
    return name.replace(".", "_")
