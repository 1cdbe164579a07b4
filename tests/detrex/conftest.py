"""Without real detrex the tests that need it stay away; test_importable.py says what that means."""

import importlib

try:
    importlib.import_module("detrex")
except ImportError:
    collect_ignore = [
        "test_checkpoints.py",
        "test_configs.py",
        "test_distillation.py",
        "test_export.py",
        "test_parity.py",
    ]
