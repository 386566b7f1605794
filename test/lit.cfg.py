# Lit configuration: where the tools are, and what this machine lacks.
import os
import subprocess
import lit.formats
import lit.llvm
import lit.util

config.name = "skim"
config.test_format = lit.formats.ShTest(True)
config.suffixes = [".mlir", ".test"]
config.excludes = ["unit", "benchmarks", "tools", "Inputs"]
config.test_source_root = os.path.join(config.skim_source, "test")
config.test_exec_root = os.path.join(config.skim_build, "test")

build_bin = os.path.join(config.skim_build, "bin")
config.environment["PATH"] = os.pathsep.join(
    [build_bin, os.path.join(config.skim_build, "test", "bin"), config.llvm_tools, os.environ["PATH"]])
config.substitutions.append(("%skim_plugin", os.path.join(config.skim_build, "lib", "SkimPlugin.so")))
config.substitutions.append(("%skim_source", config.skim_source))
config.substitutions.append(("%mlir_lib_dir", os.path.join(config.llvm_tools, "..", "lib")))
config.substitutions.append(("%fake_cuda", os.path.join(config.skim_build, "test", "lib", "libskim-fake-cuda.so")))
config.substitutions.append(("%fake_cublas", os.path.join(config.skim_build, "test", "lib", "libskim-fake-cublas.so")))
config.substitutions.append(("%skim_build", config.skim_build))

venv_python = os.path.join(config.skim_source, ".venv", "bin", "python3")
python = venv_python if os.path.exists(venv_python) else "python3"
config.substitutions.append(("%python", python))
for package in ["numpy", "tokenizers"]:
    if subprocess.run([python, "-c", "import " + package], capture_output=True).returncode == 0:
        config.available_features.add(package)
if subprocess.run([python, "-c", "import gguf, onnx"], capture_output=True).returncode == 0:
    config.available_features.add("onnx")  # models that tests write themselves
inputs = os.path.join(config.test_source_root, "Inputs")
config.substitutions.append(("%fails", f"{python} {inputs}/fails.py"))
config.substitutions.append(("%tiny_llama", f"{python} {config.test_source_root}/Integration/Inputs/make_tiny_llama.py"))
if lit_config.params.get("full"):
    config.available_features.add("full")

# Trained models and exports that are not part of the project.
shared = os.environ.get("SKIM_SHARED", os.path.join(config.skim_source, "..", "shared"))
if os.path.isdir(os.path.join(shared, "data")):
    config.available_features.add("shared")
    config.substitutions.append(("%shared", os.path.abspath(shared)))
else:
    config.substitutions.append(("%shared", "absent"))

# SmolLM2 exports with their weights made (see scripts/make-models).
models = os.environ.get("SKIM_MODELS", os.path.join(config.skim_source, ".cache", "models"))
config.substitutions.append(("%models", os.path.abspath(models)))
if os.path.isdir(models):
    config.available_features.add("models")

# Assembler and disassembler of NVIDIA's machine code.
if lit.util.which("ptxas") and lit.util.which("nvdisasm"):
    config.available_features.add("sass")

try:
    flags = open("/proc/cpuinfo").read()
except OSError:
    flags = ""
for feature, flag in [("avx2", " avx2 "), ("avx512", " avx512_vbmi "), ("avx512-bf16", " avx512_bf16 ")]:
    if flag in flags:
        config.available_features.add(feature)
for name in ["SKIM_SHARED", "SKIM_MODELS", "HOME"]:
    if name in os.environ:
        config.environment[name] = os.environ[name]
