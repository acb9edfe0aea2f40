"""Measurements that back claims of speed; scripts, not tests."""
