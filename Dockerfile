# syntax=docker/dockerfile:1
# authtap in a small image without a shell's help: no package is installed, the user is not root.
# What of this was tried, and how: docs/deployment.md, "The container image".

FROM rust:1-bookworm AS builder
WORKDIR /src
COPY . .
# release, quick (optimised, builds faster) or dev.
ARG PROFILE=release
# Both caches outlive a change of the sources, so that only authtap itself is built again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --bin authtap --profile "$PROFILE" \
    && case "$PROFILE" in dev) built=debug ;; *) built=$PROFILE ;; esac \
    && install -D "target/$built/authtap" /out/authtap \
    && install -d /out/data

FROM debian:bookworm-slim
COPY --from=builder /out/authtap /usr/local/bin/authtap
COPY --from=builder --chown=65532:65532 /out/data /var/lib/authtap
COPY LICENSE /usr/share/doc/authtap/LICENSE
USER 65532:65532
WORKDIR /var/lib/authtap
# What must outlive the container: mount a volume here.
ENV AUTHTAP_DATA=/var/lib/authtap
EXPOSE 8080
# The admin listener is on loopback inside the container; AUTHTAP_ADMIN moves both it and this check.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/usr/local/bin/authtap", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/authtap"]
CMD ["run", "--config", "/etc/authtap/routes.yaml"]
