"""Run the service: its address, the token, the HTTP server and its end."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
from collections.abc import Collection, Sequence
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from vidprompt.index.search import Index
from vidprompt.prediction.loading import load
from vidprompt.prediction.model import Model
from vidprompt.serving.app import create_app
from vidprompt.serving.connections import LimitedConnection
from vidprompt.serving.limits import ServiceLimits
from vidprompt.serving.service import SearchIndex, Service
from vidprompt.system.errors import UserError

logger = logging.getLogger(__name__)

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
MIN_TOKEN = 16
_KEEP_ALIVE_S = 10
_GRACE_S = 60  # after SIGTERM, for what runs


def serve(
    model: str | Path,
    limits: ServiceLimits | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    insecure: bool = False,
    allow_hosts: Sequence[str] = (),
    index: Path | None = None,
    device: str = "auto",
    weights: Path | None = None,
    num_frames: int | None = None,
    page: bool = False,
) -> None:
    """Load a model and serve it until SIGTERM or Ctrl-C; what runs then is finished first.

    `host`: an address of this machine; those that others reach need a token, or `insecure`. `port` 0: a free
    one. `index`: a folder for /search. Raises UserError for a model, an index or an address that cannot be
    used, and for an address that would be open to all.
    """
    token = read_token(token_file) if token_file is not None else None
    check_open(host, token, insecure)
    with listen(host, port) as listener:  # a port that is taken is said before the model is loaded
        loaded = load(model, device, weights=weights, num_frames=num_frames)
        searched = open_index(index, loaded) if index is not None else None
        app = create_app(
            Service(loaded, limits, searched),
            token=token,
            hosts=answered(host, allow_hosts),
            page=page,
        )
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        what = "page" if page else "service"
        logger.info(f"{what} of {loaded.name}: http://{shown}:{address[1]} (Ctrl-C ends it)")
        run(app, listener)


def open_index(folder: Path, model: Model) -> SearchIndex:
    """An index for searches. Raises DataError where it is none, UserError for another model's."""
    return Index(folder, model)


def configuration(app: FastAPI) -> uvicorn.Config:
    """How uvicorn runs the application."""
    return uvicorn.Config(
        app,
        http=LimitedConnection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )


def run(app: FastAPI, listener: socket.socket) -> None:
    """Run an application on a socket that listens, until SIGTERM or Ctrl-C.

    Raises UserError where it does not start.
    """
    logging.getLogger("uvicorn").setLevel(
        logging.ERROR
    )  # not a line for each client that is no browser
    server = uvicorn.Server(configuration(app))
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises the signal again when all has ended
        logger.info("stopped")
    except SystemExit:
        raise UserError("the service did not start: the message above says why") from None


def read_token(file: Path) -> str:
    """The token in a file: one line. Raises UserError for none, and for one that is easily guessed."""
    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"{file}: the token cannot be read: {reason}") from error
    if len(token) < MIN_TOKEN or not token.isascii() or len(token.split()) != 1:
        raise UserError(
            f"{file}: a token is one line of at least {MIN_TOKEN} ASCII characters without blanks: "
            f"`openssl rand -hex 32 > {file}` makes one"
        )
    return token


def check_open(host: str, token: str | None, insecure: bool) -> None:
    """Raises UserError where others could use the server without a token."""
    if not is_local(host) and token is None and not insecure:
        raise UserError(
            f"--host {host} lets other machines use this server: give it a token (--token-file FILE), or say "
            "--insecure where only those can reach it that may"
        )


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def answered(host: str, allow_hosts: Sequence[str]) -> Collection[str] | None:
    """The names that requests may be for; None for all, which a server for others takes by default."""
    names = {name.lower() for name in allow_hosts}
    if is_local(host):
        return LOCAL_NAMES | names | {host}
    return names or None


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UserError, with what to do, where that does not work."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"--host {host}: it is no address of this machine ({error})") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if port and error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} is taken: choose another one with --port (0: a free one)"
            ) from error
        raise UserError(f"{host}:{port} cannot be used: {error.strerror}") from error
    listener.listen(128)
    listener.set_inheritable(False)
    return listener
