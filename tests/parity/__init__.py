"""Our nets and our steps beside those of torchfcn 1.9.7, the best-known port of the Caffe reference."""
