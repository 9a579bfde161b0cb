"""Pages and pictures: plain numbers in, PNG and HTML out."""
