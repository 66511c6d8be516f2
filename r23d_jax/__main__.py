"""`python -m r23d_jax COMMAND`, the same as `r23d COMMAND`."""

from r23d_jax.cli import run

if __name__ == "__main__":
    run()
