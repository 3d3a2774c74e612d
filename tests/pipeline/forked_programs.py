"""A `vidprompt` and a `dvc` for tests that start in milliseconds: forked from a process with the imports.

A pipeline of forty stages imports torch, Great Expectations and others forty times, three to eight seconds
each; a flow starts `dvc` ten times, a second each. `scripts(program)` is a folder for PATH with a program
that hands its arguments, environment, folder and standard streams to such a process, which forks, runs the
command line in the fork and answers with the exit status. Signals do not reach the fork: where they matter,
use the installed program.
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
from collections import OrderedDict
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TextIO

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
def scripts(program: str = "vidprompt") -> Path:
    """The folder with the program to use (one of PROGRAMS); its server ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="forked-"))
    address = str(folder / "socket")
    script = folder / program
    script.write_text(CLIENT.format(python=sys.executable, address=address))
    script.chmod(0o755)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    subprocess.Popen(
        [sys.executable, "-m", __name__, program, str(listener.fileno())],
        stdin=subprocess.PIPE,  # closed when this process ends
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # read when torch is imported
        pass_fds=[listener.fileno()],
    )
    listener.close()
    return folder


def _vidprompt() -> Callable[[], object]:
    import open_clip  # noqa: F401
    import scipy.special  # noqa: F401

    from vidprompt.cli.main import main
    from vidprompt.config.compose import compose
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

    compose([])  # imports Hydra
    return main


def _dvc() -> Callable[[], object]:
    """It writes dvc.lock after each stage, all of it: without keeping comments, of which it has none."""
    import dvc.repo  # noqa: F401
    from dvc import dvcfile
    from dvc.cli import main
    from dvc.utils.serialize._common import _modify_data
    from dvc.utils.serialize._yaml import parse_yaml

    dvcfile.modify_yaml = partial(_modify_data, parser=parse_yaml, dumper=_dump_yaml)
    return main


def _dump_yaml(data: object, stream: TextIO) -> None:
    """As DVC does, four times faster."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.Representer.add_representer(OrderedDict, yaml.Representer.represent_dict)
    yaml.dump(data, stream)


PROGRAMS = {"vidprompt": _vidprompt, "dvc": _dvc}


def serve(program: str, listener: socket.socket) -> None:
    """Answer until stdin is closed."""
    main = PROGRAMS[program]()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        if listener in ready:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _run(main, connection)
            connection.close()


def _run(main: Callable[[], object], connection: socket.socket) -> None:
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
        code = int(main() or 0)  # type: ignore[call-overload]
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
    serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
