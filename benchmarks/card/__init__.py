"""The sections of `benchmarks/gpu.py`.

A section is a function of a `Run`, which it fills with rows. Its module is imported when it runs,
so that a missing package ends that section alone.
"""
