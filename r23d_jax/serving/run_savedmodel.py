"""Runs a SavedModel without this package and without JAX: `python run_savedmodel.py MODEL IN OUT`.

IN is an .npz whose arrays are batches, OUT an .npz with the logits of each. `export` runs this file as a script, so it
must not import this package.
"""

import sys

import numpy as np


def run(model: str, inputs: str, outputs: str) -> None:
    sys.modules["jax"] = None  # makes any import of JAX fail
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    signature = tf.saved_model.load(model).signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    with np.load(inputs) as batches:
        logits = {key: signature(**{name: tf.constant(batches[key])})["logits"].numpy() for key in batches.files}
    np.savez(outputs, **logits)


if __name__ == "__main__":
    run(*sys.argv[1:])
