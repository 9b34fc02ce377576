# One face for people and for CI. Each target installs the system packages it needs and lacks.

CARGO ?= cargo
# Tests make network namespaces and load XDP programs: as root, or through sudo.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$(PATH)")
RUN_AS_ROOT := $(if $(SUDO),CARGO_TARGET_$(shell uname -m | tr a-z A-Z)_UNKNOWN_LINUX_GNU_RUNNER='$(SUDO)')

.PHONY: demo test soak-sim soak-network soak-tcp bench bench-stack lint build

# Two namespaces, the engine in one, ping and datagrams from the other, a short comparison.
demo:
	deploy/setup.sh demo
	$(CARGO) build --release --locked -p barewire -p barewire-bench
	$(SUDO) deploy/demo.sh target/release

# Everything that CI checks.
test: lint
	deploy/setup.sh test
	$(CARGO) build --locked --workspace --bins
	$(CARGO) build --locked --release -p barewire-tests --bin stack_cost --bin tcp_cost
	$(RUN_AS_ROOT) $(CARGO) test --locked --workspace
	$(CARGO) run --locked -p barewire --example in_memory

# Many seeds of both simulations, from FIRST_SEED on: 100 of TCP take a second on two cores.
SEEDS ?= 100000
FIRST_SEED ?= 2000
soak-sim:
	SEEDS=$(SEEDS) FIRST_SEED=$(FIRST_SEED) $(CARGO) test --locked -p barewire-tests --test tcp_simulator seeds -- --nocapture
	SEEDS=$(SEEDS) $(CARGO) test --locked -p barewire-tests --test simulator seeds -- --nocapture

# More packets than `make test` has time for: random ones as a flood, and odd ones to the engine and to Linux, whose
# answers may then differ in ways that tests/differential.md does not name yet.
soak-network:
	deploy/setup.sh test
	FLOOD=1000000 $(RUN_AS_ROOT) $(CARGO) test --locked -p barewire-tests --test attacks -- --nocapture
	CASES=100000 $(RUN_AS_ROOT) $(CARGO) test --locked -p barewire-tests --test differential -- --nocapture

# Longer streams than `make test` has time for, every byte compared: 1 GiB each way between the engine and Linux, then
# 64 MiB each way over wires with faults, of which a loss of 1 % at 20 ms leaves some 0.5 MB a second. Seven minutes on
# two cores.
STREAM_BYTES ?= 1073741824
IMPAIRED_BYTES ?= 67108864
soak-tcp:
	deploy/setup.sh test
	BAREWIRE_TCP_BYTES=$(STREAM_BYTES) $(RUN_AS_ROOT) $(CARGO) test --locked -p barewire-tests --test tcp_linux -- linux_streams every_byte --nocapture
	BAREWIRE_TCP_BYTES=$(IMPAIRED_BYTES) $(RUN_AS_ROOT) $(CARGO) test --locked -p barewire-tests --test tcp_impaired -- --nocapture

# The figures that the README shows, in under ten minutes: a result and a page of it.
bench:
	deploy/setup.sh demo
	$(CARGO) build --release --locked -p barewire -p barewire-bench -p barewire-peer-smoltcp
	$(SUDO) target/release/barewire-bench headline --json bench/results/headline.json --html bench/results/headline.html

# What a request and its response cost our TCP, and smoltcp, without a kernel.
bench-stack:
	deploy/setup.sh build
	$(CARGO) build --release --locked -p barewire-alone
	target/release/stack_alone

lint:
	deploy/setup.sh build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p barewire --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items -p barewire -p barewire-ebpf

build:
	deploy/setup.sh build
	$(CARGO) build --release --locked
