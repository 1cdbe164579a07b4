"""Stand-in for detectron2's compiled operators in a pure-Python build.

`detectron2.layers` imports `detectron2._C` at its top, so the module must exist; whoever calls an
operator of it gets an ImportError that says what is missing and how to get it.
"""


def get_compiler_version() -> str:
    """Answers detectron2's environment report, which asks every build for its compiler."""
    return "none (pure-Python build, no compiled operators)"


def get_cuda_version() -> str:
    """Answers detectron2's environment report."""
    return "none"


def has_cuda() -> bool:
    """Answers detectron2's environment report."""
    return False


def __getattr__(name: str):
    if name.startswith("__"):  # what Python itself asks of any module: absent, not an error
        raise AttributeError(name)
    raise ImportError(
        f"detectron2._C.{name} is a compiled operator and this detectron2 is a pure-Python build "
        "without any. To get them, build upstream detectron2 with a C++ compiler: "
        "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2'"
    )
