# Sourced by the other scripts: an environment in .env, made once and reused while nothing changed.
# Needs git, and python3 >= 3.11 with venv (PYTHON names another interpreter).
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "error: $python is not Python 3.11 or newer with venv; install python3-venv, or set PYTHON=/path/to/python3" >&2
  exit 2
fi

# Not the Python of .env itself, where that is first on the PATH: it would be deleted below before it is asked for.
python=$("$python" -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)')

# What is installed depends on these files alone: the packages themselves are installed editable.
wanted=$(cat constraints.txt pyproject.toml edge_runtime/pyproject.toml scripts/environment.sh | sha256sum | cut -d' ' -f1)
if [ "$(cat .env/complete 2>/dev/null)" != "$wanted-$PWD" ]; then
  echo "Setting up .env (once, some minutes: about 2 GB with PyTorch for the CPU, 6 GB with CUDA)" >&2
  rm -rf .env
  "$python" -m venv .env
  .env/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel
  # No build isolation: the build backend is pinned by the constraints like everything else. No compilation: of
  # 2 GB of packages most is never imported, and what is gets compiled then.
  .env/bin/python -m pip install --disable-pip-version-check --progress-bar off --quiet --no-compile \
    -c constraints.txt --no-build-isolation -e "./edge_runtime[cpu]" -e ".[dev]"
  # An oracle of the tests: transformers' video processors need its Python, not its compiled part (tests/support).
  .env/bin/python -m pip install --disable-pip-version-check --progress-bar off --quiet --no-compile --no-deps \
    -c constraints.txt --target .env/torchvision torchvision
  # A real tritonserver for the tests (tests/support/triton_server.py). Without what its Python layer depends on, which
  # is an older numpy among others.
  .env/bin/python -m pip install --disable-pip-version-check --progress-bar off --quiet --no-compile --no-deps \
    -c constraints.txt 'nvidia-pytriton; sys_platform == "linux"'
  echo "$wanted-$PWD" > .env/complete
fi
