# The two commands of the project, and what measures it. Everything they need
# is set up on the way, and again in seconds when nothing changed.
BUILD ?= build

.DEFAULT_GOAL := build
.PHONY: demo test test-full bench bench-peers build setup format check-format clean

setup:
	@scripts/setup

build: setup
	@scripts/build $(BUILD)

demo: build
	@scripts/demo $(BUILD)

test: build
	@scripts/test $(BUILD)

test-full: build
	@scripts/test $(BUILD) --full

bench: build
	@scripts/bench $(BUILD)

bench-peers: build
	@scripts/bench $(BUILD) --peers

format:
	@scripts/format

check-format:
	@scripts/format --check

clean:
	rm -rf $(BUILD) .cache
