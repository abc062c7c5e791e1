# A server of runs: docker build -t widemax . && docker run --read-only -v ./run:/run:ro -p 8000:8000 widemax /run
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY . /source
# The torch of PyPI brings gigabytes of libraries for GPUs, which a server on a CPU has no use for.
RUN python -m venv /widemax && /widemax/bin/pip install --no-cache-dir --constraint /source/constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu torch /source /source/native

FROM python:${PYTHON}-slim
COPY --from=build /widemax /widemax
ENV PYTHONDONTWRITEBYTECODE=1 WIDEMAX_CACHE=/tmp/widemax OMP_WAIT_POLICY=PASSIVE
USER 65534:65534
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --start-period=60s CMD ["/widemax/bin/python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
ENTRYPOINT ["/widemax/bin/widemax", "serve", "--host", "0.0.0.0"]
