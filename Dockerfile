# docker build -t alexnet .                            # with CUDA; needs the NVIDIA container toolkit
# docker build -t alexnet --build-arg VARIANT=cpu .    # smaller, for machines without a GPU
# docker run --rm --gpus all --shm-size 2g -v "$PWD:/work" alexnet demo
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

ARG VARIANT=gpu
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    ALEXNET_CACHE=/cache

WORKDIR /opt/alexnet
COPY pyproject.toml README.md LICENSE ./
COPY alexnet_cli alexnet_cli
# pyproject.toml bounds the versions.
# hadolint ignore=DL3013
RUN if [ "$VARIANT" = cpu ]; then \
        pip install --index-url https://download.pytorch.org/whl/cpu torch torchvision; \
    fi \
    && pip install ".[all]" \
    && if [ "$VARIANT" != cpu ]; then \
        pip uninstall -y onnxruntime && pip install onnxruntime-gpu; \
    fi

# Nothing runs as root: files made in a mounted folder belong to this user, or to --user UID:GID.
RUN useradd --create-home --uid 1000 --user-group alexnet \
    && mkdir -p /work /cache \
    && chmod 1777 /work /cache
USER 1000:1000
WORKDIR /work
VOLUME ["/work", "/cache"]

ENTRYPOINT ["alexnet"]
CMD ["--help"]
