"""Score documents by a trained text classifier: train, calibrate, evaluate, score."""
