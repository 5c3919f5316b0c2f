# One image for every process: `prepaid serve`, `prepaid worker`, `prepaid migrate`.

FROM python:3.13-slim AS build
RUN python -m venv --without-pip /opt/prepaid
COPY requirements/build.txt requirements/runtime.txt /tmp/
# Locked versions with hashes, and wheels alone: nothing is compiled, so no compiler is needed.
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
    --require-hashes --only-binary :all: -r /tmp/build.txt
RUN pip --python /opt/prepaid/bin/python install --no-cache-dir --disable-pip-version-check \
    --require-hashes --only-binary :all: -r /tmp/runtime.txt
# The same wheel that a test builds, installs and starts.
WORKDIR /src
COPY LICENSE README.md pyproject.toml ./
COPY requirements/runtime.in requirements/
COPY api api
COPY cli cli
COPY console console
COPY migrations migrations
COPY shared shared
COPY webhooks webhooks
COPY worker worker
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-index --no-build-isolation \
    --wheel-dir /tmp/wheel . \
    && pip --python /opt/prepaid/bin/python install --no-cache-dir --disable-pip-version-check \
    --no-deps --no-index /tmp/wheel/prepaid-*.whl

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --shell /usr/sbin/nologin prepaid
COPY --from=build /opt/prepaid /opt/prepaid
ENV PATH=/opt/prepaid/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000
WORKDIR /app
USER prepaid
EXPOSE 8000
# For the web process. A worker has its own port, PREPAID_WORKER_PORT: see docker-compose.yml.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=3)"]
CMD ["prepaid", "serve"]
