"""Trained nets for other programs: ONNX, and a folder with model card and signature."""
