# The program in one image. CPU by default; `--build-arg TORCH=cuda` for a GPU host.
FROM python:3.11-slim-bookworm
ARG TORCH=cpu
ENV UV_COMPILE_BYTECODE=1 PYTHONUNBUFFERED=1 WETREAD_HOME=/data WETREAD_LOG_FORMAT=json
RUN apt-get update && apt-get install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home --uid 10001 wetread \
    && mkdir /data /opt/wetread && chown wetread /data /opt/wetread
WORKDIR /opt/wetread
USER wetread
COPY --chown=wetread pyproject.toml constraints.txt Makefile README.md LICENSE ./
COPY --chown=wetread app app
COPY --chown=wetread medmllm medmllm
COPY --chown=wetread rag rag
COPY --chown=wetread expert_models expert_models
COPY --chown=wetread dicom_io dicom_io
RUN make setup PYTHON=python3 TORCH=${TORCH}
VOLUME /data
ENTRYPOINT ["/opt/wetread/.venv/bin/wetread"]
CMD ["doctor"]
