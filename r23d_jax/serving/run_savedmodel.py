"""Runs a SavedModel as somebody without this package and without JAX does: `python run_savedmodel.py MODEL IN OUT`.

IN is an .npz whose arrays are batches, OUT an .npz with the logits of each. `export` starts it as a script of its
own: nothing of this package may be imported here.
"""

import sys

import numpy as np


def run(model: str, inputs: str, outputs: str) -> None:
    sys.modules["jax"] = None  # an import of it is an error from here on
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    signature = tf.saved_model.load(model).signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    with np.load(inputs) as batches:
        logits = {key: signature(**{name: tf.constant(batches[key])})["logits"].numpy() for key in batches.files}
    np.savez(outputs, **logits)


if __name__ == "__main__":
    run(*sys.argv[1:])
