# The broker alone: a static program, the certificates of public authorities, and a directory for its data.
#
#     docker build -t dunlin .
#     docker run -p 127.0.0.1:1883:1883 -v dunlin:/var/lib/dunlin dunlin serve --allow-anonymous
#
# The Go toolchain takes the version from the checkout, so .git is part of the build context. Where it is not a whole repository,
# as in a worktree or a submodule: --build-arg GOFLAGS=-buildvcs=false.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH GOFLAGS
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -o /out/dunlin ./cmd/dunlin
# A volume takes over the owner of the directory it is mounted on.
RUN mkdir -p /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/dunlin /usr/local/bin/dunlin
COPY --from=build --chown=65532:65532 /out/data /var/lib/dunlin
USER 65532:65532

# Inside a container 127.0.0.1 is the container: clients come to these addresses. Serve refuses them until --allow-anonymous says
# that anybody may connect. As variables they hold for "dunlin health" too.
ENV DUNLIN_STORAGE__DATA_DIR=/var/lib/dunlin \
    DUNLIN_LISTENERS__MQTT=0.0.0.0:1883 \
    DUNLIN_LISTENERS__WS=0.0.0.0:8083

VOLUME /var/lib/dunlin
# MQTT, MQTT over WebSocket, and NATS, which listens outside of the container only with --nats-listen 0.0.0.0:4222.
EXPOSE 1883 8083 4222
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["/usr/local/bin/dunlin", "health"]
ENTRYPOINT ["/usr/local/bin/dunlin"]
CMD ["serve"]
