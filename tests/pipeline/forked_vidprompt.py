"""A `vidprompt` for tests that starts in milliseconds: forked from a process that has imported everything.

A pipeline of forty stages imports torch, Great Expectations and others forty times, three to eight seconds
each. `scripts()` is a folder for PATH with a `vidprompt` that hands its arguments, environment, folder and
standard streams to such a process, which forks, runs the command line in the fork and answers with the exit
status. Signals do not reach the fork: where they matter, use the installed `vidprompt`.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

CLIENT = """#!{python} -IS
import array, json, os, socket, sys
request = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    streams = array.array("i", [0, 1, 2])
    server.sendmsg([len(request).to_bytes(8, "big")],
                   [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    server.sendall(request)
    sys.exit(int(server.makefile().read() or 70))
"""


@cache
def scripts() -> Path:
    """The folder with the `vidprompt` to use; its server ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="vidprompt-"))
    address = str(folder / "socket")
    script = folder / "vidprompt"
    script.write_text(CLIENT.format(python=sys.executable, address=address))
    script.chmod(0o755)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.forked_vidprompt", str(listener.fileno())],
        stdin=subprocess.PIPE,  # closed when this process ends
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # read when torch is imported
        pass_fds=[listener.fileno()],
    )
    listener.close()
    return folder


def serve(listener: socket.socket) -> None:
    """Answer until stdin is closed."""
    import open_clip  # noqa: F401

    from vidprompt.pipeline.stages import (  # noqa: F401
        backbone,
        evaluate,
        features,
        frames,
        manifest,
        report,
        splits,
        train,
        unpack,
        validate,
    )

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        if listener in ready:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _run(connection)
            connection.close()


def _run(connection: socket.socket) -> None:
    """In a fork: the command line as the client was called."""
    streams = array.array("i")
    size, ancillary, *_ = connection.recvmsg(8, socket.CMSG_LEN(3 * streams.itemsize))
    streams.frombytes(ancillary[0][2])
    request = connection.makefile("rb").read(int.from_bytes(size, "big"))
    sys.argv, folder, environment = json.loads(request)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    code = 70
    try:
        from vidprompt.cli.main import main

        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        import atexit

        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(str(code).encode())
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
