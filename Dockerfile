# One image, several commands: `polybus run` (the gateway), `polybus simulate`, and the rest of the command line.
#
#   docker build -t polybus:0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Two builds of the same commit give the same layers if the builder sets the times of files: `docker buildx build
# --output type=image,rewrite-timestamp=true` with SOURCE_DATE_EPOCH, or `buildah build --timestamp 0`.

# Pin a digest where you release.  Both stages must use the same one: the environment points to its interpreter.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# For a network with a certificate authority of its own: a path that is mounted while building.
ARG SSL_CERT_FILE
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_CERT=${SSL_CERT_FILE} SOURCE_DATE_EPOCH=315532800
WORKDIR /src

# What builds stays in this stage; what runs gets an environment without even pip.
COPY requirements-build.lock requirements-run.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r requirements-build.lock \
    && python -m venv --without-pip /opt/polybus

# Dependencies before code: this layer changes only with the lock.
RUN /opt/build/bin/pip wheel --require-hashes --no-build-isolation --no-deps \
        --wheel-dir /wheels/dependencies -r requirements-run.lock \
    && /opt/build/bin/pip --python /opt/polybus/bin/python install --no-index --no-deps /wheels/dependencies/*.whl

COPY LICENSE README.md pyproject.toml ./
COPY protocol protocol
COPY actors actors
COPY services services
# Compiled here, because the file system is read-only later, and checked by nothing: times would differ each build.
RUN /opt/build/bin/pip wheel --no-index --no-build-isolation --no-deps --wheel-dir /wheels/polybus . \
    && /opt/build/bin/pip --python /opt/polybus/bin/python install --no-index --no-deps /wheels/polybus/*.whl \
    && /opt/polybus/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/polybus/lib

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1980-01-01T00:00:00Z
LABEL org.opencontainers.image.title="polybus" \
      org.opencontainers.image.description="Polymarket's real-time feeds on NATS" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
ENV PATH=/opt/polybus/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/polybus /opt/polybus
# A polybus.toml that is mounted here is read without being named.
WORKDIR /etc/polybus
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 9464
STOPSIGNAL SIGTERM
# No HEALTHCHECK: Kubernetes ignores it and the OCI format has none; probes are in deploy/, compose.yaml has its own.
ENTRYPOINT ["polybus"]
CMD ["run"]
