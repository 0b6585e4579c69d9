#!/bin/sh
# Builds the program and runs it; needs only Go.
#
#   ./run.sh                 the quickstart experiment
#   ./run.sh test            the tests
#   ./run.sh SPEC.yaml ...   run experiments
#   ./run.sh VERB ...        any verb of the program (./run.sh -h lists them)
set -e
root=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
CGO_ENABLED=0
export CGO_ENABLED
case "${1-}" in
test)
	shift
	cd "$root"
	exec go test "$@" ./...
	;;
esac
(cd "$root" && go build -o splitbench ./harness)
case "${1-}" in
"") cd "$root" && set -- run experiments/quickstart.yaml ;;
*.yaml) set -- run "$@" ;;
esac
exec "$root/splitbench" "$@"
