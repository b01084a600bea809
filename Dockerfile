# Builds an image that holds the plugin and the node agent, the libraries that they are linked with and their licences,
# and nothing else: no shell, no package manager.
#
#   docker build --build-arg GIT_COMMIT="$(git rev-parse --short=12 HEAD)" -t gpu-device-plugin:0.1.0 .
#
# For the GPU Operator, which starts the plugin by a shell script, the same with a shell:
#
#   docker build --target operator --build-arg GIT_COMMIT="$(git rev-parse --short=12 HEAD)" -t gpu-device-plugin:0.1.0 .

FROM rust:1.95-bookworm AS build
WORKDIR /src
RUN apt-get update \
    && apt-get install --yes --no-install-recommends busybox-static=1:1.35.0-* \
    && rm -rf /var/lib/apt/lists/*
COPY . .
# What --version prints. The build context has no .git to ask.
ARG GIT_COMMIT=""
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package gpu-device-plugin --bin gpu-device-plugin \
    && cargo build --release --locked --package gpu-node-agent --bin gpu-node-agent \
    && image/build-hook target/hook-program \
    && image/assemble target/release/gpu-device-plugin target/release/gpu-node-agent target/hook-program /out/plugin \
    && image/assemble --shell /out/shell

# NVML is loaded at run time and is a glibc library, so a static binary would not do: glibc comes with it, from the
# Debian that the plugin was built on.
FROM scratch AS plugin
ARG GIT_COMMIT=""
LABEL org.opencontainers.image.title="gpu-device-plugin" \
      org.opencontainers.image.description="A Kubernetes device plugin for NVIDIA GPUs that keeps its device list true" \
      org.opencontainers.image.source="https://example.com/gpu-device-plugin" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${GIT_COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Where NVIDIA's container runtime starts this image, it brings the GPUs and NVML into the container by these; the MPS
# control program is among what `compute` brings.
ENV PATH=/usr/bin \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# One heap for the few threads that there are, which hardly ever want memory at the same time. With one each glibc keeps
# more than it gives back, and more with every restart of the kubelet.
ENV MALLOC_ARENA_MAX=1
COPY --from=build /out/plugin/ /
# The plugin stays root: the kubelet's directory and the GPUs' device files are root's.
ENTRYPOINT ["/usr/bin/gpu-device-plugin"]

FROM plugin AS operator
COPY --from=build /out/shell/ /

# What is built without --target.
FROM plugin
