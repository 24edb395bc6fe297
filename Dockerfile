# One image for every process: the command picks it, for example `mediabus service`.

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/mediabus
ENV PATH=/opt/mediabus/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# What it depends on changes less often than it does itself: a layer of its own.
COPY pyproject.toml requirements.lock ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > dependencies \
    && pip install --constraint requirements.lock --requirement dependencies
COPY README.md LICENSE ./
COPY schemas schemas
COPY service service
COPY consumers consumers
RUN pip install --constraint requirements.lock .

FROM python:3.13-slim
COPY --from=build /opt/mediabus /opt/mediabus
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
