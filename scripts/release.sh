#!/usr/bin/env bash
# Builds the release as it is meant to be shipped: with what a training load has taught the compiler
# (profile-guided optimisation). `cargo build --release` makes the same program, a tenth slower.
#
#   scripts/release.sh [FEATURES OF cargo build ...]      target/shipped/release/authtap
#
# Takes two release builds and a minute of load. Needs python3, openssl and `rustup component add llvm-tools`.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
[ -x "$profdata" ] || { echo "llvm-profdata is missing: rustup component add llvm-tools" >&2; exit 2; }
target=${CARGO_TARGET_DIR:-target}/shipped
profiles=$target/profiles
rm -rf "$profiles"
mkdir -p "$profiles"
profiles=$(cd "$profiles" && pwd)
# With a target named, build scripts and macros are built without the flags.
build() { CARGO_TARGET_DIR=$target cargo build --locked --release --target "$host" --bin authtap "${@:2}" --config "build.rustflags=[$1]"; }
echo "1 of 3: a build that counts what it does" >&2
build "'-Cprofile-generate=$profiles'" "$@"
echo "2 of 3: the training load" >&2
python3 bench/train.py --authtap "$target/$host/release/authtap" --start "$target/start.profraw"
"$profdata" merge -o "$profiles/merged.profdata" "$profiles"/*.profraw
"$profdata" merge -o "$target/start.profdata" "$target/start.profraw"
for part in "$target/start" "$profiles/merged"; do "$profdata" show --all-functions --counts "$part.profdata" >"$part.txt"; done
scripts/order.py "$target/start.txt" "$profiles/merged.txt" >"$target/order.txt"
order=$(cd "$target" && pwd)/order.txt
echo "3 of 3: the build that knows" >&2
# Packed, what is adapted to where it is loaded takes a megabyte less (glibc 2.36 or newer).
link="'-Clink-arg=-Wl,-z,pack-relative-relocs'"
# Where Rust links with lld by itself: what the start needs stands together, three megabytes less are resident.
case $host in x86_64-unknown-linux-gnu) link="$link,'-Clink-arg=-Wl,--symbol-ordering-file=$order','-Clink-arg=-Wl,--no-warn-symbol-ordering'" ;; esac
# What is outside of the hottest code is to be fast too: made small, it is copied by slow instructions.
fast="'-Cllvm-args=-pgso=false'"
build "'-Cprofile-use=$profiles/merged.profdata',$fast,$link" "$@"
mkdir -p "$target/release"
cp "$target/$host/release/authtap" "$target/release/authtap"
echo "$target/release/authtap"
