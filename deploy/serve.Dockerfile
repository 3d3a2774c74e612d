# A service: `vidprompt serve` on the model in /model/current (docs/deploying.md).
#   docker build -f deploy/serve.Dockerfile -t vidprompt-serve .
#   (--build-arg VERSION=X.Y.Z: what `vidprompt.__version__` says; the build has no git)
FROM python:3.11-slim AS wheel
ARG VERSION=0.0.0
WORKDIR /source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
RUN SETUPTOOLS_SCM_PRETEND_VERSION="$VERSION" pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
COPY constraints.txt /wheels/
COPY --from=wheel /wheels /wheels
# uv takes torch and torchvision as a matched pair (CONTRIBUTING.md)
RUN pip install --no-cache-dir uv \
    && uv pip install --system --no-cache --compile-bytecode -c /wheels/constraints.txt \
       "vidprompt[serve,search] @ file://$(echo /wheels/vidprompt-*.whl)" \
    && rm -r /wheels \
    && useradd --system --uid 10001 --home-dir /tmp vidprompt
USER 10001
WORKDIR /tmp
ENV HOME=/tmp \
    DO_NOT_TRACK=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["vidprompt", "serve"]
# other machines reach it, so it wants a token
CMD ["/model/current", "--host", "0.0.0.0", "--port", "8000", "--token-file", "/run/secrets/token"]
