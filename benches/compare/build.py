"""Builds both sides: smidgen from this checkout, llama-bench from the sources that PyPI has."""

import json
import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# The sdist of llama-cpp-python carries the whole of llama.cpp. Pinned: figures are compared with it.
LLAMA_CPP_PYTHON = "0.3.36"
TOOLS = ["cmake>=3.28", "ninja", "scikit-build-core", "gguf==0.19.0", "numpy"]


def call(command, **options):
    """Runs a command with its output on stderr, and ends the program if it fails."""
    print("+", " ".join(map(str, command)), file=sys.stderr)
    done = subprocess.run(list(map(str, command)), stdout=options.pop("stdout", sys.stderr), text=True, **options)
    if done.returncode:
        sys.exit(f"{command[0]} failed with exit code {done.returncode}")
    return done


def build_smidgen(cache):
    """Builds the program and the bench; gives and remembers where cargo put them."""
    command = ["cargo", "build", "--release", "--bin", "smidgen", "--bench", "inference"]
    messages = call([*command, "--message-format=json-render-diagnostics"], cwd=REPOSITORY, stdout=subprocess.PIPE)
    built = {}
    for message in map(json.loads, messages.stdout.splitlines()):
        if message.get("executable"):
            built[message["target"]["name"]] = message["executable"]
    (cache / "smidgen.json").write_text(json.dumps(built))
    return built


def environment(cache, name="venv", packages=TOOLS):
    """The Python of a virtual environment with these packages, made if it is not there."""
    python = cache / name / "bin" / "python"
    if not python.exists():
        venv.create(cache / name, with_pip=True)
        call([python, "-m", "pip", "install", "-q", "--only-binary", ":all:", *packages])
    return python


def build_llama_bench(cache):
    """llama-bench, built with `GGML_NATIVE=ON` if it is not there: a few minutes."""
    program = cache / "llama.cpp-build" / "bin" / "llama-bench"
    if program.exists():
        return program
    python = environment(cache)
    bin_folder, archive = python.parent, cache / f"llama_cpp_python-{LLAMA_CPP_PYTHON}.tar.gz"
    if not archive.exists():
        package = f"llama-cpp-python=={LLAMA_CPP_PYTHON}"
        options = ["--no-deps", "--no-build-isolation", "--no-binary", "llama-cpp-python", "-d", cache]
        call([python, "-m", "pip", "download", "-q", *options, package], env=with_path(bin_folder))
    source = cache / f"llama_cpp_python-{LLAMA_CPP_PYTHON}" / "vendor" / "llama.cpp"
    if not source.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(cache, filter="data")
    switches = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_MAKE_PROGRAM": bin_folder / "ninja",
        "GGML_NATIVE": "ON",
        "BUILD_SHARED_LIBS": "OFF",
        "LLAMA_BUILD_TOOLS": "ON",
        "LLAMA_BUILD_TESTS": "OFF",
        "LLAMA_BUILD_EXAMPLES": "OFF",
        "LLAMA_BUILD_SERVER": "OFF",
        "LLAMA_OPENSSL": "OFF",
    }
    folder = cache / "llama.cpp-build"
    defines = [f"-D{name}={value}" for name, value in switches.items()]
    call([bin_folder / "cmake", "-G", "Ninja", "-S", source, "-B", folder, *defines])
    call([bin_folder / "cmake", "--build", folder, "--target", "llama-bench", "-j", os.cpu_count() or 2])
    return program


def with_path(folder):
    """This process's environment, with `folder` first among those that are searched for programs."""
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
