# Everything a developer types. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help demo up test chaos bench bench-micro check deny compose-test

# Version 2 is a plug-in of docker; the one before it was a program of its own.
COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run Switchboard with a simulated provider and a phone in the browser
	cargo run -- demo

up: ## the same with RabbitMQ and Redis, in containers
	$(COMPOSE) up --build

test: ## run every test and each bench once, with private RabbitMQ and Redis servers and the providers' own SDKs
	scripts/sdk-venv
	@scripts/newer-rabbitmq install || echo "make test: what needs a newer RabbitMQ will NOT be tested"
	scripts/test-servers run cargo test --workspace --locked
	cargo test --workspace --locked --bench '*'

chaos: ## the whole fault suite: kill everything under traffic and count; options in CHAOS="--seed 7 --scenario kills"
	scripts/test-servers install
	cargo run --locked -p tests --bin chaos -- $(CHAOS)

bench-micro: ## criterion benches of the pure hot paths; one of them or options in MICRO="twilio --save-baseline before"
	cargo bench --locked -p message -p providers -p worker -p sender --bench '*' -- $(MICRO)

bench: ## measure against floors of the same run; scenarios and options in BENCH="ingress --rounds 9"
	scripts/test-servers install
	@scripts/newer-rabbitmq install || echo "make bench: several workers will NOT be measured"
	cargo build --release --locked -p cli -p bench
	TEST_RABBITMQ_MEMORY=4GiB scripts/test-servers run target/release/bench --date "$$(date -u +%F)" $(BENCH)

check: deny ## format, lints, documentation, dependencies, scripts and the walls between the crates
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --workspace --lib --bins --features cli/failpoints --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --locked
	@if scripts/check-tools shellcheck; then shellcheck $$(git grep -lE '^#!.*\bbash$$'); \
	else echo "make check: without shellcheck the scripts were NOT checked"; fi
	cargo test --locked -p tests --test tidy

deny: ## licences, sources and known weaknesses of all dependencies
	scripts/check-tools cargo-deny
	cargo deny --log-level error check bans licenses sources
	@if cargo deny --log-level error fetch db; then cargo deny --log-level error check advisories; \
	else echo "make deny: the advisory database is out of reach, known weaknesses were NOT checked"; fi

compose-test: ## build the image and text with the containers
	scripts/compose-test
