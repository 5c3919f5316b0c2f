# One image for every process: `prepaid serve`, `prepaid worker`, `prepaid migrate`.

FROM python:3.13-slim AS build
RUN python -m venv --without-pip /opt/prepaid
COPY requirements/runtime.txt /tmp/runtime.txt
# Locked versions with hashes, and wheels alone: nothing is compiled, so no compiler is needed.
RUN pip --python /opt/prepaid/bin/python install --no-cache-dir --disable-pip-version-check \
    --require-hashes --only-binary :all: -r /tmp/runtime.txt
# The same entry that `pip install` would make, without a build tool whose version is not locked.
RUN printf '#!/opt/prepaid/bin/python\nfrom cli.app import main\n\nmain()\n' > /opt/prepaid/bin/prepaid \
    && chmod 755 /opt/prepaid/bin/prepaid

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --shell /usr/sbin/nologin prepaid
COPY --from=build /opt/prepaid /opt/prepaid
COPY LICENSE /app/
COPY api /app/api
COPY cli /app/cli
COPY migrations /app/migrations
COPY sandbox /app/sandbox
COPY shared /app/shared
COPY webhooks /app/webhooks
COPY worker /app/worker
ENV PATH=/opt/prepaid/bin:$PATH \
    PYTHONPATH=/app \
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
