"""Many cases: found in folders and manifests, run in processes of their own, reported together."""
