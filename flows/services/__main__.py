"""`python -m flows.services up|down|status`."""

from __future__ import annotations

import signal
import sys

from flows.services.address import Address
from flows.services.down import down
from flows.services.status import status
from flows.services.up import up
from vidprompt.system.errors import UserError

USAGE = "usage: python -m flows.services up|down|status"


def main(words: list[str]) -> int:
    """Run a command; exit status 0, or 2 with a message for the user."""
    if len(words) != 1 or words[0] not in ("up", "down", "status"):
        print(USAGE, file=sys.stderr)
        return 2
    # A shell without job control starts what is behind `&` with SIGINT ignored, services would inherit that,
    # and Prefect stops itself by SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if words[0] == "up":
            up(Address.configured())
        elif words[0] == "down":
            down(Address.home())
        else:
            status(Address.home())
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nstopped; what was started is on record: `make up` continues, `make down` stops it")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
