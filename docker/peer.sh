#!/usr/bin/env bash
# A peer of the load balancer in a container: a web server that says its name, or a client.
#
#   peer.sh server NAME     answers every request with NAME
#   peer.sh client URL      asks once a second, for ever
set -euo pipefail

# The kernel leaves checksums to the card. A veth has none, and the dataplane's socket cannot tell a sum that is still
# to be computed from a wrong one.
ethtool -K eth0 tx off >/dev/null

case "${1:-}" in
    server)
        cat >/etc/nginx/nginx.conf <<CONF
daemon off;
events {}
http { server { listen 80; location / { return 200 "${2:?a name}\n"; } } }
CONF
        exec nginx
        ;;
    client)
        while true; do
            curl -sS --max-time 2 "${2:?an URL}" || true
            sleep 1
        done
        ;;
    *)
        echo "usage: $0 server NAME | client URL" >&2
        exit 2
        ;;
esac
