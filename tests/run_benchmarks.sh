#!/usr/bin/env bash
# Summary: sets up what the benchmarks need and runs them; --help says what there is.
#
# Usage: ./tests/run_benchmarks.sh [--records N] [--scenario NAME...] [--against splink] [--json FILE]

set -Eeuo pipefail

here=$PWD
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=run_mdm_pipeline.sh
source ./run_mdm_pipeline.sh
set_up_venv core benchmark
cd -- "$here"
exec "$PYTHON" "$PROJECT/tests/benchmarks/run_benchmarks.py" "$@"
