# `make check` is what CI runs, in the same words.
CARGO ?= cargo

.PHONY: check fmt clippy test examples guard deny advisories demo image shipped

check: fmt clippy test examples deny

fmt:
	$(CARGO) fmt --check

clippy:
	$(CARGO) clippy --locked --all-targets -- -D warnings

test:
	$(CARGO) test --locked

# Each configuration that is shipped, through the program itself; a warning is an error here.
examples:
	@for file in $$(grep -L '^# needs:' examples/*/routes.yaml); do $(CARGO) run -q --locked -- check --strict $$file || exit 1; done
	$(CARGO) run -q --locked -- demo --drive > /dev/null

# Allocations counted, not timed: none for a request that no route is about. Needs glibc's libmemusage.so.
guard:
	$(CARGO) bench --locked --bench alloc_guard

# Licences, banned crates, sources. Fetches what the lock file names: a build leaves out what only a
# feature or another system needs, and nothing is left out here.
deny:
	@if command -v cargo-deny > /dev/null; then $(CARGO) fetch --quiet --locked && cargo-deny --offline check bans licenses sources; \
	else echo "cargo-deny is not installed: licences are not checked" >&2; fi

# Known vulnerabilities; fetches the advisory database.
advisories:
	cargo-deny check advisories

demo:
	$(CARGO) run --release -- demo

# The release with a profile of a training load: two builds and a minute.
shipped:
	scripts/release.sh

image:
	docker build -t authtap:0.1.0 .
