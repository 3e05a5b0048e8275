# The packet-processing process. Built from the root of the tree:
#   docker build -f docker/dataplane.Dockerfile -t millrace-dataplane .

FROM rust:1.95-bookworm AS build
WORKDIR /src
ENV IMAGE=1
# The packages come before the sources: a change of the code does not install them again.
COPY docker/build.sh docker/build.sh
RUN docker/build.sh build-packages
COPY . .
RUN OUT=/out docker/build.sh binaries

FROM debian:bookworm-slim
ENV IMAGE=1
COPY docker/build.sh /opt/millrace/docker/build.sh
RUN /opt/millrace/docker/build.sh runtime-packages
COPY --from=build /out/millrace-dataplane /out/millrace /usr/local/bin/
COPY docker/entrypoint.sh /usr/local/bin/entrypoint.sh
# The shared region: mount a volume that the control container has, too.
VOLUME /run/millrace
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/entrypoint.sh", "dataplane"]
