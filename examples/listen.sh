#!/bin/sh
# Follow one asset with nothing but the NATS command line (https://github.com/nats-io/natscli).
#
#     sh examples/listen.sh TOKEN_ID [COUNT]
#
# NATS is at $NATS_URL, else on this machine.  It prints lines of JSON: what the gateway answers, its own book of the
# asset, and events as they come; after COUNT of them, or Ctrl-C, it asks for the asset no longer.  A refusal goes to
# standard error, and is the end.
set -eu

asset=${1:?which asset? sh examples/listen.sh TOKEN_ID [COUNT]}
prefix=${POLYBUS_PREFIX:-polymarket.v1}
id=listen-sh-$$

# The command line takes a refusal for an answer like any other: the body tells.
ask() {
    answer=$(nats request --raw --timeout 15s "$prefix.control.$1" "$2")
    case $answer in
    '') echo "no answer from $prefix.control.$1: is a gateway running?" >&2 && return 1 ;;
    '{"error"'*) printf '%s\n' "$answer" >&2 && return 1 ;;
    *) printf '%s\n' "$answer" ;;
    esac
}

# First listen, then ask: NATS keeps nothing for those who listen later.
nats subscribe --raw ${2:+--count "$2"} "$prefix.market.*.$asset.>" &
listening=$!
trap 'kill "$listening" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

ask subscribe "{\"assets\": [\"$asset\"], \"id\": \"$id\", \"owner\": \"examples/listen.sh\", \"wait\": \"data\"}"
trap 'kill "$listening" 2>/dev/null || true; ask unsubscribe "{\"id\": \"$id\"}"' EXIT

# The listener may have been too late for the first book: this one holds all events up to its `epoch` and `seq`.
ask book "{\"asset\": \"$asset\", \"depth\": 3}"

wait "$listening"
