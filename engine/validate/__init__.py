"""What a pair does to physics: one file per property, and the certificate of its seam."""
