# The deciding process. It needs no DPDK to run; it is built beside the dataplane so that both always
# come from one commit. Built from the root of the tree:
#   docker build -f docker/control.Dockerfile -t millrace-control .

FROM rust:1.95-bookworm AS build
WORKDIR /src
ENV IMAGE=1
COPY docker/build.sh docker/build.sh
RUN docker/build.sh build-packages
COPY . .
RUN OUT=/out docker/build.sh binaries

FROM debian:bookworm-slim
COPY --from=build /out/millrace-control /out/millrace /usr/local/bin/
COPY docker/entrypoint.sh /usr/local/bin/entrypoint.sh
VOLUME /run/millrace
# Prometheus metrics, see [metrics] in the configuration.
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/entrypoint.sh", "control"]
