"""Tests of gradcheck_cli.batch."""
