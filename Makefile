# Everything a developer types. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help demo up test check deny compose-test

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run Switchboard with a simulated provider and a phone in the browser
	cargo run -- demo

up: ## the same with RabbitMQ and Redis, in containers
	docker compose up --build

test: ## run every test, with private RabbitMQ and Redis servers and the providers' own SDKs
	scripts/test-servers run scripts/sdk-venv cargo test --workspace --locked

check: deny ## format, lints, documentation, dependencies, scripts and the walls between the crates
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
	scripts/check-tools shellcheck && shellcheck $$(git grep -lE '^#!.*\bbash$$')
	cargo test --locked -p tests --test tidy

deny: ## licences, sources and known weaknesses of all dependencies
	scripts/check-tools cargo-deny
	cargo deny --log-level error check bans licenses sources
	@if cargo deny --log-level error fetch db; then cargo deny --log-level error check advisories; \
	else echo "make deny: the advisory database is out of reach, known weaknesses were NOT checked"; fi

compose-test: ## build the image and text with the containers
	scripts/compose-test
