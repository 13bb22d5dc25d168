"""The Classifier contract, crops, adapters and networks."""
