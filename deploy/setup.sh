#!/bin/sh
# Installs the Debian packages that the given target needs and that are missing: setup.sh build|demo|test
#
# Asks dpkg first, so that a machine that has everything is not touched and needs neither root nor network.
set -eu

# clang builds the XDP program; libbpf-dev has its headers. The C libraries and m4 are for the libxdp
# that the xsk-rs driver links; libclang is what its bindings are generated with.
build="clang llvm libclang-dev libbpf-dev libelf-dev zlib1g-dev m4 make gcc libc6-dev pkg-config git"
# What the network namespaces are made of and looked at with.
network="iproute2 ethtool iputils-ping netcat-openbsd procps util-linux"
# What only tests use: the instruction counter, a second opinion about packets, and clients of TCP that others
# wrote (socat streams, nmap scans, and its nping connects). Whoever looks at a network, and whoever attacks one:
# 250 KiB and 530 KiB to fetch. The browser looks at the pages of the load generator.
checks="valgrind tcpdump iputils-arping bpftool libcap2-bin curl socat nmap"
checks="$checks ndisc6 traceroute iputils-tracepath mtr-tiny"
checks="$checks thc-ipv6 t50 chromium"

case "${1:-}" in
build) packages=$build ;;
demo) packages="$build $network" ;;
test) packages="$build $network $checks" ;;
*) echo "usage: $0 build|demo|test" >&2; exit 2 ;;
esac

missing=
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "setup: this is not a Debian system; please install what corresponds to:$missing" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: missing packages, and neither root nor sudo to install them. As root: apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
echo "setup: installing$missing"
$as_root apt-get update -q
# shellcheck disable=SC2086  # the list is meant to be split
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
