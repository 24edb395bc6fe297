# One image for all processes: the command selects one, for example `mediabus service`.

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

FROM ${PYTHON} AS install
ENV PATH=/opt/mediabus/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/mediabus
# Dependencies change less often than mediabus, so they get a separate layer.
COPY locks/run.txt /tmp/run.txt
RUN pip install --no-deps --require-hashes --requirement /tmp/run.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl

FROM ${PYTHON}
COPY --from=install /opt/mediabus /opt/mediabus
COPY --chmod=755 deploy/entrypoint.sh /usr/local/bin/mediabus-entrypoint
ENV PATH=/opt/mediabus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PUID=1000 \
    PGID=1000 \
    MEDIABUS_HTTP_HOST=0.0.0.0 \
    MEDIABUS_HTTP_PORT=8321
EXPOSE 8321
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m --start-interval=1s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['MEDIABUS_HTTP_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["mediabus-entrypoint"]
CMD ["mediabus", "--help"]
