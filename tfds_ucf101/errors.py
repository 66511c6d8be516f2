"""Errors of the input that a key of the config would avoid, too; and libraries that only some inputs need."""

import contextlib
from collections.abc import Iterator

from r23d_jax.errors import UserError


class InputError(UserError):
    """The input does not fit together; besides mending it, a key of the builder's config may be a way out.

    Attributes:
      plain: the message for somebody who has no such config.

    Args:
      what: how the message begins.
      config: how it ends for the builder.
      plain: how it ends for all others.
    """

    def __init__(self, what: str, config: str, plain: str = ""):
        super().__init__(what + config)
        self.plain = what + plain


@contextlib.contextmanager
def libraries_for(what: str) -> Iterator[None]:
    """Turns the error of a library that is not installed into one line that says how to install it.

    Args:
      what: needs it, in words; the line begins with them.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{what} needs {error.name}, not installed here: pip install 'r23d_jax[build]' (in a checkout: '.[build]')"
        ) from None
