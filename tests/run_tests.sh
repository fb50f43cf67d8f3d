#!/usr/bin/env bash
# Summary: sets up what the tests need and runs them all.
#
# Usage: ./tests/run_tests.sh [PYTEST ARGUMENTS...]

set -Eeuo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=run_mdm_pipeline.sh
source ./run_mdm_pipeline.sh
set_up_venv core test
exec "$PYTHON" -m pytest "$@"
