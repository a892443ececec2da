#!/bin/sh
# Publishes a file, each of its lines a message: all of them or none.
#
#     printf '{"id":%d,"total":9.5}\n' 1 2 3 > orders.ndjson
#     examples/publish-orders.sh orders.ndjson
set -eu

# Anything but 0 ends the script, with that status: 2 when a line is not JSON, 4 when the broker has not confirmed them.
npx publish /queue/orders --lines --transaction --file "$1" --header source=shop

# Every line is confirmed: another run must not publish them again.
mv "$1" "$1.published"
