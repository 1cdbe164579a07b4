"""Building blocks of the feature losses."""
