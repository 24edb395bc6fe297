# Two images. The default, all-in-one, runs everything with servers of its own, and keeps it in /config:
#   docker build --tag mediabus . && docker run --volume ./config:/config --publish 8321:8321 mediabus
# The other, processes, is for compose.yaml and clusters. The command selects a process: `mediabus service`.

# Images are pinned by tag and digest, packages by hash: a build uses what was tested, or fails.
# docs/operations.md (Supply chain) describes how to update both.

ARG PYTHON=python:3.13.15-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON} AS wheel
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY locks/build.txt locks/
RUN pip install --no-deps --require-hashes --requirement locks/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY mediabus mediabus
COPY schemas schemas
COPY runtime runtime
COPY service service
COPY consumers consumers
RUN hatchling build --target wheel --directory /wheel

FROM ${PYTHON} AS environment
ENV PATH=/opt/mediabus/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/mediabus

# Dependencies change less often than mediabus, so they get a separate layer.
FROM environment AS install-processes
COPY locks/run.txt /tmp/run.txt
RUN pip install --no-deps --require-hashes --requirement /tmp/run.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl

FROM environment AS install-all-in-one
COPY locks/home.txt /tmp/home.txt
RUN pip install --no-deps --require-hashes --requirement /tmp/home.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl

FROM ${PYTHON} AS base
ENV PATH=/opt/mediabus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PUID=1000 \
    PGID=1000 \
    MEDIABUS_HTTP_HOST=0.0.0.0 \
    MEDIABUS_HTTP_PORT=8321
EXPOSE 8321
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m --start-interval=1s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['MEDIABUS_HTTP_PORT'] + '/readyz', timeout=4)"]

# Started as root, both entry points switch to PUID and PGID, so there is no USER.
FROM base AS processes
COPY --from=install-processes /opt/mediabus /opt/mediabus
COPY --chmod=755 deploy/entrypoint.sh /usr/local/bin/mediabus-entrypoint
ENTRYPOINT ["mediabus-entrypoint"]
CMD ["mediabus", "--help"]

FROM base AS all-in-one
COPY --from=install-all-in-one /opt/mediabus /opt/mediabus
COPY --chmod=755 deploy/all-in-one.sh /usr/local/bin/mediabus-entrypoint
# PostgreSQL requires a user with a name. The entry point adds others if PUID or PGID differ.
RUN groupadd --gid 1000 mediabus \
    && useradd --uid 1000 --gid 1000 --home-dir /config --no-create-home --shell /usr/sbin/nologin mediabus \
    && install --directory --owner=mediabus --group=mediabus --mode=700 /config
ENV UMASK=077 \
    MEDIABUS_DATA_DIR=/config
VOLUME /config
STOPSIGNAL SIGTERM
ENTRYPOINT ["mediabus-entrypoint"]
CMD ["mediabus", "up"]
