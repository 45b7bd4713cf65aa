# Two commands matter: `make demo` and `make test`. Both install what they need (as root, on Debian 12).
SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)
STANDIN := target/standin

.PHONY: demo test test-bazel lint lint-bazel unit e2e bench fuzz standin install build clean

## Provision the example cluster, and show what came out.
demo: install
	cargo build --release --package rootbuild
	tools/demo

## Every check and every test.
test: standin lint lint-bazel
	cargo test --workspace
	/usr/bin/python3 -B -m unittest discover -s playbooks/plugins/tests -t playbooks/plugins
	/usr/bin/python3 -B -m unittest discover -s tests/standin

## The Bazel rules alone; `make test` has them too.
test-bazel: install lint-bazel
	cargo test --workspace --test e2e bazel::

lint-bazel:
	@tools/install --bazel
	tools/buildifier

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

## The EL7-shaped repository that tests and (without the CentOS vault) the demo use.
standin: install
	/usr/bin/python3 -B tests/standin/generate.py $(STANDIN)
	/usr/bin/python3 -B tests/standin/generate.py --variants $(STANDIN)-variants --from $(STANDIN)

## Ratios against named peers, in the same run.
bench: standin
	@tools/install --bench
	cargo build --release --package rootbuild
	tests/bench/run

## Each fuzz target for so many seconds, on the stable toolchain: `make fuzz SECONDS=60 TARGETS="tar tree"`. See docs/fuzzing.md.
SECONDS := 600
TARGETS := $(sort $(notdir $(wildcard fuzz/corpus/*)))
fuzz:
	@tools/install --fuzz
	tools/fuzz $(SECONDS) $(TARGETS)

install:
	@tools/install

build:
	cargo build --release --package rootbuild

clean:
	cargo clean
