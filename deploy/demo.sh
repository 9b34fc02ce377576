#!/bin/sh
# Shows the engine at work on this machine, without any special NIC: demo.sh DIRECTORY-OF-BINARIES
#
# Makes two network namespaces joined by a veth pair, starts the engine in one, talks to it from the other
# with the kernel's own tools, compares it with the kernel, and removes everything again, also when it is
# interrupted. Nothing outside the two namespaces is touched. Needs root.
set -eu

binaries=$(cd "${1:?usage: $0 DIRECTORY-OF-BINARIES}" && pwd)
client=bw-demo-client-$$
server=bw-demo-server-$$
work=$(mktemp -d)
engine=

step() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }

clean_up() {
    status=$?
    trap - EXIT INT TERM HUP
    if [ -n "$engine" ] && kill "$engine" 2>/dev/null; then wait "$engine" 2>/dev/null || true; fi
    ip netns del "$client" 2>/dev/null || true
    ip netns del "$server" 2>/dev/null || true
    rm -rf "$work"
    [ "$status" -eq 0 ] || printf '\ndemo: stopped before its end (status %s); namespaces are removed\n' "$status" >&2
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

step "Two hosts on a wire: network namespaces $client and $server, joined by veth"
ip netns add "$client"
ip netns add "$server"
ip link add veth0 netns "$client" type veth peer name veth0 netns "$server"
ip -n "$client" address add 10.77.0.1/24 dev veth0
ip -n "$server" address add 10.77.0.3/24 dev veth0
for host in "$client" "$server"; do
    ip -n "$host" link set lo up
    ip -n "$host" link set veth0 up
done
echo "the client's kernel has 10.77.0.1, the server's kernel 10.77.0.3; 10.77.0.2 will be the engine's"

step "barewire echo --interface veth0 --address 10.77.0.2/24"
ip netns exec "$server" "$binaries/barewire" echo --interface veth0 --address 10.77.0.2/24 \
    >"$work/ready" 2>"$work/log" &
engine=$!
tries=0
until grep -q '^ready' "$work/ready"; do
    kill -0 "$engine" 2>/dev/null || { cat "$work/log" >&2; fail "the engine did not start"; }
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { cat "$work/log" >&2; fail "the engine is not ready after 10 s"; }
    sleep 0.1
done
cat "$work/ready"

step "ping the engine, and the kernel on the same interface"
ip netns exec "$client" ping -c 3 -i 0.2 10.77.0.2
ip netns exec "$client" ping -q -c 3 -i 0.2 10.77.0.3 | tail -n 3

step "A datagram to the echo port, by netcat"
answer=$(echo "hello over AF_XDP" | ip netns exec "$client" nc -u -w 1 10.77.0.2 7)
[ "$answer" = "hello over AF_XDP" ] || fail "no echo came back"
echo "sent and came back: $answer"

step "A connection to the echo port, by netcat"
answer=$(echo "hello over TCP" | ip netns exec "$client" nc -N -w 5 10.77.0.2 7)
[ "$answer" = "hello over TCP" ] || fail "nothing came back over the connection"
echo "sent and came back: $answer"

step "Ctrl-C for the engine: it detaches and leaves the interface as it was"
kill -INT "$engine"
wait "$engine" || fail "the engine ended with status $?"
engine=
ip -n "$server" link show dev veth0 | grep -q xdp && fail "an XDP program is still attached"
echo "exit status 0, no XDP program left"

step "A short comparison with the kernel's sockets (for the full one: make bench)"
"$binaries/barewire-bench" compare udp --quick
