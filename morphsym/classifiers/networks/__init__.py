"""Network architectures, written from papers and published layer layouts."""
