# A web server and a client for the compose file. Not part of the product.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl ethtool iproute2 nginx-light \
    && rm -rf /var/lib/apt/lists/*
COPY docker/peer.sh /usr/local/bin/peer.sh
ENTRYPOINT ["/usr/local/bin/peer.sh"]
