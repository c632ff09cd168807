"""The command line `polybus`.

Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 something needed was unreachable (NATS, a gateway),
130 interrupted.  Whatever goes wrong is one sentence on standard error, or with `--json` one object there.
"""

import os
import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its exit status."""
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        # Within the `try`: to import it all takes long enough for a Ctrl-C.
        from polybus_services.cli.commands import polybus
        from polybus_services.cli.support import Invocation, first_error, report
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        status = polybus.main(arguments, prog_name="polybus", standalone_mode=False, obj=Invocation())
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as raised:  # noqa: BLE001 - nobody wants a traceback
        error = first_error(raised)
        if isinstance(error, BrokenPipeError):
            # Who read our output has enough (`| head`).  Python would complain again when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        sys.exit(report(error, as_json="--json" in arguments))
    sys.exit(status if isinstance(status, int) else 0)
