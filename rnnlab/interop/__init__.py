"""Cells and their weights in other libraries: flax, PyTorch, Keras, ONNX. None of the last three is ever imported."""
