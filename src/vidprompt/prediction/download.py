"""Fetch a video from an address (http, https, s3) into a temporary file."""

from __future__ import annotations

import ipaddress
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from vidprompt.files.atomic import naming_full_disk
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.progress import Progress

MAX_MB = 4096
_CONNECT_S, _READ_S = 30, 60  # of a server that does not answer


@contextmanager
def downloaded(
    address: str, *, max_mb: int = MAX_MB, private: bool = False, quiet: bool = False
) -> Iterator[Path]:
    """The file of an address, for as long as the context lasts.

    At most `max_mb` megabytes are fetched. A redirect is followed to public addresses and to the host that
    was given, and elsewhere (this machine, a private network) only if `private`. Raises DataError.
    """
    with tempfile.TemporaryDirectory(prefix="vidprompt-") as folder:
        path = Path(folder) / (Path(urlsplit(address).path).name[-100:] or "video")
        with naming_full_disk(path), Progress("download", 0, unit="MB", quiet=quiet) as progress:
            try:
                _file_system(address, private).get_file(
                    address, str(path), callback=_callback(address, max_mb, progress)
                )
            except (UserError, MemoryError):
                raise
            except Exception as error:
                raise DataError(f"{address}: {_reason(error)}") from error
        if not path.is_file():
            raise DataError(f"{address}: it is no file")
        yield path


def _file_system(address: str, private: bool) -> Any:
    import fsspec

    scheme = urlsplit(address).scheme.lower()
    if scheme == "s3":
        return _s3(fsspec)
    if scheme not in ("http", "https"):
        raise DataError(f"{address}: addresses are http, https or s3")
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)

    async def client(**options: Any) -> Any:
        from aiohttp import ClientSession, TCPConnector

        guard = None if private else _Guard(address)
        connector = TCPConnector(socket_factory=guard) if guard else TCPConnector()
        return ClientSession(connector=connector, **options)

    # each address has its own guard: no file system of another one is taken again
    return fsspec.filesystem(
        scheme,
        skip_instance_cache=True,
        client_kwargs={"timeout": timeout, "trust_env": True},
        get_client=client,
    )


def _s3(fsspec: Any) -> Any:
    """S3 with the user's credentials, or anonymous where there are none."""
    try:
        import botocore.session

        anonymous = botocore.session.Session().get_credentials() is None
        return fsspec.filesystem("s3", anon=anonymous)
    except ImportError as error:
        raise UserError("s3:// needs the package s3fs: pip install 'vidprompt[s3]'") from error


class _Guard:
    """Opens sockets to public addresses, and to those of the host (and the proxies) that was named."""

    def __init__(self, address: str) -> None:
        hosts = [urlsplit(one).hostname for one in (address, *getproxies().values())]
        self._named = {ip for host in hosts if host for ip in _addresses(host)}

    def __call__(self, info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, where = info
        ip = ipaddress.ip_address(str(where[0]).partition("%")[0])
        mapped = getattr(ip, "ipv4_mapped", None) or ip
        if not mapped.is_global and str(ip) not in self._named:
            raise DataError(
                f"it redirects to {ip}, an address of this machine or of a private network: "
                "--private-addresses allows that"
            )
        return socket.socket(family, kind, protocol)


def _addresses(host: str) -> set[str]:
    try:
        return {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()


def _callback(address: str, max_mb: int, progress: Progress) -> Any:
    from fsspec.callbacks import Callback

    class Limited(Callback):
        """Shows the progress, and stops a file that is too large."""

        def set_size(self, size: int | None) -> None:
            super().set_size(size)
            if size:
                progress.total = -(-size // 2**20)
                self._check(size)

        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            done = -(-self.value // 2**20)
            progress.reach(done, max(done, progress.total))
            self._check(self.value)

        def _check(self, size: int) -> None:
            if size > max_mb << 20:
                raise DataError(
                    f"{address}: it is larger than {max_mb:,} MB: --max-download allows more"
                )

    return Limited()


def _reason(error: BaseException) -> str:
    """Why an address could not be read, in a phrase."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DataError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return f"access is denied ({error})"
    if status := getattr(error, "status", None):
        return f"the server answers {status} {getattr(error, 'message', '')}".rstrip()
    if isinstance(error, TimeoutError):
        return f"the server does not answer within {_READ_S} s"
    return f"it cannot be fetched: {str(error) or type(error).__name__}"
