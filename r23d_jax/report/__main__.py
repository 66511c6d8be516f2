"""`python -m r23d_jax.report WORKDIR`"""

from r23d_jax.errors import run_command
from r23d_jax.report import main

if __name__ == "__main__":
    run_command(main)
