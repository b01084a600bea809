# Builds an image that holds the plugin and the libraries that it is linked with, and nothing else: no shell, no
# package manager.
#
#   docker build --build-arg GIT_COMMIT="$(git rev-parse --short=12 HEAD)" -t gpu-device-plugin:0.1.0 .

# The same Debian as the final image: a binary needs a glibc that is not older than the one it was built with.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# What --version prints. The build context has no .git to ask.
ARG GIT_COMMIT=""
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package gpu-device-plugin --bin gpu-device-plugin \
    && install -D target/release/gpu-device-plugin /out/usr/bin/gpu-device-plugin \
    # Manifests that were written for NVIDIA's plugin name its command.
    && ln -s gpu-device-plugin /out/usr/bin/nvidia-device-plugin

# glibc and libgcc_s. NVML is loaded at run time and is a glibc library, so a static binary would not do.
# The image has moving tags alone, none of them a version.
# hadolint ignore=DL3006
FROM gcr.io/distroless/cc-debian12
ARG GIT_COMMIT=""
LABEL org.opencontainers.image.title="gpu-device-plugin" \
      org.opencontainers.image.description="A Kubernetes device plugin for NVIDIA GPUs that keeps its device list true" \
      org.opencontainers.image.source="https://example.com/gpu-device-plugin" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${GIT_COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Where NVIDIA's container runtime starts this image, it brings the GPUs and NVML into the container by these.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=utility
# One heap for the few threads that there are, which hardly ever want memory at the same time. With one each glibc keeps
# more than it gives back, and more with every restart of the kubelet.
ENV MALLOC_ARENA_MAX=1
COPY --from=build /out/ /
# It stays root: the kubelet's directory and the GPUs' device files are root's.
ENTRYPOINT ["/usr/bin/gpu-device-plugin"]
