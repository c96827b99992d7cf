# One static binary in an otherwise empty image: no shell, no package, no C library to patch.
# The version is that of rust-toolchain.toml; the tidy test compares.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
# Linked statically, glibc (2.34 and later) still resolves names through DNS and /etc/hosts by itself.
ENV RUSTFLAGS="-C target-feature=+crt-static"
# `release`, or `dev` for a quick build.
ARG PROFILE=release

# The dependencies make a layer of their own, with empty crates, so that a change of our code does not build them again.
COPY Cargo.toml Cargo.lock ./
COPY bench/Cargo.toml bench/
COPY cli/Cargo.toml cli/
COPY common/broker/Cargo.toml common/broker/
COPY common/config/Cargo.toml common/config/
COPY common/embedded/Cargo.toml common/embedded/
COPY common/integration/Cargo.toml common/integration/
COPY common/message/Cargo.toml common/message/
COPY common/operations/Cargo.toml common/operations/
COPY common/ports/Cargo.toml common/ports/
COPY common/providers/Cargo.toml common/providers/
COPY common/secret/Cargo.toml common/secret/
COPY common/store/Cargo.toml common/store/
COPY common/work/Cargo.toml common/work/
COPY ingress/Cargo.toml ingress/
COPY sender/Cargo.toml sender/
COPY simulator/Cargo.toml simulator/
COPY tests/Cargo.toml tests/
COPY worker/Cargo.toml worker/
# Build scripts and procedural macros cannot be static: naming the target keeps the flag from them.
RUN mkdir .cargo && rustc -vV | sed -n 's/^host: \(.*\)/[build]\ntarget = "\1"/p' > .cargo/config.toml \
 && for crate in */ common/*/; do [ -f "$crate/Cargo.toml" ] || continue \
 && mkdir "$crate/src" "$crate/benches" && touch "$crate/src/lib.rs" \
 && sed -n '/^\[\[bench]]/{n;s|name = "\(.*\)"|'"$crate"'benches/\1.rs|p}' "$crate/Cargo.toml" | xargs -r touch; done \
 && rm cli/src/lib.rs && echo 'fn main() {}' > cli/src/main.rs \
 && cargo build --locked --bin switchboard --profile "$PROFILE"

COPY . .
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
 && cargo build --locked --bin switchboard --profile "$PROFILE" \
 && install -D target/*/*/switchboard /image/switchboard \
 && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
 && mkdir /data

FROM scratch
COPY --from=build /image /
# The default `data_dir`, for embedded files and the spool; the configuration is expected at /switchboard.toml.
COPY --from=build --chown=65532:65532 /data /data
VOLUME /data
USER 65532:65532
ENTRYPOINT ["/switchboard"]
