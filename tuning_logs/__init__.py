"""Tuning records that were measured on real devices, in a folder for each target."""
