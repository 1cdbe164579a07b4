"""Whose code the project is measured against: never bundled, only imported where it is there."""
