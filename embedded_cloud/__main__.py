"""`python -m embedded_cloud`: serve the embedded cloud on 127.0.0.1."""

import argparse
import contextlib
import ctypes
import errno
import functools
import logging
import pathlib
import re
import signal
import socket
import sys
from collections.abc import Callable

from embedded_cloud.base import environment, root_key

EXIT_PORT_TAKEN = 3
EXIT_NO_EMULATOR = 4
EXIT_NOT_SAFE = 5

# prctl(2), <linux/prctl.h>
PR_SET_PDEATHSIG = 1


def main() -> int:
    options = _parser().parse_args()
    if sys.platform != "linux":
        return _fail(EXIT_NOT_SAFE, f"it needs Linux, where the kernel says who makes a request; this is {sys.platform}.")
    if options.end_with_parent:
        # The kernel sends SIGTERM when the parent is gone, so that a killed supervisord leaves no cloud on the port.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", options.port))
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            return _fail(1, f"cannot listen on 127.0.0.1:{options.port}: {error}")
        remedy = f"`ss -ltnp 'sport = :{options.port}'` shows which; stop it, or choose another port (embedded_cloud_port)."
        return _fail(EXIT_PORT_TAKEN, f"127.0.0.1:{options.port} is taken by another process. {remedy}")
    port = listener.getsockname()[1]
    try:
        key = root_key.read_or_make(options.credentials)
    except root_key.UnsafeKeyError as error:
        return _fail(EXIT_NOT_SAFE, str(error))
    environment.prepare(port, options.account, options.region, key)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s [%(name)s] %(message)s", stream=sys.stderr)
    try:
        import botocore.session

        # moto makes a session for each list of regions, and each would read the descriptions of AWS's endpoints anew.
        botocore.session.create_loader = functools.cache(botocore.session.create_loader)
        from embedded_cloud import server
    except Exception as error:
        expected = f"Expected: the packages of requirements.txt in {sys.prefix}. Install them again with `make`, then start again."
        return _fail(EXIT_NO_EMULATOR, f"an emulator cannot be imported ({type(error).__name__}: {error}). {expected}")
    print(f"embedded_cloud: http://127.0.0.1:{port}, account {options.account}, region {options.region}", flush=True)
    server.run(listener, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m embedded_cloud",
        description="Serve the embedded cloud on 127.0.0.1, for the user who starts it. It keeps nothing when it stops.",
        epilog=f"Exits {EXIT_PORT_TAKEN} when the port is taken, {EXIT_NO_EMULATOR} when an emulator cannot be imported,"
        f" {EXIT_NOT_SAFE} when it cannot be kept from others.",
    )
    parser.add_argument("--port", type=_number(0, 65535), default=4566, help="TCP port; 0 takes a free one (default: %(default)s)")
    file = pathlib.Path(__file__).resolve().parents[1] / ".local" / "aws.cfg"
    text = "configuration file of the AWS CLI with the key of root, as profile embedded-cloud; made if missing (default: %(default)s)"
    parser.add_argument("--credentials", type=pathlib.Path, default=file, help=text)
    text = "also answer other users of this machine, who need a key, except on this cloud's own pages"
    parser.add_argument("--guests", action="store_true", help=text)
    parser.add_argument("--account", type=_account, default="000000000000", help="account id, twelve digits (default: %(default)s)")
    parser.add_argument("--region", default="us-east-1", help="region of requests that name none (default: %(default)s)")
    text = "how long the credentials of an instance's role live (default: %(default)s)"
    parser.add_argument("--session-seconds", type=_number(1, 43200), default=21600, help=text)
    parser.add_argument(
        "--time-scale",
        type=_number(0, 1, float),
        default=1.0,
        help="factor for AWS's waiting times: until a queue's name is free again, a new role is known, an instance runs"
        " (0 to 1, default: %(default)s)",
    )
    text = "the account is on AWS's Free account plan, which launches eligible instance types only"
    parser.add_argument("--free-plan", action="store_true", help=text)
    parser.add_argument(
        "--fault-rate",
        type=_number(0, 1, float),
        default=0.0,
        help="share of the operator's requests that are throttled, answered with 500 or 503, or lose their connection before or after"
        " they took effect, 0 to 1; PUT /_embedded_cloud/faults changes this and the next two options (default: %(default)s)",
    )
    parser.add_argument("--fault-seed", type=_number(0, 2**31), default=0, help="which requests these are (default: %(default)s)")
    text = "milliseconds added to each of the operator's requests (default: %(default)s)"
    parser.add_argument("--latency", type=_number(0, 60_000), default=0, help=text)
    parser.add_argument("--end-with-parent", action="store_true", help="end when the process that started this one ends (Linux)")
    return parser


def _number(lowest: int, highest: int, kind: type[int] | type[float] = int) -> Callable[[str], float]:
    def number(text: str) -> float:
        with contextlib.suppress(ValueError):
            if lowest <= kind(text) <= highest:
                return kind(text)
        raise argparse.ArgumentTypeError(f"{text} is not a {'whole ' if kind is int else ''}number from {lowest} to {highest}")

    return number


def _account(text: str) -> str:
    if not re.fullmatch(r"[0-9]{12}", text):
        raise argparse.ArgumentTypeError(f"{text} is not an account id of twelve digits")
    return text


def _fail(status: int, reason: str) -> int:
    print(f"embedded_cloud: {reason}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
