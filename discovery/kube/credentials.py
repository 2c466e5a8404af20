# SPDX-License-Identifier: Apache-2.0
"""Credentials: which cluster, and as whom; kept fresh for as long as the process runs.

kubernetes-asyncio's loaders know the formats: a pod's service account, and kubeconfig files with tokens, token files, client
certificates, exec plugins and OIDC. What they leave open is decided here:

- *When to look again.* Every minute, on the monotonic clock: a token file is read again (the kubelet renews it), an exec plugin
  is asked again if its credential runs out in less than five minutes. One that does not say when it ends holds until refused. A
  kubeconfig that has been written anew is loaded anew: a server whose certificate nobody trusts can refuse no credential.
- *What a refusal means.* Everything is loaded anew, the file included, but not more often than every `RELOAD_S`: a plugin may
  ask a person or a remote service.
- *What a failure means.* Nothing at first: what there was is kept, the server decides whether it still holds.

No request is made here; errors are texts for people.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from discovery.kube import _library

if TYPE_CHECKING:
    from collections.abc import Callable

    from discovery.kube._library import Library

__all__ = ["ConfigError", "Credentials", "Identity"]

REFRESH_S = 60.0
"""client-go reads token files this often; kubelets renew a token when a fifth of its hour or more is left."""

RELOAD_S = 10.0
"""client-go keeps answers of exec plugins for at least this long after a refusal."""

PLUGIN_TIMEOUT_S = 60.0
"""An exec plugin may show a browser window; one that never ends must not stop everything."""

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ConfigError(Exception):
    """There is no usable configuration for reaching a cluster; the text is for people."""


class Identity(NamedTuple):
    """What a session is made from; when it changes, so must the session.

    Args:
        server: base address, without a slash at the end.
        files: certificates and keys, with the time and size of each.
        verify: whether the server's certificate is checked.
        server_name: name to expect in it, "" for the server's.
        proxy: address of a proxy, "" for none.
    """

    server: str
    files: tuple[tuple[str, int, int], ...]
    verify: bool
    server_name: str
    proxy: str


class Credentials:
    """Loads configuration and keeps it fresh.

    Args:
        kubeconfig: file to use; None for the pod's service account if there is one, else the usual file.
        context: of the kubeconfig; None for its current one.
        clock: monotonic seconds.
    """

    def __init__(
        self, *, kubeconfig: Path | None = None, context: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._clock = clock
        self._library: Library = _library.load()
        self._in_cluster = kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ
        self._loader: Any = None
        self._loaded_from: tuple[tuple[str, int, int], ...] = ()
        self._loading = asyncio.Lock()
        self._fresh_until = 0.0
        self._reloaded_at = float("-inf")
        self.configuration: Any = None
        self.namespace = "default"
        self.problem = ""
        """Why the last attempt to refresh failed, "" if it did not."""

    def __repr__(self) -> str:
        where = "in cluster" if self._in_cluster else self._path
        return f"<Credentials {where} {self.identity.server if self.configuration else 'not loaded'}>"

    @property
    def library(self) -> Library:
        """kubernetes-asyncio."""
        return self._library

    @property
    def authorization(self) -> str:
        """Value of the header field, "" for none."""
        return str(self.configuration.api_key.get("BearerToken") or "").strip()  # files end with a line break

    @property
    def identity(self) -> Identity:
        """What a session is made from, as it is now."""
        found = self.configuration
        files = (found.ssl_ca_cert, found.cert_file, found.key_file)
        return Identity(
            server=str(found.host).rstrip("/"),
            files=tuple(_state(str(file)) for file in files if file),
            verify=bool(found.verify_ssl),
            server_name=str(found.tls_server_name or ""),
            proxy=str(found.proxy or ""),
        )

    @property
    def _path(self) -> str:
        return str(self._kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")

    def _sources(self) -> tuple[tuple[str, int, int], ...]:
        """The kubeconfig files as they lie there now; the files of a pod are read every time."""
        return () if self._in_cluster else tuple(_state(str(file)) for file in _files(self._path))

    async def load(self) -> None:
        """Load everything for the first time, or anew.

        Raises:
            ConfigError: It cannot be used.
        """
        configuration = self._library.configuration()
        # Certificates of many clusters lack extensions that Python 3.13 and later ask for and Go, so kubectl, does not.
        configuration.disable_strict_ssl_verification = True
        configuration.host = ""
        loaded_from = self._sources()
        if self._in_cluster:
            loader, namespace = await self._load_account(configuration)
        else:
            loader, namespace = await self._load_file(configuration)
        if not configuration.host:
            raise ConfigError(f"{self._path}: the cluster of the context names no server; add it as `server`")
        self._loader, self.configuration, self.namespace = loader, configuration, namespace
        self._loaded_from = loaded_from
        self._fresh_until = self._clock() + REFRESH_S
        self.problem = ""

    async def refresh(self) -> None:
        """Look for newer credentials if it is time to. Never raises for what is found: what there was is kept."""
        if self._clock() < self._fresh_until:
            return
        async with self._loading:
            if self._clock() < self._fresh_until:
                return
            self._fresh_until = self._clock() + REFRESH_S
            try:
                await self._refresh()
            except Exception as error:  # a plugin or library may fail in any way
                self.problem = _reason(error)
            else:
                self.problem = ""

    async def refused(self, authorization: str) -> bool:
        """Take note that the server refused credentials; return whether there are others to try.

        Args:
            authorization: what was refused.
        """
        async with self._loading:
            if self.authorization == authorization and self._clock() - self._reloaded_at >= RELOAD_S:
                self._reloaded_at = self._clock()
                try:
                    await self.load()
                except ConfigError as error:
                    self.problem = str(error)
            return self.authorization != authorization

    async def _refresh(self) -> None:
        if self._in_cluster:
            self._loader.load_and_set(self.configuration)
        elif self._sources() != self._loaded_from:
            await self.load()  # written anew: the server, its authority and everything else may be another
        elif not self._has_endless_plugin():
            async with asyncio.timeout(PLUGIN_TIMEOUT_S):
                await self._loader.load_and_set(self.configuration)

    def _has_endless_plugin(self) -> bool:
        """Whether an exec plugin gave a credential without an end, so that asking again would start it every time."""
        user = self._loader._user  # noqa: SLF001 - the library has no other way to tell; its own refresh_token does the same
        return user is not None and "exec" in user and not hasattr(self._loader, "exec_plugin_expiry")

    async def _load_account(self, configuration: Any) -> tuple[Any, str]:
        """Use the service account of the pod this runs in."""
        module = self._library.config.incluster_config
        loader = module.InClusterConfigLoader(
            token_filename=str(_ACCOUNT / "token"), cert_filename=str(_ACCOUNT / "ca.crt"), try_refresh_token=False
        )
        try:
            loader.load_and_set(configuration)
            space = _ACCOUNT / "namespace"
            return loader, space.read_text().strip() if space.is_file() else "default"
        except (self._library.config.ConfigException, OSError, ValueError) as error:
            reason = f"this looks like a pod (KUBERNETES_SERVICE_HOST is set), but its service account cannot be used: {error}"
            raise ConfigError(f"{reason}; set automountServiceAccountToken: true, or pass a kubeconfig") from error

    async def _load_file(self, configuration: Any) -> tuple[Any, str]:
        """Use a kubeconfig."""
        files = _files(self._path)
        if not files:
            raise ConfigError(self._nothing_there())
        try:
            async with asyncio.timeout(PLUGIN_TIMEOUT_S):
                loader = await self._library.config.load_kube_config(
                    config_file=self._path,
                    context=self._context,
                    client_configuration=configuration,
                    persist_config=all(os.access(file, os.W_OK) for file in files),  # renewed OIDC tokens can be used once
                )
            return loader, str(loader.current_context["context"].get("namespace") or "default")
        except TimeoutError as error:
            raise ConfigError(f"{self._path}: the credential plugin did not answer within {PLUGIN_TIMEOUT_S:g} s") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{self._path}: is no YAML: {' '.join(str(error).split())}") from error
        except Exception as error:  # the library checks little: malformed files end in TypeError, AttributeError and others
            raise ConfigError(f"{self._path}: {self._context_hint() or _reason(error)}") from error

    def _context_hint(self) -> str:
        """Tell which contexts there are, if the one asked for is not among them."""
        try:
            contexts, current = self._library.config.list_kube_config_contexts(self._path)
            names = [str(context["name"]) for context in contexts]
        except Exception:  # the first error says more
            return ""
        if self._context is None or self._context in names:
            return ""
        return f"there is no context {self._context!r}; there are {', '.join(names)} (current: {current['name']})"

    def _nothing_there(self) -> str:
        if self._kubeconfig is not None:
            return f"{self._kubeconfig}: there is no such file; pass the path of a kubeconfig"
        inside = "" if "KUBERNETES_SERVICE_HOST" in os.environ else "this is no pod (KUBERNETES_SERVICE_HOST is not set) and "
        return f"no way to reach a cluster: {inside}{self._path} does not exist; pass --kubeconfig or set KUBECONFIG"


def _files(path: str) -> list[Path]:
    """Return those files of a KUBECONFIG path that exist."""
    found = [Path(part).expanduser() for part in path.split(os.pathsep) if part]
    return [file for file in found if file.is_file()]


def _state(file: str) -> tuple[str, int, int]:
    try:
        found = Path(file).stat()
    except OSError:
        return file, 0, 0
    return file, found.st_mtime_ns, found.st_size


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = str(error)
    return (
        text
        if text and not isinstance(error, (KeyError, AttributeError, TypeError, AssertionError))
        else "is no valid kubeconfig"
    )
