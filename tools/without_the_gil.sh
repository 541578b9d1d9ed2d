#!/usr/bin/env bash
# Runs the tests of what threads share without the GIL, if there is a CPython for that.
set -euo pipefail
cd "$(dirname "$0")/.."

for minor in 19 18 17 16 15 14 13; do
    for python in "python3.${minor}t" "$(pyenv prefix "3.${minor}t" 2>/dev/null || true)/bin/python"; do
        if "$python" -c "import ensurepip, sys, sysconfig, venv
sys.exit(sys.version_info[:2] != (3, $minor) or not sysconfig.get_config_var('Py_GIL_DISABLED'))" 2>/dev/null; then
            echo "=== $("$python" --version), free-threaded"
            PYTHON_GIL=0 make test PYTHON="$python" VENV=".venv/3.${minor}t" \
                ARGS="tests/test_run_per_core.py tests/test_shared*.py tests/test_delay_blocking.py"
            exit
        fi
    done
done
echo "no free-threaded CPython found: nothing has been tested without the GIL"
