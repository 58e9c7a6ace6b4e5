# `nlp-meta serve` on CPUs. TORCH_INDEX is the address of CPU builds that PyTorch's page on
# installing names; without it the build takes gigabytes more.
#
#   docker build --build-arg TORCH_INDEX=... --tag nlp-meta .
#   docker run --rm --publish 8000:8000 --env NLP_META_SERVE_TOKEN=... \
#       --volume "$PWD/models:/models:ro" nlp-meta /models/real_estate
FROM python:3.12-slim AS build
ARG TORCH_INDEX=
WORKDIR /source
COPY . .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt \
        ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[serve]'

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 serving
COPY --from=build /opt/venv /opt/venv
USER 1000
WORKDIR /home/serving
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=3)"]
ENTRYPOINT ["nlp-meta", "serve", "--host", "0.0.0.0", "--port", "8000"]
