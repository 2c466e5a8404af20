# SPDX-License-Identifier: Apache-2.0
"""The command line `acmgctl`. Options in, exit code out; what a command does is elsewhere and imported when it is called."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from acmgproxy.ctl.cluster import Where
    from acmgproxy.ctl.origins import Asked

__all__ = ["app", "main"]


def _version() -> str:
    from acmgproxy.release import release  # noqa: PLC0415 - see the module's docstring

    return release()


def _check_duration(_type: Any, text: str) -> None:
    if _seconds(text) <= 0:
        raise ValueError("expected a time such as 5m or 90s")


def _seconds(text: str) -> float:
    from routing.resources import Duration  # noqa: PLC0415 - see the module's docstring

    return float(Duration.parse(text))


app = App(
    name="acmgctl", help="Installs acmgproxy in a cluster, and hands Services to its gateways and back.", version=_version,
    version_flags=["--version"],
)  # fmt: skip
_manifest = App(name="manifest", help="Show what would be installed, without a cluster.")
app.command(_manifest)
_config = App(name="config", help="Show the configuration that gateways have.")
app.command(_config)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which cluster.

    Args:
        kubeconfig: File with clusters and credentials; kubectl's choice unless given.
        context: One of its contexts; the current one unless given.
    """

    kubeconfig: Path | None = None
    context: str | None = None

    def where(self) -> Where:
        """Return what commands take."""
        from acmgproxy.ctl.cluster import Where  # noqa: PLC0415 - see the module's docstring

        return Where(kubeconfig=self.kubeconfig, context=self.context)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a configuration comes from; a gateway of the cluster, or else the cluster's objects, unless it is said.

    Args:
        config: A file or directory of YAML and JSON files, or `-` for standard input.
        kubernetes: Read the objects of the cluster; ask no gateway.
        gateway: URL of the admin server of a gateway, such as http://127.0.0.1:15000.
    """

    config: Annotated[str, Parameter(allow_leading_hyphen=True, show_default=False)] = ""
    kubernetes: Annotated[bool, Parameter(negative="")] = False
    gateway: Annotated[str, Parameter(show_default=False)] = ""

    def of(self, cluster: Cluster) -> Asked:
        """Return what commands take."""
        from acmgproxy.ctl.origins import Asked  # noqa: PLC0415 - see the module's docstring

        return Asked(config=self.config, kubernetes=self.kubernetes, gateway=self.gateway, where=cluster.where())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is shown; all of it unless something is said.

    Args:
        service: Of this Service: NAME, NAMESPACE/NAME or its full name, each with :PORT if you like.
        namespace: Of the Services of this namespace.
        port: Of this Service port.
        host: Of what answers to this Host.
    """

    service: Annotated[str, Parameter(show_default=False)] = ""
    namespace: Annotated[str, Parameter(name=["--namespace", "-n"], show_default=False)] = ""
    port: Annotated[int, Parameter(show_default=False)] = 0
    host: Annotated[str, Parameter(show_default=False)] = ""


_HERE = Cluster()
_LIVE = Source()
_ALL = Wanted()

Assignments = Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)]
Timeout = Annotated[str, Parameter(validator=_check_duration)]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="")]
Flag = Annotated[bool, Parameter(negative="")]
NamespaceOption = Annotated[str, Parameter(name=["--namespace", "-n"], show_default=False)]


@app.command
def install(
    *,
    set_: Assignments = (),
    dry_run: Flag = False,
    timeout: Timeout = "5m",
    yes: Yes = False,
    cluster: Cluster = _HERE,
) -> int:
    """Install acmgproxy, or bring an installation to these values and this release. A second time it changes nothing.

    The exit code is 0 once gateways and controller run, 1 if they do not, 2 if nothing could be done.

    Args:
        set_: A value, KEY=VALUE; may be given several times. `profile=acmg` (default) is for a cluster with nodes for gateways,
            `profile=demo` for a small one; `acmgctl manifest values` lists all keys.
        dry_run: Let the API server check everything and change nothing.
        timeout: How long gateways and controller are waited for.
        yes: Do not ask.
        cluster: Which cluster.
    """
    from acmgproxy.ctl.install import InstallOptions, run_install  # noqa: PLC0415 - see the module's docstring

    return run_install(
        InstallOptions(where=cluster.where(), assignments=set_, dry_run=dry_run, timeout_s=_seconds(timeout), yes=yes)
    )


@app.command
def uninstall(
    *, purge: Flag = False, timeout: Timeout = "5m", linger: Timeout = "15s", yes: Yes = False, cluster: Cluster = _HERE
) -> int:
    """Release every captured Service, make sure that traffic is direct, then delete acmgproxy.

    Labels on Services and Namespaces stay. If it is interrupted, run it again. The exit code is 1 if a Service could not be
    released; nothing of acmgproxy is deleted then.

    Args:
        purge: Also delete the namespace acmg-system, and the definitions of Istio's kinds that acmgproxy brought and that no
            object uses.
        timeout: How long releasing may take.
        linger: How long gateways go on listening after the API server leads nobody to them, since nodes follow late.
        yes: Do not ask.
        cluster: Which cluster.
    """
    from acmgproxy.ctl.uninstall import UninstallOptions, run_uninstall  # noqa: PLC0415 - see the module's docstring

    return run_uninstall(
        UninstallOptions(where=cluster.where(), purge=purge, timeout_s=_seconds(timeout), linger_s=_seconds(linger), yes=yes)
    )


@_manifest.command
def generate(*, set_: Assignments = ()) -> int:
    """Print the objects as YAML, for `kubectl apply --server-side -f -` or a repository.

    Args:
        set_: A value, KEY=VALUE; may be given several times.
    """
    from acmgproxy.ctl.manifest import run_generate  # noqa: PLC0415 - see the module's docstring

    return run_generate(set_)


@_manifest.command
def values() -> int:
    """List what --set takes, with defaults."""
    from acmgproxy.ctl.manifest import run_values  # noqa: PLC0415 - see the module's docstring

    return run_values()


@app.command
def capture(
    *names: str, namespace: NamespaceOption = "", wait: bool = True, timeout: Timeout = "1m", cluster: Cluster = _HERE
) -> int:
    """Lead the traffic of Services through the gateways, and wait until it goes there.

    What is not HTTP by name or appProtocol stays direct. The exit code is 1 if a Service cannot be captured, or is not in time.

    Args:
        names: SERVICE or NAMESPACE/SERVICE; none for every Service of the namespace given with -n, later ones included.
        namespace: Namespace of the Services.
        wait: Wait until it is done.
        timeout: How long.
        cluster: Which cluster.
    """
    return _capture("run_capture", names, namespace, wait, timeout, cluster)


@app.command
def release(
    *names: str, namespace: NamespaceOption = "", wait: bool = True, timeout: Timeout = "1m", cluster: Cluster = _HERE
) -> int:
    """Lead the traffic of Services directly to their pods again, and wait until it goes there.

    Args:
        names: SERVICE or NAMESPACE/SERVICE; none for the whole namespace given with -n.
        namespace: Namespace of the Services.
        wait: Wait until it is done.
        timeout: How long.
        cluster: Which cluster.
    """
    return _capture("run_release", names, namespace, wait, timeout, cluster)


def _capture(command: str, names: tuple[str, ...], namespace: str, wait: bool, timeout: str, cluster: Cluster) -> int:
    from acmgproxy.ctl import capture as module  # noqa: PLC0415 - see the module's docstring

    run = {"run_capture": module.run_capture, "run_release": module.run_release}[command]
    options = module.CaptureOptions(
        where=cluster.where(), names=names, namespace=namespace, wait=wait, timeout_s=_seconds(timeout)
    )
    return run(options)


@app.command
def status(
    *,
    output: Annotated[Literal["table", "json", "yaml"], Parameter(name=["--output", "-o"])] = "table",
    namespace: NamespaceOption = "",
    cluster: Cluster = _HERE,
) -> int:
    """Show gateways, controller, captured Services, and why others that ask are not captured.

    The exit code is 1 if something needs looking at; the lines that begin with `!` say what.

    Args:
        output: `table` for people, `json` and `yaml` for programs.
        namespace: Show the Services of this namespace only.
        cluster: Which cluster.
    """
    from acmgproxy.ctl.status import StatusOptions, run_status  # noqa: PLC0415 - see the module's docstring

    return run_status(StatusOptions(where=cluster.where(), namespace=namespace, output=output))


@app.command
def version(
    *, output: Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"])] = "text", cluster: Cluster = _HERE
) -> int:
    """Print the version of this command, and of what runs in the cluster if there is one.

    Args:
        output: `text` for people, `json` for programs.
        cluster: Which cluster.
    """
    from acmgproxy.ctl.versions import run_version  # noqa: PLC0415 - see the module's docstring

    return run_version(cluster.where(), as_json=output == "json")


@app.command
def analyze(
    path: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    /,
    *,
    kubernetes: Flag = False,
    output: Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"])] = "text",
    cluster: Cluster = _HERE,
) -> int:
    """Say what is wrong with Kubernetes and Istio objects, or means something else here, before a gateway gets them.

    The exit code is 1 if there are errors: objects that would be refused, or whose rules cannot be carried out.

    Args:
        path: A file or directory of YAML and JSON files, or `-` for standard input.
        kubernetes: Read the objects of a cluster instead.
        output: `text` for people, `json` for programs.
        cluster: Which cluster.
    """
    if bool(path) == kubernetes:
        print("say what to read: a path, or --kubernetes for the cluster", file=sys.stderr)
        return 2
    from acmgproxy.ctl.analyze import run_analyze, run_analyze_cluster  # noqa: PLC0415 - see the module's docstring

    if kubernetes:
        return run_analyze_cluster(cluster.where(), as_json=output == "json")
    return run_analyze(path, as_json=output == "json")


@app.command
def route(
    method: str,
    url: str = "",
    /,
    *,
    header: Annotated[tuple[str, ...], Parameter(name=["--header", "-H"], negative="", show_default=False)] = (),
    from_: Annotated[str, Parameter(name="--from", show_default=False)] = "",
    to: Annotated[str, Parameter(show_default=False)] = "",
    output: Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"])] = "text",
    source: Source = _LIVE,
    cluster: Cluster = _HERE,
) -> int:
    """Say what happens to a request, and why: listener, host, VirtualService, rule, match, cluster, endpoints.

    The exit code is 0 if it goes to an endpoint, 1 if the gateway answers by itself, 2 if there is no telling.

    Args:
        method: Method of the request; may be left out: GET.
        url: Where a client sends it, such as http://reviews.default:9080/x.
        header: A header, 'name: value'; may be given several times.
        from_: Who sends it: NAMESPACE/POD, NAMESPACE/WORKLOAD, NAMESPACE or an address; without it an unknown caller.
        to: The Service that the client connects to, SERVICE:PORT, if it is not the URL's host.
        output: `text` for people, `json` for programs.
        source: Where the configuration comes from.
        cluster: Which cluster.
    """
    from acmgproxy.asking import Question  # noqa: PLC0415 - see the module's docstring
    from acmgproxy.ctl.route import run_route  # noqa: PLC0415 - see the module's docstring

    method, url = (method, url) if url else ("GET", method)
    return run_route(source.of(cluster), Question(url=url, method=method, headers=header, source=from_, to=to), output)


OutputOption = Annotated[Literal["table", "json", "yaml"], Parameter(name=["--output", "-o"])]


@_config.command
def listeners(*, output: OutputOption = "table", wanted: Wanted = _ALL, source: Source = _LIVE, cluster: Cluster = _HERE) -> int:
    """List where gateways listen, and for which Service port.

    Args:
        output: `table` for people, `json` and `yaml` for programs.
        wanted: What is shown.
        source: Where the configuration comes from.
        cluster: Which cluster.
    """
    return _show_config("listeners", output, wanted, source, cluster)


@_config.command
def routes(*, output: OutputOption = "table", wanted: Wanted = _ALL, source: Source = _LIVE, cluster: Cluster = _HERE) -> int:
    """List the rules of each host, in the order in which they are tried.

    Args:
        output: `table` for people, `json` and `yaml` for programs.
        wanted: What is shown.
        source: Where the configuration comes from.
        cluster: Which cluster.
    """
    return _show_config("routes", output, wanted, source, cluster)


@_config.command
def clusters(*, output: OutputOption = "table", wanted: Wanted = _ALL, source: Source = _LIVE, cluster: Cluster = _HERE) -> int:
    """List destinations: Service ports and their subsets, with what DestinationRules make of them.

    Args:
        output: `table` for people, `json` and `yaml` for programs.
        wanted: What is shown.
        source: Where the configuration comes from.
        cluster: Which cluster.
    """
    return _show_config("clusters", output, wanted, source, cluster)


@_config.command
def endpoints(*, output: OutputOption = "table", wanted: Wanted = _ALL, source: Source = _LIVE, cluster: Cluster = _HERE) -> int:
    """List the endpoints of each destination.

    Args:
        output: `table` for people, `json` and `yaml` for programs.
        wanted: What is shown.
        source: Where the configuration comes from.
        cluster: Which cluster.
    """
    return _show_config("endpoints", output, wanted, source, cluster)


def _show_config(kind: str, output: Literal["table", "json", "yaml"], wanted: Wanted, source: Source, cluster: Cluster) -> int:
    from acmgproxy.ctl.configuration import Filter, run_config  # noqa: PLC0415 - see the module's docstring

    chosen = Filter(service=wanted.service, namespace=wanted.namespace, port=wanted.port, host=wanted.host)
    return run_config(kind, source.of(cluster), chosen, output)


@app.command
def top(
    *,
    gateway: Annotated[tuple[str, ...], Parameter(name="--gateway", negative="", show_default=False)] = (),
    namespace: NamespaceOption = "",
    window: Timeout = "1m",
    once: Flag = False,
    output: Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"])] = "table",
    cluster: Cluster = _HERE,
) -> int:
    """Show requests, errors, latency and ejections of each Service, over all gateways together, until Ctrl-C.

    Figures are those that Prometheus computes over the same time; quantiles are of the gateways' histograms added up.

    Args:
        gateway: URL of a gateway's admin server; may be given several times. Without it all gateways of the cluster are asked.
        namespace: Show the Services of this namespace only.
        window: The time that figures are about, at most 5m.
        once: Print once and end, as is done without a terminal.
        output: `table` for people, `json` for programs (once).
        cluster: Which cluster.
    """
    if _seconds(window) > 300 or _seconds(window) < 1:
        print("--window is 1s to 5m: gateways remember no more", file=sys.stderr)
        return 2
    from acmgproxy.ctl.top import TopOptions, run_top  # noqa: PLC0415 - see the module's docstring

    return run_top(
        TopOptions(
            where=cluster.where(), gateways=gateway, namespace=namespace, window_s=_seconds(window), once=once, output=output
        )
    )


@app.command
def log(
    *,
    access_log: Annotated[str | None, Parameter(allow_leading_hyphen=True, show_default=False)] = None,
    format_: Annotated[Literal["text", "json"] | None, Parameter(name="--format", show_default=False)] = None,
    min_status: Annotated[int | None, Parameter(show_default=False)] = None,
    slower_than: Annotated[str | None, Parameter(show_default=False)] = None,
    sample: Annotated[float | None, Parameter(show_default=False)] = None,
    level: Annotated[Literal["debug", "info", "warning", "error"] | None, Parameter(show_default=False)] = None,
    gateway: Annotated[tuple[str, ...], Parameter(name="--gateway", negative="", show_default=False)] = (),
    output: Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"])] = "table",
    cluster: Cluster = _HERE,
) -> int:
    """Show how running gateways log, or change it until they end. What is not named stays as it is.

    The exit code is 1 if a gateway or one of its workers did not follow.

    Args:
        access_log: Where requests are logged: `off`, `-` for standard output, or the path of a file in the gateway's pod.
        format_: `text` (Istio's line) or `json`.
        min_status: Log requests with at least this status; 0 for no such condition.
        slower_than: Log requests that took longer, such as 500ms; 0 for no such condition. Of two conditions one is enough.
        sample: Fraction of the other requests that is logged, 0 to 1; -1 for all without conditions, none with.
        level: From which level on the gateways' processes write lines.
        gateway: URL of a gateway's admin server; may be given several times. Without it all gateways of the cluster are asked.
        output: `table` for people, `json` for programs.
        cluster: Which cluster.
    """
    from acmgproxy.ctl.logs import LogOptions, run_log  # noqa: PLC0415 - see the module's docstring

    try:
        slower_than_s = None if slower_than is None else _seconds(slower_than)
    except ValueError as error:
        print(f"--slower-than: {error}", file=sys.stderr)
        return 2
    options = LogOptions(
        where=cluster.where(), gateways=gateway, access_log=access_log, format=format_, min_status=min_status,
        slower_than_s=slower_than_s, sample=sample, level=level, as_json=output == "json",
    )  # fmt: skip
    return run_log(options)


@app.command(name="bug-report")
def bug_report(
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], show_default=False)] = None,
    gateway: Annotated[str, Parameter(show_default=False)] = "",
    cluster: Cluster = _HERE,
) -> int:
    """Gather what is needed to find out what is wrong in one archive: versions, state, objects, Events, metrics, logs, findings.

    Secrets are left out: objects of kind Secret are never read; values of environments, foreign annotations, and whatever belongs
    to a name such as `authorization` or `token` are replaced; access logs are not included. Look through it all the same.

    Args:
        output: The archive; `acmg-bug-report-TIME.tar.gz` in the present directory unless given.
        gateway: URL of a gateway's admin server, to ask it alone and no cluster.
        cluster: Which cluster.
    """
    from acmgproxy.ctl.bug_report import BugReportOptions, run_bug_report  # noqa: PLC0415 - see the module's docstring

    return run_bug_report(BugReportOptions(where=cluster.where(), output=output, gateway=gateway))


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print what makes a shell complete commands and options: `source <(acmgctl completion bash)`.

    Args:
        shell: Which shell.
    """
    from acmgproxy.ctl.completion import run_completion  # noqa: PLC0415 - see the module's docstring

    return run_completion(app, shell)


def main() -> None:
    """Run the command line; exits with the command's code."""
    try:
        app(sys.argv[1:])
    except KeyboardInterrupt:  # before a command has begun
        sys.exit(130)


if __name__ == "__main__":
    main()
