# SPDX-License-Identifier: Apache-2.0
#
# make docker.acmg HUB=registry.example.com/mesh TAG=0.1.0
#
# Everything that is installed is pinned by hash. The base image is pinned by tag, which its publisher renews with security updates;
# for a build that is the same every time, look up its digest and give it:
#
#   docker pull python:3.13-slim-trixie && docker inspect --format '{{index .RepoDigests 0}}' python:3.13-slim-trixie
#   make docker.acmg HUB=... TAG=... ARGS="--build-arg PYTHON_IMAGE=python@sha256:..."

ARG PYTHON_IMAGE=python:3.13-slim-trixie

# The builder makes one virtual environment, from pinned and hashed wheels only: nothing is compiled.
FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN python -m venv /build && /build/bin/pip install --require-hashes --only-binary :all: --requirement requirements/build.txt \
 && python -m venv --without-pip /opt/acmgproxy \
 && /build/bin/pip --python /opt/acmgproxy/bin/python install --require-hashes --only-binary :all: --requirement requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY acmgproxy acmgproxy
COPY routing routing
COPY discovery discovery
COPY deploy deploy
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
 && /build/bin/pip --python /opt/acmgproxy/bin/python install --no-index --no-deps dist/*.whl \
 && /opt/acmgproxy/bin/python -m compileall -q -j 0 /opt/acmgproxy/lib

# The image is Python and that environment: no build tools, no package manager, and nothing that the user may write to.
FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 65532 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin acmgproxy \
 && pip uninstall --yes --quiet --root-user-action ignore pip
COPY --from=builder /opt/acmgproxy /opt/acmgproxy
ENV PATH=/opt/acmgproxy/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /
# Shared HTTP listener; health, metrics and configuration.
EXPOSE 15080 15021
# Kubernetes uses its own probes (/healthz, /ready); this one is for `docker run`.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
  CMD ["python", "-c", "import sys, urllib.request as u; sys.exit(u.urlopen('http://127.0.0.1:15021/healthz', timeout=2).status != 200)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["acmgproxy"]
CMD ["run", "--config", "/etc/acmgproxy", "--admin", "0.0.0.0:15021"]
# Last, because they are different in every build.
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="acmgproxy" \
      org.opencontainers.image.description="Centralized mesh gateway for plain-HTTP east-west traffic in Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
